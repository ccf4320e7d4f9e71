"""What runs when a reload comes: it ends on the plugins that it began with, or with the drain timeout."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_wasm.worker.worker import Worker
from tests.driving import Connection, answering, http_scope, request, run, until
from tests.guests import Wrap
from tests.waiting import SECONDS
from tests.worker.versions import Versions


async def test_running_requests_end_on_the_plugins_that_they_began_with(wrap_guests: Wrap) -> None:
    """One that streams its answer, one whose app has not answered yet; then the old plugins end."""
    versions = Versions()
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/waits":
            await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await release.wait()
        await send({"type": "http.response.body", "body": b"b", "more_body": False})

    app = wrap_guests(slow, versions.guest)
    async with app:
        streams, waits = Connection(app), Connection(app, path="/waits")
        await streams.sent(2)
        await app.reload()
        late = Connection(app)
        await late.sent(2)
        assert (versions.starts, versions.ended) == (2, [])
        release.set()
        answers = [await each.over() for each in (streams, waits, late)]
        assert [answer.header(b"x-version") for answer in answers] == [b"1", b"1", b"2"]
        assert [answer.body for answer in answers] == [b"ab"] * 3
        await until(lambda: versions.ended == [1])
    assert versions.ended == [1, 2]


async def test_requests_while_the_old_plugins_stop(wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions()
    stop, stopping, may_stop = Worker.stop, asyncio.Event(), asyncio.Event()

    async def slowly(worker: Worker) -> None:
        await stop(worker)
        stopping.set()
        await may_stop.wait()

    monkeypatch.setattr(Worker, "stop", slowly)

    app = wrap_guests(answering(b"app"), versions.guest)
    await app.start()
    assert (await request(app)).header(b"x-version") == b"1"
    reloading = asyncio.ensure_future(app.reload())
    await stopping.wait()
    answers = [await request(app) for _ in range(2)]
    may_stop.set()
    assert [answer.header(b"x-version") for answer in answers] == [b"2", b"2"]
    await reloading
    await app.stop()


async def test_the_drain_timeout_ends_what_does_not_end(wrap_guests: Wrap) -> None:
    versions = Versions()

    app = wrap_guests(answering(b"app"), versions.guest, drain_timeout=0.05)
    async with app:
        versions.pausing = True
        paused = Connection(app)
        await asyncio.sleep(0)
        versions.pausing = False
        await app.reload()
        # Its VM is gone: the failure policy.
        assert (await paused.over()).status == 503
        assert (await request(app)).header(b"x-version") == b"2"
        await until(lambda: versions.ended == [1])


@pytest.mark.parametrize("way", ["stopped", "left to the loop"])
def test_what_drains_ends_with_the_middleware(wrap_guests: Wrap, way: str) -> None:
    versions = Versions()

    async def main() -> None:
        app = wrap_guests(answering(b"app"), versions.guest)
        await app.start()
        versions.pausing = True
        paused = Connection(app)
        await asyncio.sleep(0)
        await app.reload()
        assert versions.ended == []
        if way == "stopped":
            await app.stop()
            assert (await paused.over()).status == 503
            assert versions.ended == [1, 2]

    run(main)
    assert sorted(versions.ended) == [1, 2]


async def test_an_open_websocket_outlives_the_plugins_that_let_it_in(
    wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They drain as long as they may; its frames passed them by before already."""
    versions = Versions()

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    app = wrap_guests(echo, versions.guest, drain_timeout=3600)
    loop = asyncio.get_running_loop()
    clock = loop.time
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    outgoing: asyncio.Queue[Any] = asyncio.Queue()
    scope = {**http_scope(), "type": "websocket", "scheme": "ws", "subprotocols": []}
    async with app:
        connection = asyncio.ensure_future(app(scope, incoming.get, outgoing.put))
        incoming.put_nowait({"type": "websocket.connect"})
        accepted = await outgoing.get()
        assert dict(accepted["headers"])[b"x-version"] == b"1"
        await app.reload()
        for text in ("draining", "drained"):
            incoming.put_nowait({"type": "websocket.receive", "text": text})
            assert await outgoing.get() == {"type": "websocket.send", "text": text}
            if text == "draining":
                assert versions.ended == []
                monkeypatch.setattr(loop, "time", lambda: clock() + 3600)
                await until(lambda: versions.ended == [1])
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(connection, SECONDS)
