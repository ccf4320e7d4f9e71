"""A call that its server, or a scope around it, cancels: no task stays, and nothing is sent afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from asgi_wasm.asgi.types import Message
from tests.asgi.acting import Resumer
from tests.driving import answering, http_scope, run, until
from tests.guests import PAUSE, REQUEST, RESPONSE, Api, Guest, Serve


@pytest.mark.parametrize("how", ["once", "twice", "by a scope"])
@pytest.mark.parametrize("held", ["on_request_headers", "on_response_headers", "on_response_body"])
@pytest.mark.parametrize("resumed", [False, True], ids=["held", "resumed to a slow client"])
def test_cancelled(serve_guests: Serve, how: str, held: str, resumed: bool) -> None:
    resumer = Resumer()
    reached: list[int] = []

    def holds(api: Api, context: int, *_: int) -> int:
        def lets_go(late: Api) -> None:
            late.act_for(context)
            late.resume(REQUEST if held == "on_request_headers" else RESPONSE)

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

    async def main() -> None:
        callbacks: dict[str, Any] = {held: holds, **resumer.callbacks}
        async with serve_guests(answering(b"hello", headers=[(b"content-length", b"5")]), Guest(**callbacks)) as app:
            scope = anyio.CancelScope()

            async def call() -> None:
                with scope:
                    await app(http_scope(), receive, send)

            before = asyncio.all_tasks()
            task = asyncio.ensure_future(call())
            await until(lambda: sending.is_set() if resumed else reached)
            if how == "by a scope":
                scope.cancel()
            else:
                task.cancel()
                if how == "twice":
                    await asyncio.sleep(0)
                    task.cancel()
            await asyncio.wait([task])
            assert asyncio.all_tasks() == before and sent == []

    run(main)
