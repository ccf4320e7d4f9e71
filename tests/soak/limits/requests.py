"""Limits that a request meets: too many at once, bodies that are held, calls and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.testing import Hostcalls
from asgi_wasm.testing.guests.guests import Callback
from tests.driving import answering
from tests.guests import CONTINUE, PAUSE, REQUEST
from tests.soak.limits.case import Case, Seen, status_of
from tests.soak.limits.hostcalls import CALLS, HEAD, NO_PAIRS, OUT

BODY = bytes(300)
CALL_RESPONSE_HEADERS = 6
LARGE_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\n" + BODY
# Its head waits for the first verdict on the body, so that there may be another.
DECLARING = answering(BODY, headers=[(b"content-length", b"300")])


def answered(name: str, status: int, limits: Mapping[str, int], plugin: Any, share: float = 1.0, **more: Any) -> Case:
    """A limit over which a request is answered with ``status``."""

    async def ask(app: WasmMiddleware, seen: Seen) -> None:
        assert await status_of(app, BODY) == status
        seen.times += 1

    return Case(name, limits, plugin, ask, share=share, **more)


def calling(name: str, limits: Mapping[str, int], status: bytes | None, spared: int, **more: Any) -> Case:
    """A plugin whose requests wait for calls, all but ``spared`` of which have this ``:status``; None is a failure."""
    seen = Seen()
    waiting: dict[int, int] = {}

    def on_request_headers(api: Hostcalls, context: int, *_given: int) -> int:
        waiting[context] = CALLS
        api.host.allocate(64)
        names = [*api.host.store(b"upstream"), *api.host.store(HEAD), 0, 0, *api.host.store(NO_PAIRS)]
        for _ in range(CALLS):
            assert api.raw("http_call", *names, 1000, OUT) == 0
        return PAUSE

    def on_http_call_response(api: Hostcalls, _root: int, _token: int, headers: int, *_: int) -> int:
        ((context, left),) = waiting.items()
        seen.times += (api.get_header_map_value(CALL_RESPONSE_HEADERS, b":status") if headers else None) == status
        waiting[context] = left - 1
        if left == 1:
            del waiting[context]
            api.set_effective_context(context)
            api.continue_stream(REQUEST)
        return CONTINUE

    async def ask(app: WasmMiddleware, seen: Seen) -> None:
        before = seen.times
        assert await status_of(app) == 200
        assert seen.times >= before + CALLS - spared, "a call was not refused"

    callbacks: dict[str, Callback] = {
        "on_request_headers": on_request_headers,
        "on_http_call_response": on_http_call_response,
    }
    return Case(name, limits, callbacks, ask, seen, **more)


def _pausing(callback: str) -> dict[str, Callback]:
    return {callback: lambda *_: PAUSE}


CASES = [
    answered("contexts", 503, {"contexts": 1}, _pausing("on_request_headers")),
    answered("request_body", 413, {"request_body": 200}, _pausing("on_request_body")),
    answered("response_body", 500, {"response_body": 200}, _pausing("on_response_body"), app=DECLARING),
    answered("pause_timeout", 504, {}, _pausing("on_request_headers"), share=0.1, settings={"pause_timeout": 0.001}),
    calling("calls_under_way", {"calls_under_way": 1}, b"503", 1),
    calling("call_response", {"call_response": 200}, None, 0, answer=LARGE_ANSWER),
]
