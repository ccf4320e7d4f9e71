"""Guests written in Python for tests of the host, run over the null engine, and their whole lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from asgi_wasm.engines.base import GuestFunction, Import, Module
from asgi_wasm.engines.null import NullEngine, NullHost, NullMemory, declare
from asgi_wasm.host.abi import AbiVersion, ProxyStatus
from asgi_wasm.host.codecs.wire import PropertyValue
from asgi_wasm.host.plugin import Code, Plugin, VmPool
from asgi_wasm.host.signatures import callbacks, hostcalls
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.vm import delivery
from asgi_wasm.host.vm import vm as vm_module
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.vm import WasmVM
from asgi_wasm.host.wasi import preview1 as wasi
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing import Guest, Hostcalls
from asgi_wasm.testing.guests.calling import ROWS, marshalled
from asgi_wasm.testing.guests.guests import Callback
from tests.host.fed import Exchange
from tests.host.world import World

V010, V020, V021 = AbiVersion
OK, NOT_FOUND, BAD_ARGUMENT = ProxyStatus.OK, ProxyStatus.NOT_FOUND, ProxyStatus.BAD_ARGUMENT
INVALID_MEMORY_ACCESS, INTERNAL_FAILURE = ProxyStatus.INVALID_MEMORY_ACCESS, ProxyStatus.INTERNAL_FAILURE

# What a guest's memory is filled with, so that a stray write shows.
MARKER = b"\xa5"
# An address that is outside of every test's memory.
OUTSIDE = 0xFFFF_FF00

# --- guests


def env_imports(version: AbiVersion) -> list[Import]:
    """Every hostcall of the version."""
    return [Import("env", row.name, "func", row.type) for row in hostcalls(version)]


WASI_IMPORTS = [Import("wasi_snapshot_preview1", row.name, "func", row.type) for row in wasi.SIGNATURES.values()]


class Calls(Hostcalls):
    """Watches where the host writes. In a memory that is full of `MARKER`, so that what it does not write shows."""

    @property
    def memory(self) -> NullMemory:
        return self.host.memory

    def wasi(self, name: str, *numbers: int) -> int:
        """A WASI function with these very numbers."""
        return self.host.call("wasi_snapshot_preview1", name, *numbers)

    def __call__(self, name: str, *given: bytes | int) -> tuple[Any, ...]:
        """`call`, which fails when the host wrote anywhere else than it may."""
        numbers, slots = marshalled(self.host, ROWS[name], given)
        for slot in slots:
            self.memory.write(slot.address, MARKER * slot.size)
        before = self.memory.data[:]
        status = ProxyStatus(self.raw(name, *numbers))
        expected = before[:]
        for slot in slots:
            written = self.memory.read(slot.address, slot.size)
            # A refused HTTP call says that there is no token.
            if status is OK or (name == "proxy_http_call" and written == bytes(4)):
                _allow(expected, slot.address, written)
        results = [slot.read(self.host) for slot in slots] if status is OK else []
        for slot, result in zip(slots, results, strict=False):
            if isinstance(result, bytes):
                address = self.host.read_u32(slot.address)
                assert (address == 0) == (result == b"")
                _allow(expected, address, result)
        assert self.memory.data[: len(before)] == expected, f"{name} wrote where it should not"
        return (status, *results)


def _allow(expected: bytearray, address: int, written: bytes) -> None:
    # It may lie in memory that has grown meanwhile.
    end = min(address + len(written), len(expected))
    expected[address:end] = written[: max(end - address, 0)]


class _HostGuest(Guest):
    """Names are of the wire, and may be unknown to the ABI. ``errors`` are traps, too."""

    def __init__(self, version: AbiVersion, given: Mapping[str, Callback], errors: list[Exception] | None) -> None:
        known = callbacks(version).keys()
        super().__init__(version, **{name.removeprefix("proxy_"): given[name] for name in given if name in known})
        self._others = {name: given[name] for name in given.keys() - known}
        self.errors = [] if errors is None else errors

    def hostcalls(self, host: NullHost) -> Calls:
        return Calls(host)

    def __call__(self, host: NullHost) -> Mapping[str, GuestFunction]:
        host.memory.data[:] = MARKER * host.memory.size
        calls = Calls(host)
        others = {name: declare([])(partial(callback, calls)) for name, callback in self._others.items()}
        return {**super().__call__(host), **others}


def module(
    given: Mapping[str, Callback],
    *,
    version: AbiVersion = V021,
    imports: Sequence[Import] | None = None,
    errors: list[Exception] | None = None,
) -> Module:
    """A module that exports these callbacks; each gets the `Calls` of its instance, then its own arguments.

    What a callback raises ends in ``errors`` as well as in a trap. Without an allocator of its own it has one.
    """
    if imports is None:
        imports = [*env_imports(version), *WASI_IMPORTS]
    return NullEngine({"guest": _HostGuest(version, given, errors)}, imports).compile(b"null:guest")


def spec(name: str = "guest", **changes: Any) -> PluginSpec:
    """A plugin's settings."""
    return replace(PluginSpec(name=name, file=Path(f"{name}.wasm")), **changes)


def plugin(
    world: World,
    given: Mapping[str, Callback],
    *,
    pool: VmPool | None = None,
    version: AbiVersion = V021,
    imports: Sequence[Import] | None = None,
    errors: list[Exception] | None = None,
    digest: str = "",
    **changes: Any,
) -> Plugin:
    """A plugin that is loaded and not started."""
    made = spec(**changes)
    code = Code(module(given, version=version, imports=imports, errors=errors), version, digest or made.name)
    return Plugin(made, code, pool or world.pool())


def vm_of(started: Plugin, conf: bytes = b"") -> WasmVM:
    """The VM of a plugin, which is started if need be."""
    return vm_module.vm_of(started.root(conf))


# --- whole lives

STREAM_PHASES = (
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_log",
)
ROOT_PHASES = (
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_http_call_response",
)
ATTRIBUTES: dict[tuple[bytes, ...], PropertyValue] = {(b"request", b"path"): b"/path?query"}


def in_phase(
    phase: str,
    act: Callable[[Calls], Any],
    *,
    world: World | None = None,
    version: AbiVersion = V021,
    returns: int | None = None,
    others: Mapping[str, Callback] | None = None,
    attributes: Mapping[tuple[bytes, ...], PropertyValue] | None = None,
    **changes: Any,
) -> Any:
    """What ``act`` gives when it is done in this callback, the first time that it comes, in a plugin's whole life.

    ``returns`` is what the callback answers: else true to start, and Continue.
    """
    results: list[Any] = []
    errors: list[Exception] = []

    def callback(calls: Calls, *_: int) -> int:
        if not results:
            results.append(None)
            results[0] = act(calls)
        if returns is not None:
            return returns
        return int(phase in ("proxy_on_vm_start", "proxy_on_configure", "proxy_on_done"))

    world = world or World()
    changes = {"conf": b"conf", "vm_conf": b"vm conf", "vm_id": "id", "root_id": "root", **changes}
    made = plugin(world, {**(others or {}), phase: callback}, version=version, errors=errors, **changes)
    live(world, made, attributes=ATTRIBUTES if attributes is None else attributes)
    if errors:
        raise errors[0]
    assert results, f"{phase} did not come"
    return results[0]


def live(world: World, made: Plugin, attributes: Mapping[tuple[bytes, ...], PropertyValue] | None = None) -> Exchange:
    """A plugin's whole life: start, tick, answer, one exchange with everything, end."""
    root = made.root(b"conf")
    root.notify("proxy_on_tick")
    answer = HeaderMap([(b":status", b"200"), (b"x-answer", b"1")])
    delivery.deliver_http_response(root, 4, answer, b"answer")
    exchange = Exchange(world, made, attributes=attributes)
    exchange.request(b"request ", b"body", trailers=[(b"x-end", b"1")])
    exchange.respond(b"response ", b"body", trailers=[(b"x-end", b"2")])
    exchange.chain.finish()
    made.stop()
    return exchange


def start(world: World, given: Mapping[str, Callback], **more: Any) -> RootContext:
    """The root context of a plugin that is started with these callbacks."""
    return plugin(world, given, **more).root(b"conf")
