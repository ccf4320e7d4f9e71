"""The accelerator: it does what the portable lane does, gives all back, and is what the settings make of it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import runpy
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.accelerator import MODULE, AcceleratorError, load
from asgi_wasm.asgi.native import NativeRequest
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from tests.driving import http_scope
from tests.extras import NO_ACCELERATOR
from tests.host.resident.test_same import BODIES, PROBE
from tests.plugins.conftest import PLUGINS
from tests.wasm_exports import without_exports

HEADERS = PLUGINS / "headers" / "c.wasm"
needs_accelerator = pytest.mark.skipif(NO_ACCELERATOR != "", reason=NO_ACCELERATOR)
ROOT = Path(__file__).parents[2]


class App:
    """Answers with a head of any kind, after it has read the body if it ``reads``, and keeps what it saw."""

    def __init__(self, head: Any = ((b"x-a", b"1"),), *, reads: bool = False) -> None:
        self.head = head
        self.reads = reads
        self.seen: list[Any] = []
        self.requests: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(send)
        self.seen.append({**scope, "asgi_wasm": dict(scope["asgi_wasm"])})
        scope["route"] = "added"
        while self.reads and (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self.head})
        await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def running(app: ASGIApp, accelerator: str, **plugin: Any) -> AsyncIterator[WasmMiddleware]:
    middleware = WasmMiddleware(
        app, settings={"plugins": [{"name": "p", "file": HEADERS, **plugin}], "accelerator": accelerator}
    )
    async with middleware:
        yield middleware


async def exchange(middleware: WasmMiddleware, scope: Scope, pieces: Iterable[bytes] = ()) -> list[Any]:
    """Of one request, all that the client gets, or what the app's server gets raised."""
    got: list[Any] = []
    left = iter(pieces)

    async def receive() -> Any:
        piece = next(left, b"")
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    async def send(message: Any) -> None:
        got.append(
            {**message, "headers": [tuple(pair) for pair in message["headers"]]} if "headers" in message else message
        )

    try:
        await middleware(scope, receive, send)
    except Exception as error:
        got.append((type(error).__name__, str(error)))
    got.append(scope.get("route"))
    return got


async def both(scope: Scope, head: Any = ((b"x-a", b"1"),), **plugin: Any) -> list[tuple[list[Any], list[Any]]]:
    """What comes of it with and without the accelerator: to the app, to the client.

    Of two requests, since what the first asked for is given to the second before its callbacks.
    """

    async def run(accelerator: str) -> tuple[list[Any], list[Any]]:
        app = App(head)
        async with running(app, accelerator, **plugin) as middleware:
            first = await exchange(middleware, dict(scope))
            return app.seen, [*first, *await exchange(middleware, dict(scope))]

    return [await run(accelerator) for accelerator in ("off", "required")]


def filled(count: int, size: int = 1) -> list[tuple[bytes, bytes]]:
    return [(b"x-%d" % index, b"v" * size) for index in range(count)]


HEADS: dict[str, Any] = {
    "none": [],
    "one": filled(1),
    # The plugin adds one, and pseudo-headers count.
    "251": filled(251),
    "252": filled(252),
    "255": filled(255),
    "256": filled(256),
    "257": filled(257),
    "64 kB": filled(64, 1024),
    "1 MB": filled(16, 65536),
    "lists": [[b"x-a", b"1"], [b"x-b", b"2"]],
    "a tuple": ((b"x-a", b"1"), (b"x-b", b"2")),
    "bytearrays": [(bytearray(b"x-a"), bytearray(b"1"))],
    "memoryviews": [(b"x-a", memoryview(b"1"))],
    "padded": [(b"x-a", b" 1\t"), (b"x-b", b" "), (b"x-c", b"")],
    "twice": [(b"x-a", b"1"), (b"x-a", b"2"), (b"accept", b"a"), (b"accept", b"b")],
    "single twice": [(b"user-agent", b"a"), (b"user-agent", b"b"), (b"content-type", b"c"), (b"content-type", b"d")],
    "upper case": [(b"X-A", b"1")],
    "nothing for a name": [(b"", b"1")],
    "of the connection": [(b"connection", b"close"), (b"te", b"trailers"), (b"keep-alive", b"1")],
}


@needs_accelerator
@pytest.mark.parametrize("name", HEADS)
async def test_a_request_of_any_head_is_as_without(name: str) -> None:
    head = HEADS[name]
    if isinstance(head, list):
        head = [(b"host", b"h"), *head, (b"connection", b"close")]
    portable, accelerated = await both({**http_scope(), "headers": head})
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize("name", HEADS)
async def test_a_response_of_any_head_is_as_without(name: str) -> None:
    portable, accelerated = await both(http_scope(headers=[(b"host", b"h")]), HEADS[name])
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize(
    "head",
    [
        [(b"content-length", b"5")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"transfer-encoding", b"chunked")],
        [(b"content-length", b"0")],
        [(b"x-a", "text")],
        [(b"x-a",)],
        [None],
        None,
        7,
    ],
)
async def test_a_response_of_an_odd_head_is_as_without(head: Any) -> None:
    portable, accelerated = await both(http_scope(headers=[(b"host", b"h")]), head)
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize(
    "change",
    [
        {"method": "HEAD"},
        {"method": "BREW"},
        {"method": "POST", "headers": [(b"host", b"h"), (b"content-length", b"5")]},
        {"headers": [(b"host", b"h"), (b"content-length", b" 0")]},
        {"headers": [(b"host", b"h"), (b"transfer-encoding", b"chunked")]},
        {"headers": [(b"x-no", b"host")]},
        {"headers": [(b"host", b"h"), (b"host", b"i")]},
        {"http_version": "2"},
        {"http_version": "2", "headers": [(b"host", b"h"), (b"cookie", b"a"), (b"cookie", b"b")]},
        {"http_version": None},
        {"scheme": "https"},
        {"scheme": "ftp"},
        {"scheme": None},
        {"raw_path": None, "path": "/ä"},
        {"raw_path": b"/a?in=path"},
        {"query_string": b""},
        {"query_string": b"a=1&b"},
        {"query_string": None},
        {"extensions": {"http.response.pathsend": {}}},
        {"extensions": None},
        {"asgi_wasm": "other"},
    ],
)
async def test_a_scope_of_any_kind_is_as_without(change: dict[str, Any]) -> None:
    portable, accelerated = await both({**http_scope(headers=[(b"host", b"h")]), **change})
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize(
    ("version", "cookies", "is_the_accelerators"),
    [("1.1", 2, True), ("2", 1, True), ("3", 1, True), ("2", 2, False)],
)
async def test_an_ordinary_request_is_the_accelerators(version: str, cookies: int, is_the_accelerators: bool) -> None:
    app = App([(b"x-a", b"1")])
    async with running(app, "required") as middleware:
        headers = [(b"host", b"h"), *[(b"cookie", b"c")] * cookies]
        got = await exchange(middleware, http_scope(headers=headers, http_version=version))
        assert (b"x-plugin-out", b"here") in got[0]["headers"]
        assert got[-1] == "added"
        assert isinstance(app.requests[0].__self__, NativeRequest) == is_the_accelerators


def take_out_before(scope: Scope) -> None:
    del scope["client"], scope["http_version"]
    scope["route"] = "added"


def take_out_and_grow(scope: Scope) -> None:
    for key in [key for key in scope if key not in ("asgi_wasm", "type")]:
        del scope[key]
    scope["route"] = "added"
    scope.update((f"key {index}", index) for index in range(40))


def take_out_all(scope: Scope) -> None:
    scope.clear()
    scope["route"] = "added"


def take_out_all_and_add_nothing(scope: Scope) -> None:
    scope.clear()


def put_own_behind(scope: Scope) -> None:
    scope["before"] = scope.pop("asgi_wasm")
    scope["asgi_wasm"] = scope["before"]
    scope["route"] = "added"


def put_other_in_place(scope: Scope) -> None:
    del scope["asgi_wasm"]
    scope["route"] = "added"


@needs_accelerator
@pytest.mark.parametrize(
    "change",
    [
        take_out_before,
        take_out_and_grow,
        take_out_all,
        take_out_all_and_add_nothing,
        put_own_behind,
        put_other_in_place,
    ],
)
async def test_what_an_app_adds_to_its_scope_is_shared_whatever_it_takes_out(change: Callable[[Scope], None]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        change(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    found = []
    for accelerator in ("off", "required"):
        async with running(app, accelerator) as middleware:
            scope = dict(http_scope())
            await exchange(middleware, scope)
            found.append({key: value for key, value in scope.items() if key != "before"})
    assert found[0] == found[1]
    assert change is take_out_all_and_add_nothing or found[0]["route"] == "added"


@needs_accelerator
@pytest.mark.parametrize("phase", ["stream_create", "request_headers", "response_headers", "log", "done", "delete"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
async def test_a_vm_that_traps_anywhere_is_as_without(phase: str, policy: str, tmp_path: Path) -> None:
    probe = tmp_path / "probe.wasm"
    probe.write_bytes(without_exports(PROBE.read_bytes(), BODIES))
    scope = http_scope(headers=[(b"host", b"h")])
    conf = {"conf": f"{phase}: trap", "failure_policy": policy}
    portable, accelerated = await both(scope, [(b"x-a", b"1")], file=probe, **conf)
    assert accelerated == portable


# --- which there is


async def test_without_the_module_a_start_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    caplog.set_level(logging.INFO, "asgi_wasm.host")

    app = App()
    async with running(app, "auto") as middleware:
        await exchange(middleware, http_scope(headers=[(b"host", b"h")]))
    assert not isinstance(app.requests[0].__self__, NativeRequest)
    told = [text for text in caplog.messages if "portable lane" in text]
    assert told == [
        "the portable lane runs, without the accelerator: it was not built, for want of a C compiler or a wheel for"
        " this platform"
    ]


async def test_without_the_module_that_is_required_there_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)

    with pytest.raises(AcceleratorError, match='accelerator is "required", but it was not built'):
        async with running(App(), "required"):
            pass


def test_it_is_for_this_pythons_kind_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(AcceleratorError, match="not proven without the global"):
        load()
    monkeypatch.setattr(sys.implementation, "name", "other")
    with pytest.raises(AcceleratorError, match="this is other"):
        load()


@needs_accelerator
@pytest.mark.parametrize("told", [1, None])
@pytest.mark.parametrize("name", ["WINDOW_SIZE", "SOURCES"])
async def test_one_of_other_sources_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, told: int | None
) -> None:
    module = importlib.import_module(MODULE)
    if told is None:
        monkeypatch.delattr(module, name)
    else:
        monkeypatch.setattr(module, name, told)
    with pytest.raises(AcceleratorError, match="built from other sources than these: install asgi-wasm again"):
        load()

    async def main(accelerator: str) -> None:
        app = App()
        async with running(app, accelerator) as middleware:
            await exchange(middleware, http_scope())
        assert len(app.seen) == 1

    await main("auto")
    told_of = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told_of == [
        "the portable lane runs, without the accelerator: "
        "it was built from other sources than these: install asgi-wasm again"
    ]
    with pytest.raises(AcceleratorError, match='accelerator is "required", but it was built from other sources'):
        await main("required")


def test_sources_have_a_number_that_each_of_them_changes(tmp_path: Path) -> None:
    def number() -> int | None:
        found: int | None = runpy.run_path(str(folder / "sources.py"))["number"]()
        return found

    package = ROOT / "asgi_wasm"
    folder, layout = tmp_path / "accelerator", tmp_path / "host/resident/layout.h"
    shutil.copytree(package / "accelerator", folder)
    layout.parent.mkdir(parents=True)
    shutil.copy(package / "host/resident/layout.h", layout)
    numbers = {number()}
    for file in (*sorted(folder.glob("*.c")), folder / "accelerator.h", layout):
        file.write_bytes(file.read_bytes() + b"\n")
        numbers.add(number())
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        assert number() in numbers
    assert len(numbers) == 1 + 11 and None not in numbers
    (folder / "send.c").unlink()
    assert number() is None


@needs_accelerator
def test_without_sources_none_can_be_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.accelerator.number", lambda: None)
    monkeypatch.delattr(importlib.import_module(MODULE), "SOURCES")
    load()


@needs_accelerator
async def test_it_enters_kernels_only() -> None:
    async def main() -> None:
        middleware = WasmMiddleware(
            App(),
            settings={"plugins": [{"name": "p", "file": HEADERS}], "accelerator": "required", "resident": "off"},
        )
        async with middleware:
            pass

    with pytest.raises(AcceleratorError, match="leaves out"):
        await main()


# --- misuse of its types, by us alone: an error, no crash


@needs_accelerator
def test_a_running_loop_is_known_from_another() -> None:
    accelerator = load()

    async def mark() -> object:
        found = accelerator.loop_mark()
        await asyncio.sleep(0)
        assert accelerator.loop_mark() is found
        return found

    # Kept, so that none takes the other's place.
    first, second = asyncio.run(mark()), asyncio.run(mark())
    if sys.version_info < (3, 12):
        assert None not in (first, second)
        assert first is not second
        assert accelerator.loop_mark() not in (first, second)
    else:
        assert first is second is None


@needs_accelerator
def test_its_types_are_not_to_be_misused() -> None:
    module: Any = load()
    for made in (module.Stream, module.Upload):
        with pytest.raises(TypeError, match="is made by Course"):
            made()
    with pytest.raises(TypeError):
        module.Course()
    with pytest.raises(TypeError, match="subclass of Stream"):
        module.Course(int, int, None, None, [], None, None, (), 0, {}, {}, {}, int, None, None, None, None, None, None)
    kernel = module.Kernel()
    with pytest.raises(TypeError):
        kernel.attach(1)
    for wrong in ((), (1, 2, "piece", True), (1, 2, b"piece"), ("1", 2, b"piece", True), (-1, 2, b"piece", True)):
        with pytest.raises((TypeError, OverflowError)):
            kernel.show(*wrong)
    with pytest.raises(RuntimeError, match="attached to nothing"):
        kernel.show(1, 2, b"piece", True)
    kernel.close()
    kernel.close()


# --- nothing is left, and nothing is lost


@needs_accelerator
@pytest.mark.parametrize(
    ("plugin", "conf", "head", "pieces"),
    [
        ("headers/c", "", [], []),
        ("body/c", "change", [(b"content-length", b"5")], [b"hel", b"lo"]),
        ("body/c", "change", [(b"transfer-encoding", b"chunked")], [b"hel", b"lo"]),
    ],
)
async def test_requests_leave_nothing_behind(plugin: str, conf: str, head: Any, pieces: list[bytes]) -> None:
    """Neither blocks of memory nor references: 20,000 requests, and the collector is off."""
    app = App([(b"x-a", b"1")], reads=bool(pieces))
    async with running(app, "required", file=PLUGINS / f"{plugin}.wasm", conf=conf) as middleware:
        fields = [(b"host", b"h"), (b"user-agent", b"a"), (b"connection", b"close"), *head]
        scope = http_scope("POST" if pieces else "GET", headers=fields)

        async def many(count: int) -> None:
            for _ in range(count):
                await exchange(middleware, dict(scope), pieces)
                app.seen.clear()
                app.requests.clear()

        await many(2000)
        gc.collect()
        gc.disable()
        try:
            blocks = sys.getallocatedblocks()
            counts = [sys.getrefcount(each) for each in (None, b"host", app, *scope["headers"])]
            await many(20_000)
            assert sys.getallocatedblocks() - blocks < 2000
            for before, each in zip(counts, (None, b"host", app, *scope["headers"]), strict=True):
                # Immortal from CPython 3.12 on; else a few are the interpreter's.
                assert abs(sys.getrefcount(each) - before) < 100
        finally:
            gc.enable()


FAULT = '{"http_status": 200, "body": "hello"}'


@needs_accelerator
@pytest.mark.parametrize(
    ("plugin", "conf", "least", "body"),
    [
        ("headers/c", "", 20, ""),
        ("body/c", "", 20, ""),
        ("body/c", "change", 20, ""),
        ("body/c", "change", 20, "hello"),
        ("fault_injection/c", FAULT, 5, ""),
        # It looks at bodies, as all do that were made with a kit.
        ("fault_injection/rust", FAULT, 5, ""),
    ],
)
def test_any_allocation_may_fail(plugin: str, conf: str, least: int, body: str) -> None:
    """Each in turn, in a process of its own: an exception or an answer comes of it, and the next request is well."""
    pytest.importorskip("_testcapi", reason="this Python was built without _testcapi, which makes allocations fail")
    script = """
        import asyncio, sys, _testcapi
        from asgi_wasm.accelerator import load
        from tests.accelerator.test_accelerator import App, exchange, running
        from tests.driving import http_scope

        load()
        file, conf, body = sys.argv[1:]
        head = [(b"host", b"h"), (b"user-agent", b"a"), (b"connection", b"close"), (b"x", b" p ")]
        # One that says no length is not read ahead, for which a task would be made.
        coded = [(b"transfer-encoding", b"chunked")] if body else []
        scope = http_scope("POST" if body else "GET", headers=head + coded)
        # The watchdog has wasmtime call Python by ctypes now and then, which gives back chance where it has no memory.
        unwatched = {"callback_ms": 0, "slow_callback_ms": 0}

        async def read():
            return {"type": "http.request", "body": body.encode(), "more_body": False}

        async def keep(message):
            pass

        async def main():
            head = [(b"x-a", b" 1 ")] if "headers" in file else [(b"x-a", b"1"), (b"content-length", b"5")]
            app = App(head, reads=body != "")
            failed = nth = 0
            while nth < 400:
                # A VM that failed is away for a while: the next ones are made of another.
                async with running(app, "required", file=file, conf=conf, limits=unwatched) as middleware:
                    while nth < 400:
                        got = await exchange(middleware, dict(scope), [body.encode()] * bool(body))
                        app.seen.clear()
                        app.requests.clear()
                        if got[0]["status"] == 503:
                            break
                        assert got[0]["status"] == 200, got
                        assert "headers" not in file or (b"x-plugin-out", b"here") in got[0]["headers"], got
                        run = middleware(dict(scope), read, keep)
                        _testcapi.set_nomemory(nth, nth + 1)
                        try:
                            run.send(None)
                        except StopIteration:
                            pass
                        except Exception:
                            failed += 1
                        finally:
                            _testcapi.remove_mem_hooks()
                        nth += 1
            print(failed)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script), f"{PLUGINS / plugin}.wasm", conf, body],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > least
