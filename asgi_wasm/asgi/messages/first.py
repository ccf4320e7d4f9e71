"""What a client says first of a request's body, where its headers do not tell whether there is one.

Envoy knows it from the frame, or from its parser: END_STREAM on the HEADERS of HTTP/2, neither length nor transfer
coding in HTTP/1. A scope tells neither; what a server's `receive` gives first is the same knowledge.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from asgi_wasm.asgi.messages import translate
from asgi_wasm.waits import wait

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Receive, Scope

# Turns of the event loop in which a server that has a message hands it over, through middlewares too.
_TURNS = 3
# An empty piece is no body (httpx's `ASGITransport` sends one with every GET); so many of them are a stream's.
_EMPTY_PIECES = 4


class Told(NamedTuple):
    """Whether the request ``ends`` with its headers, as plugins are told.

    ``first`` is the message that said so, and is for the app; ``reading`` a call of `receive` that has another one, or
    is still under way: nobody waits for a stream whose first piece is not there.
    """

    ends: bool
    first: Message | None = None
    reading: asyncio.Future[Message] | None = None


ENDS, GOES_ON = Told(ends=True), Told(ends=False)


async def look_ahead(scope: Scope, receive: Receive, known: Message | None = None) -> Told:
    """Find out whether there is a body, without delaying an app that streams. ``known`` is its first message, if that
    was read, which it may be of a request without a stream.
    """
    waits = translate.is_without_stream(scope)
    for _ in range(_EMPTY_PIECES):
        if waits:
            # At hand: no task is needed.
            message, known = known or await receive(), None
        else:
            reading = await begin_reading(receive)
            if not reading.done():
                break
            message = reading.result()
        if message["type"] != "http.request" or message.get("body"):
            break
        if not message.get("more_body", False):
            return Told(True, message)
    if waits:
        reading = asyncio.get_running_loop().create_future()
        reading.set_result(message)
    return Told(False, None, reading)


async def begin_reading(receive: Receive) -> asyncio.Future[Message]:
    """A call of `receive`, which is done if the server has a message at hand.

    It outlives who began it: cancelled, it could take a message with it.
    """
    reading: asyncio.Future[Message] = asyncio.ensure_future(receive())
    try:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if reading.done():
                break
    except BaseException:
        reading.cancel()
        await wait([reading])
        raise
    return reading
