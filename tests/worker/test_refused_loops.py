"""Where plugins cannot run: in one event loop too many, in none of asyncio, outside of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_wasm import EventLoopError, WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.asgi.acting import passing
from tests.driving import answering, http_scope, request, run
from tests.guests import Guest, Wrap
from tests.worker.versions import HEADERS


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


def test_send_from_another_thread_is_refused() -> None:
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
    middleware = WasmMiddleware(app, plugins=[entry], settings={})

    async def main() -> None:
        async with middleware:
            with pytest.raises(ValueError, match="nothing was sent"):
                await request(middleware, path="/thread")
            assert (await request(middleware)).header(b"x-plugin") == b"1"

    run(main)
    assert [type(error) for error in errors] == [EventLoopError]
    assert "plugin 'headers' was called outside of its event loop" in str(errors[0])
