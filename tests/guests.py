"""Plugins written in Python for one test, run by the real middleware over the null engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.engines.base import FuncType, GuestFunction, Import
from asgi_wasm.engines.null import PREFIX, GuestTrap, NullEngine, NullHost, declare
from asgi_wasm.host.abi import AbiVersion
from asgi_wasm.host.codecs.wire import Pairs, decode_pairs, encode_pairs
from asgi_wasm.host.signatures import callbacks, hostcalls
from tests.waiting import tasks

WASM_HEAD = b"\0asm\1\0\0\0"
CONTINUE, PAUSE = 0, 1
REQUEST, RESPONSE = 0, 1
# Map types and buffer types.
REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS = range(4)
REQUEST_BODY, RESPONSE_BODY = 0, 1
INFO = 2


class Api:
    """The hostcalls, as a test wants them: bytes in, bytes out. A refused one raises `GuestTrap`."""

    def __init__(self, host: NullHost) -> None:
        self.host = host

    def call(self, name: str, *arguments: int) -> int:
        """Any hostcall; its status."""
        return self.host.call("env", f"proxy_{name}", *arguments)

    def ok(self, name: str, *arguments: int) -> None:
        status = self.call(name, *arguments)
        if status:
            raise GuestTrap(f"proxy_{name} answered {status}")

    def asked(self, name: str, *arguments: int) -> bytes | None:
        """The bytes that a hostcall gives back; None for NOT_FOUND."""
        out = self.host.allocate(8)
        status = self.call(name, *arguments, out, out + 4)
        if status == 1:
            return None
        if status:
            raise GuestTrap(f"proxy_{name} answered {status}")
        return self.host.memory.read(self.host.read_u32(out), self.host.read_u32(out + 4))

    def log(self, text: bytes, level: int = INFO) -> None:
        self.ok("log", level, *self.host.store(text))

    def get(self, map_type: int, name: bytes) -> bytes | None:
        return self.asked("get_header_map_value", map_type, *self.host.store(name))

    def pairs(self, map_type: int) -> Pairs:
        return decode_pairs(self.asked("get_header_map_pairs", map_type) or b"")

    def set_pairs(self, map_type: int, pairs: Pairs) -> None:
        self.ok("set_header_map_pairs", map_type, *self.host.store(encode_pairs(pairs)))

    def add(self, map_type: int, name: bytes, value: bytes) -> None:
        self.ok("add_header_map_value", map_type, *self.host.store(name), *self.host.store(value))

    def replace(self, map_type: int, name: bytes, value: bytes) -> None:
        self.ok("replace_header_map_value", map_type, *self.host.store(name), *self.host.store(value))

    def remove(self, map_type: int, name: bytes) -> None:
        self.ok("remove_header_map_value", map_type, *self.host.store(name))

    def body(self, kind: int) -> bytes:
        return self.asked("get_buffer_bytes", kind, 0, 0xFFFFFFFF) or b""

    def set_body(self, kind: int, data: bytes) -> None:
        self.ok("set_buffer_bytes", kind, 0, 0xFFFFFFFF, *self.host.store(data))

    def reply(self, status: int, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.ok("send_local_response", status, *self.host.store(b"told"), *self.host.store(body),
                *self.host.store(encode_pairs(headers)), 0xFFFFFFFF)  # fmt: skip

    def resume(self, kind: int) -> None:
        self.ok("continue_stream", kind)

    def close(self, kind: int) -> None:
        self.ok("close_stream", kind)

    def act_for(self, context: int) -> None:
        self.ok("set_effective_context", context)

    def property(self, path: bytes) -> bytes | None:
        return self.asked("get_property", *self.host.store(path))

    def set_property(self, path: bytes, value: bytes) -> None:
        self.ok("set_property", *self.host.store(path), *self.host.store(value))

    def tick(self, milliseconds: int) -> None:
        self.ok("set_tick_period_milliseconds", milliseconds)


Callback = Callable[..., Any]


class Guest:
    """One plugin: its callbacks by their names without ``proxy_``, each with an `Api` before the arguments.

    Keeps account of its stream contexts: whatever a test does, each is deleted once.
    """

    def __init__(self, **own: Callback) -> None:
        self.callbacks = own
        self.created: list[int] = []
        self.deleted: list[int] = []
        self.logged: list[int] = []

    def __call__(self, host: NullHost) -> Mapping[str, GuestFunction]:
        api = Api(host)

        def proxy_on_context_create(context: int, parent: int) -> None:
            if parent:
                self.created.append(context)

        def proxy_on_log(context: int) -> None:
            self.logged.append(context)
            if "on_log" in self.callbacks:
                self.callbacks["on_log"](api, context)

        def proxy_on_delete(context: int) -> None:
            if context in self.created:
                self.deleted.append(context)

        exports: dict[str, GuestFunction] = {
            "proxy_abi_version_0_2_1": _marker,
            "malloc": host.allocate,
            "proxy_on_context_create": proxy_on_context_create,
            "proxy_on_log": proxy_on_log,
            "proxy_on_delete": proxy_on_delete,
        }
        for name, callback in self.callbacks.items():
            exports.setdefault(f"proxy_{name}", _bound(callback, api, _TYPES[f"proxy_{name}"].type))
        return exports


_TYPES = callbacks(AbiVersion.V0_2_1)
_IMPORTS = [Import("env", row.name, "func", row.type) for row in hostcalls(AbiVersion.V0_2_1)]


def _marker() -> None:
    """Declares the ABI version; never called."""


def _bound(callback: Callback, api: Api, type_: FuncType) -> GuestFunction:
    @declare(type_.params, type_.results)
    def bound(*arguments: int) -> int:
        return int(callback(api, *arguments) or 0)

    return bound


class _Engine(NullEngine):
    """Takes files that look like WebAssembly, as the settings want them."""

    def compile(self, code: bytes) -> Any:
        return super().compile(code.removeprefix(WASM_HEAD))


Serve = Callable[..., Any]
Wrap = Callable[..., WasmMiddleware]


@pytest.fixture
def wrap_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wrap:
    """``wrap_guests(app, guest, …, routes=…)``: the middleware, not started, in no event loop."""

    def wrap(app: ASGIApp, *guests: Guest, **settings: Any) -> WasmMiddleware:
        entries = settings.pop("entries", [{} for _ in guests])
        options = {name: settings.pop(name) for name in ("foreign_functions",) if name in settings}
        engine = _Engine({f"g{index}": guest for index, guest in enumerate(guests)}, _IMPORTS)
        monkeypatch.setattr("asgi_wasm.worker.loading.create_engine", lambda _name, **_: engine)
        plugins = []
        for index, entry in enumerate(entries):
            (tmp_path / f"g{index}.wasm").write_bytes(WASM_HEAD + PREFIX + b"g%d" % index)
            plugins.append({"name": f"g{index}", "file": tmp_path / f"g{index}.wasm", **entry})
        settings = {"plugins": plugins, "cache_dir": str(tmp_path / "cache"), **settings}
        return WasmMiddleware(app, settings=settings, **options)

    return wrap


@pytest.fixture
def serve_guests(wrap_guests: Wrap) -> Serve:
    """``async with serve_guests(app, guest, …, routes=…) as middleware``; no context or task may be left over."""

    @asynccontextmanager
    async def serve(
        app: ASGIApp, *guests: Guest, lazily: bool = False, traps: bool = False, **settings: Any
    ) -> AsyncIterator[Any]:
        before = tasks()
        middleware = wrap_guests(app, *guests, **settings)
        if not lazily:
            await middleware.start()
        yield middleware
        left_over = tasks() - before
        await middleware.stop()
        assert left_over == set()
        # A VM that trapped hears nothing of its contexts' ends.
        for guest in () if traps else guests:
            assert sorted(guest.deleted) == sorted(guest.created)
            assert sorted(guest.logged) == sorted(guest.created)

    return serve
