"""A worker for each event loop: made at its first request, found by it alone, ended with it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wasm import EventLoopError, WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.asgi.acting import passing, pausing
from tests.driving import Connection, answering, http_scope, request, run, settled, until
from tests.guests import Api, Guest, Wrap
from tests.plugins.conftest import PLUGINS

with warnings.catch_warnings():
    # Newer releases of Starlette want httpx2 for it, and take httpx as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ROOT / "plugins/headers/rust.wasm"
THREADS = 8


def living(order: list[str], **more: Any) -> Guest:
    """Tells of its start and its end."""
    roots: list[int] = []

    def on_configure(api: Api, root: int, size: int) -> int:
        roots.append(root)
        order.append("starts")
        return 1

    def on_done(api: Api, context: int) -> int:
        if context in roots:
            order.append("ends")
        return 1

    return Guest(on_configure=on_configure, on_done=on_done, **more)


def served(cache: Path, **more: Any) -> WasmMiddleware:
    """A real plugin before an app with a route of each kind."""

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse("app")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    app = Starlette(routes=[Route("/", home), WebSocketRoute("/talk", talk)])
    conf = {"response": {"add": {"x-plugin": "1"}}}
    return WasmMiddleware(
        app, plugins=[{"name": "headers", "file": HEADERS, "conf": conf}], cache_dir=cache, settings={}, **more
    )


def asked(app: WasmMiddleware, entered: bool) -> list[tuple[int, str | None]]:
    """What one test client gets."""
    client = TestClient(app)

    def ask() -> list[tuple[int, str | None]]:
        with client.websocket_connect("/talk") as session:
            session.send_text("hello")
            assert session.receive_text() == "hello"
        responses = [client.get("/") for _ in range(5)]
        return [(response.status_code, response.headers.get("x-plugin")) for response in responses]

    if not entered:
        return ask()
    with client:
        return ask()


@pytest.mark.parametrize("entered", [True, False], ids=["entered", "not entered"])
def test_test_clients_in_threads(tmp_path: Path, entered: bool) -> None:
    app = served(tmp_path)
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: asked(app, entered), range(THREADS)))
    assert answers == [[(200, "1")] * 5] * THREADS
    assert len(app._workers) == 0
    assert app._workers._places == {}


def test_clients_of_both_kinds_at_once(tmp_path: Path) -> None:
    """The lifespan of one client is not another's."""
    app = served(tmp_path)
    with TestClient(app) as outer:
        assert asked(app, True) == asked(app, False) == [(200, "1")] * 5
        assert len(app._workers) == 1
        assert outer.get("/").headers["x-plugin"] == "1"
    assert len(app._workers) == 0


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_plugins_end_with_the_loop(wrap_guests: Wrap, library: str) -> None:
    """In the loop, with every callback, however it was started."""
    run_loop = pytest.importorskip(library, reason=f"{library} has no wheel for this Python").run
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order))

    async def ask() -> None:
        assert (await request(app)).body == b"app"
        assert len(app._workers) == 1

    for _ in range(3):
        run_loop(ask())
        assert len(app._workers) == 0
    assert order == ["starts", "ends"] * 3


def test_restarts_in_one_process(wrap_guests: Wrap) -> None:
    """As a server does it that reloads, or a notebook: the lifespan of one loop after another's."""
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order))

    async def life(stops: bool) -> None:
        await app.start()
        assert (await request(app)).body == b"app"
        if stops:
            await app.stop()
            order.append("stopped")

    for stops in (True, False, True):
        run(partial(life, stops))
    assert order == ["starts", "ends", "stopped", "starts", "ends", "starts", "ends", "stopped"]


def test_loop_that_runs_again_keeps_its_worker(wrap_guests: Wrap) -> None:
    """`run_until_complete` for each request, as a test suite with one loop does; even from another thread."""
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order, on_request_headers=passing))
    loop = asyncio.new_event_loop()

    def ask() -> bytes:
        return loop.run_until_complete(request(app)).body

    assert [ask(), ask()] == [b"app"] * 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() == b"app"
    assert ask() == b"app"
    assert order == ["starts"]
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert order == ["starts", "ends"]


@pytest.mark.parametrize("where", ["here", "in another thread"])
def test_loop_closed_without_a_word(wrap_guests: Wrap, where: str) -> None:
    """Its plugins are freed when the next loop comes, and hear nothing: they may not be entered outside of it."""
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order))

    def ask() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(request(app))
        loop.close()

    for _ in range(5):
        if where == "here":
            ask()
        else:
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        assert len(app._workers) == 1
    run(lambda: request(app))
    assert len(app._workers) == 0
    assert order == ["starts"] * 6 + ["ends"]


# Nothing can be awaited where Python throws away what was never finished.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("tidily", [True, False])
def test_loop_closed_while_a_request_is_paused(wrap_guests: Wrap, tidily: bool) -> None:
    guest = Guest(on_request_headers=pausing)
    app = wrap_guests(answering(b"app"), guest)

    async def pause() -> None:
        connection = Connection(app)
        await until(lambda: guest.created)
        connections.append(connection)

    connections: list[Connection] = []
    for _ in range(3):
        if tidily:
            asyncio.run(pause())
            assert guest.deleted == guest.created
        else:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(pause())
            loop.close()
            # What Python says of a task that never ended is its owner's affair.
            loop.call_exception_handler = lambda context: None  # type: ignore[method-assign]
        guest.created.clear()
        guest.deleted.clear()
    connections.clear()

    async def serve() -> None:
        connection = Connection(app)
        await until(lambda: guest.created)
        await app.stop()
        assert (await connection.over()).status == 503

    run(serve)
    gc.collect()


def test_middleware_that_nobody_has_any_more_ends_in_its_loop(wrap_guests: Wrap) -> None:
    """As in a test suite with one loop for all tests, whose clients are not entered."""
    order: list[str] = []
    ticks: list[int] = []

    async def main() -> None:
        guest = living(order, on_tick=lambda *_: ticks.append(1), on_vm_start=lambda api, *_: api.tick(1) or 1)
        app = wrap_guests(answering(b"app"), guest)
        await request(app)
        await until(lambda: ticks)
        gone = weakref.ref(app)
        del app
        # Newer Pythons clear a weak reference after what finalizers do, which here is the event loop's to do.
        await until(lambda: gc.collect() >= 0 and gone() is None)
        await until(lambda: "ends" in order)
        ticks.clear()
        await asyncio.sleep(0.02)
        assert ticks == []

    run(main)
    assert order == ["starts", "ends"]


def test_many_loops_leave_nothing(wrap_guests: Wrap) -> None:
    """As many as a large test suite has."""
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=passing))
    seen: list[weakref.ref[Any]] = []

    async def ask() -> None:
        await request(app)
        seen.append(weakref.ref(app._worker))

    for _ in range(300):
        run(ask)
    gc.collect()
    assert [worker for worker in seen if worker() is not None] == []
    assert app._workers._places == {}


def test_one_loop_too_many(
    wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asgi_wasm.worker.workers.MOST_LOOPS", 2)
    app = wrap_guests(answering(b"app"), Guest())
    loops = [asyncio.new_event_loop() for _ in range(3)]
    statuses = [loop.run_until_complete(request(app)).status for loop in loops]
    assert statuses == [200, 200, 503]
    told = (
        "plugins run in 2 event loops already, and this would be one more: close event loops that are not used any more"
    )
    assert f"every request is refused: {told}" in caplog.text
    with pytest.raises(EventLoopError, match=told):
        loops[2].run_until_complete(app.start())
    loops[0].close()
    assert loops[2].run_until_complete(request(app)).status == 200
    for loop in loops[1:]:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def driven(call: Any) -> Any:
    """What a coroutine comes to that awaits nothing, where no event loop of asyncio runs (as on trio)."""
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    return ended.value.value


@pytest.mark.parametrize("elsewhere", [False, True], ids=["nowhere", "in another loop"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_without_an_event_loop_of_asyncio(
    wrap_guests: Wrap, caplog: pytest.LogCaptureFixture, kind: str, elsewhere: bool
) -> None:
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=passing))
    told = "plugins run in event loops of asyncio, and none runs here"
    loop = asyncio.new_event_loop()
    if elsewhere:
        assert loop.run_until_complete(request(app)).status == 200
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect" if kind == "websocket" else "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    driven(app({**http_scope(), "type": kind}, receive, send))
    assert sent[0]["type"] == "websocket.close" or sent[0]["status"] == 503
    assert f"every request is refused: {told}" in caplog.text
    with pytest.raises(EventLoopError, match=told):
        app.start().send(None)
    driven(app.stop())
    sent.clear()

    async def startup() -> Any:
        return {"type": "lifespan.startup"}

    driven(app({"type": "lifespan"}, startup, send))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"] and told in sent[0]["message"]
    assert "Traceback" not in caplog.text
    if elsewhere:
        assert loop.run_until_complete(request(app)).status == 200
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_a_closed_loop_is_let_go(wrap_guests: Wrap) -> None:
    app = wrap_guests(answering(b"app"), Guest())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(request(app))
    gone = weakref.ref(loop)
    loop.close()
    del loop
    run(lambda: request(app))
    gc.collect()
    assert gone() is None
    assert app._workers._places == {}


def test_send_from_another_thread_is_refused(tmp_path: Path) -> None:
    """A second thread in a store would end the process."""
    errors: list[BaseException] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/thread":
            await answering(b"app")(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": 200, "headers": []}

        async def elsewhere() -> None:
            await send(start)

        def call() -> None:
            try:
                asyncio.run(elsewhere())
            except BaseException as error:
                errors.append(error)

        await asyncio.to_thread(call)
        raise ValueError("nothing was sent")

    conf = {"response": {"add": {"x-plugin": "1"}}}
    entry = {"name": "headers", "file": HEADERS, "conf": conf}
    middleware = WasmMiddleware(app, plugins=[entry], cache_dir=tmp_path, settings={})

    async def main() -> None:
        async with middleware:
            with pytest.raises(ValueError, match="nothing was sent"):
                await request(middleware, path="/thread")
            assert (await request(middleware)).header(b"x-plugin") == b"1"

    run(main)
    assert [type(error) for error in errors] == [EventLoopError]
    assert "plugin 'headers' was called outside of its event loop" in str(errors[0])


def test_each_loop_reads_the_settings_of_its_time(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    middleware = WasmMiddleware(answering(b"app"), settings=str(file), cache_dir=tmp_path)
    for value in ("1", "2"):
        conf = f'{{"response": {{"add": {{"x-plugin": "{value}"}}}}}}'
        file.write_text(f"plugins: [{{name: headers, file: {HEADERS}, conf: '{conf}'}}]\n")
        assert run(lambda: request(middleware)).header(b"x-plugin") == value.encode()


# --- what a plugin does in a loop goes on in the next one


async def passed(app: WasmMiddleware) -> bytes:
    return (await request(app)).body


def test_ticks_in_each_loop(wrap_guests: Wrap) -> None:
    ticks: list[int] = []
    guest = Guest(on_configure=lambda api, *_: api.tick(1) or 1, on_tick=lambda *_: ticks.append(1))
    app = wrap_guests(answering(b"app"), guest)

    async def main() -> None:
        ticks.clear()
        await request(app)
        await until(lambda: len(ticks) > 1)

    for _ in range(3):
        run(main)
    so_far = len(ticks)
    run(settled)
    assert len(ticks) == so_far


def test_pause_times_out_in_each_loop(wrap_guests: Wrap) -> None:
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=pausing), pause_timeout=0.01)
    assert [run(lambda: request(app)).status for _ in range(3)] == [504] * 3


def test_foreign_functions_in_each_loop(wrap_guests: Wrap) -> None:
    async def double(argument: bytes) -> bytes:
        await asyncio.sleep(0.001)
        return argument * 2

    waiting: list[int] = []

    def on_request_headers(api: Api, context: int, *_: int) -> int:
        waiting.append(context)
        api.asked("call_foreign_function", *api.host.store(b"double"), *api.host.store(b"ab"))
        return 1

    def on_foreign_function(api: Api, *_: int) -> None:
        api.act_for(waiting.pop())
        api.resume(0)

    guest = Guest(on_request_headers=on_request_headers, on_foreign_function=on_foreign_function)
    app = wrap_guests(answering(b"app"), guest, foreign_functions={"double": double})
    assert [run(lambda: passed(app)) for _ in range(3)] == [b"app"] * 3
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(lambda _: run(lambda: passed(app)), range(3))) == [b"app"] * 3


def test_log_of_each_loop(wrap_guests: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    app = wrap_guests(answering(b"app"), Guest(on_response_headers=lambda api, *_: api.log(b"a word")))
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: run(lambda: request(app)), range(THREADS)))
    assert caplog.text.count("a word") == THREADS


def test_a_middleware_that_the_garbage_collector_takes_enters_no_freed_vm() -> None:
    """Finalizers of a whole cycle run before what one of them lets live again: the stores are gone by then."""

    async def main() -> None:
        for _ in range(3):
            plugin = {"name": "p", "file": PLUGINS / "lifecycle" / "abi_0_2_1.wasm"}
            middleware = WasmMiddleware(answering(b"app"), settings={"plugins": [plugin]})
            await middleware.start()
            assert (await request(middleware)).status == 200
            del middleware
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0)

    asyncio.run(main())
