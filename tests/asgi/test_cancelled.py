"""A call that its server, or a scope around it, cancels: no task stays, and nothing is sent afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer
from tests.driving import answering, http_scope, until
from tests.guests import PAUSE, REQUEST, RESPONSE, Guest, Serve
from tests.host.resident.ways import BODIES, PROBE, WAYS, probe_without
from tests.waiting import tasks


async def cancel(how: str, task: asyncio.Task[None], scope: anyio.CancelScope) -> None:
    """A call within that scope; it is over then."""
    if how == "by a scope":
        scope.cancel()
    else:
        task.cancel()
        if how == "twice":
            await asyncio.sleep(0)
            task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("how", ["once", "twice", "by a scope"])
@pytest.mark.parametrize("held", ["on_request_headers", "on_response_headers", "on_response_body"])
@pytest.mark.parametrize("resumed", [False, True], ids=["held", "resumed to a slow client"])
async def test_cancelled(serve_guests: Serve, how: str, held: str, resumed: bool) -> None:
    resumer = Resumer()
    reached: list[int] = []

    def holds(api: Hostcalls, context: int, *_: int) -> int:
        def lets_go(late: Hostcalls) -> None:
            late.set_effective_context(context)
            late.continue_stream(REQUEST if held == "on_request_headers" else RESPONSE)

        reached.append(context)
        if resumed:
            resumer.later(lets_go)
        return PAUSE

    sent: list[Message] = []
    sending = asyncio.Event()

    async def receive() -> Message:
        if not reached or held == "on_request_headers":
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        sending.set()
        await asyncio.sleep(3600)
        sent.append(message)

    callbacks: dict[str, Any] = {held: holds, **resumer.callbacks}
    async with serve_guests(answering(b"hello", headers=[(b"content-length", b"5")]), Guest(**callbacks)) as app:
        scope, before = anyio.CancelScope(), tasks()

        async def call() -> None:
            with scope:
                await app(http_scope(), receive, send)

        task = asyncio.ensure_future(call())
        await until(lambda: sending.is_set() if resumed else reached)
        await cancel(how, task, scope)
        assert tasks() == before and sent == []


@pytest.mark.parametrize("way", WAYS, ids=["python", "kernel", "accelerator"])
@pytest.mark.parametrize("leaves", ["nowhere", "response_headers", "response_body@1", "response_body@2"])
@pytest.mark.parametrize("reads_requests", [True, False])
async def test_who_gave_up_reading_and_sends_at_once_is_told_later_that_the_client_goes(
    tmp_path: Path, way: dict[str, Any], leaves: str, reads_requests: bool
) -> None:
    """As an app does that waits for an event or for its client, whichever comes first."""
    gone = asyncio.Event()
    heard: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        for message in (
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.body", "body": b"a", "more_body": True},
            {"type": "http.response.body", "body": b"b", "more_body": True},
        ):
            reading = asyncio.ensure_future(receive())
            await asyncio.sleep(0.01)
            assert not reading.done()
            reading.cancel()
            await send(message)
        gone.set()
        heard.append(await receive())

    first = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if first:
            return first.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    probe = PROBE if reads_requests else probe_without(tmp_path / "probe.wasm", BODIES[:2])
    plugin = {"name": "p", "file": probe, "conf": f"{leaves}: set_effective_context %self"}
    if leaves == "nowhere":
        plugin["conf"] = "response_body: get_buffer_bytes 1 0 9"
    async with WasmMiddleware(app, settings={"plugins": [plugin], **way}) as middleware:
        await asyncio.wait_for(middleware(http_scope(), receive, send), 60)
    assert heard == [{"type": "http.disconnect"}]
