"""Many requests at once over one VM."""

from __future__ import annotations

import asyncio

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer
from tests.driving import answering, request
from tests.guests import PAUSE, REQUEST, REQUEST_HEADERS, RESPONSE, RESPONSE_HEADERS, Guest, Serve


async def test_many_requests_over_one_vm_with_pauses(serve_guests: Serve) -> None:
    """Each is paused both ways and resumed in an order of its own; none gets another's words."""
    resumer = Resumer()
    waiting: list[tuple[int, int]] = []

    def on_request_headers(api: Hostcalls, context: int, count: int, end: int) -> int:
        api.add_header_map_value(REQUEST_HEADERS, b"x-context", b"%d" % context)
        waiting.append((context, REQUEST))
        return PAUSE

    def on_response_headers(api: Hostcalls, context: int, count: int, end: int) -> int:
        api.add_header_map_value(RESPONSE_HEADERS, b"x-context", b"%d" % context)
        waiting.append((context, RESPONSE))
        return PAUSE

    def on_tick(api: Hostcalls, root: int) -> None:
        # The newest first.
        while waiting:
            context, direction = waiting.pop()
            api.set_effective_context(context)
            api.continue_stream(direction)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        context = dict(scope["headers"])[b"x-context"]
        await answering(scope["path"].encode() + b" " + context)(scope, receive, send)

    guest = Guest(
        on_configure=resumer.on_configure,
        on_tick=on_tick,
        on_request_headers=on_request_headers,
        on_response_headers=on_response_headers,
    )
    async with serve_guests(app, guest) as middleware:
        responses = await asyncio.gather(*(request(middleware, path=f"/{number}") for number in range(200)))
        for number, response in enumerate(responses):
            path, context = response.body.split()
            assert path == b"/%d" % number
            assert response.header(b"x-context") == context
        assert len(set(guest.created)) == 200
