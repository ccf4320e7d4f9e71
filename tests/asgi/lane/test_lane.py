"""The lane and the exchange do the same: whatever a plugin does, at each point at which one hands over to the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from asgi_wasm.asgi.lane.lane import Lane
from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.testing import Hostcalls
from asgi_wasm.testing.guests.guests import Callback
from tests.asgi.acting import passing, pausing
from tests.driving import answering, http_scope, request
from tests.guests import REQUEST, REQUEST_HEADERS, RESPONSE, RESPONSE_HEADERS, Guest, Serve

HEADERS = [(b"user-agent", b"tests"), (b"connection", b"keep-alive"), (b"x-many", b"1"), (b"x-many", b"2")]


def trapping(*_: Any) -> int:
    raise GuestTrap("on purpose")


def answers(api: Hostcalls, *_: int) -> int:
    api.send_local_response(403, b"no", [(b"x-by", b"plugin")])
    return 1


def closes(api: Hostcalls, *_: int) -> int:
    api.close_stream(REQUEST)
    return 0


def resumes(api: Hostcalls, *_: int) -> int:
    api.continue_stream(RESPONSE)
    return 0


def sets_property(api: Hostcalls, *_: int) -> int:
    api.set_property(b"user", b"alice")
    return 0


def changes(api: Hostcalls, context: int, count: int, *_: int) -> int:
    kind = RESPONSE_HEADERS if api.get_property(b"response.code".replace(b".", b"\0")) else REQUEST_HEADERS
    api.add_header_map_value(kind, b"x-many", b"3")
    api.replace_header_map_value(kind, b"user-agent", b"plugin")
    api.remove_header_map_value(kind, b"x-gone")
    api.add_header_map_value(kind, b"x-bad\n", b"is left out")
    if kind == REQUEST_HEADERS:
        api.replace_header_map_value(kind, b":path", b"/other?y=2")
    return 0


def unframes(api: Hostcalls, *_: int) -> int:
    api.replace_header_map_value(RESPONSE_HEADERS, b":status", b"204")
    return 0


def streaming() -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"6")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d." % number, "more_body": number < 2})
        await send({"type": "http.response.body", "body": b"too much"})

    return app


def raising() -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("on purpose")

    return app


def starting_twice() -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        await send(start)

    return app


def silent() -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    return app


def with_trailers() -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"hello"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    return app


APPS: dict[str, Callable[[], ASGIApp]] = {
    "plain": lambda: answering(b"hello", headers=[(b"x-many", b"1"), (b"vary", b"a"), (b"vary", b"b")]),
    "empty": lambda: answering(status=204),
    "no length": lambda: answering(headers=[(b"content-length", b"0")]),
    "streaming": streaming,
    "raising": raising,
    "starting twice": starting_twice,
    "silent": silent,
    "trailers": with_trailers,
}
ACTIONS: dict[str, Callback] = {
    "passes": passing,
    "pauses": pausing,
    "traps": trapping,
    "answers": answers,
    "closes": closes,
    "resumes": resumes,
    "sets a property": sets_property,
    "changes": changes,
}


class Course:
    """What a run of one request came to, on every side of the plugins."""

    def __init__(self) -> None:
        self.app_scopes: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.outcome: Any = None

    def told(self) -> tuple[Any, ...]:
        return self.outcome, self.app_scopes, self.events


async def course_of(
    serve_guests: Serve, app: ASGIApp, own: list[dict[str, Callback]], *, policy: str = "fail_closed", **more: Any
) -> Course:
    """One request through guests with these callbacks."""
    course = Course()

    def noting(index: int, name: str, callback: Callback) -> Callback:
        def call(api: Hostcalls, *arguments: int) -> Any:
            course.events.append(f"{index} {name}{arguments}")
            return callback(api, *arguments)

        return call

    def on_log(api: Hostcalls, context: int) -> None:
        for path in (b"response\0code", b"response\0code_details", b"response\0size", b"request\0size", b"user"):
            course.events.append(f"log {path!r} {api.get_property(path)!r}")
        course.events.append(
            f"log {api.get_header_map_pairs(REQUEST_HEADERS)} {api.get_header_map_pairs(RESPONSE_HEADERS)}"
        )

    guests = [
        Guest(**{name: noting(index, name, callback) for name, callback in {**callbacks, "on_log": on_log}.items()})
        for index, callbacks in enumerate(own)
    ]

    async def spy(scope: Scope, receive: Receive, send: Send) -> None:
        course.app_scopes.append({**scope, "asgi_wasm": dict(scope["asgi_wasm"])})
        await app(scope, receive, send)

    entries = [{"failure_policy": policy} for _ in guests]
    served = serve_guests(spy, *guests, entries=entries, traps=True, pause_timeout=0.01)
    async with served as middleware:
        try:
            course.outcome = (await request(middleware, **{"headers": HEADERS, "path": "/a?x=1", **more})).messages
        except Exception as error:
            course.outcome = repr(error)
    return course


@pytest.fixture
def without_lane(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What sends every request through the exchange."""
    make = Lane.__init__

    def crooked(self: Lane, *arguments: Any) -> None:
        make(self, *arguments)
        self.plan = replace(self.plan, is_straight=False)

    return lambda: monkeypatch.setattr(Lane, "__init__", crooked)


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("callback", ["on_request_headers", "on_response_headers", "on_response_body"])
@pytest.mark.parametrize("action", ACTIONS)
async def test_the_same_with_and_without_the_lane(
    serve_guests: Serve,
    without_lane: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
    app: str,
    place: int,
    callback: str,
    action: str,
) -> None:
    caplog.set_level(logging.INFO, "asgi_wasm.host")
    callbacks: list[dict[str, Callback]] = [
        {"on_request_headers": passing, "on_response_headers": changes} for _ in range(3)
    ]
    callbacks[place][callback] = ACTIONS[action]
    short = await course_of(serve_guests, APPS[app](), callbacks)
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    without_lane()
    long = await course_of(serve_guests, APPS[app](), callbacks)
    assert short.told() == long.told()
    assert without_times(lines) == without_times([record.getMessage() for record in caplog.records])


def without_times(lines: list[str]) -> list[str]:
    return [line for line in lines if " ms" not in line]


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open", "fail_reload"])
@pytest.mark.parametrize("more", [{}, {"method": "HEAD"}, {"body": [b"a", b"b"], "method": "POST"}])
@pytest.mark.parametrize("action", [changes, unframes, trapping])
async def test_methods_and_policies(
    serve_guests: Serve, without_lane: Callable[[], None], policy: str, more: dict[str, Any], action: Callback
) -> None:
    callbacks: list[dict[str, Callback]] = [{"on_response_headers": action}, {"on_request_headers": changes}]
    short = await course_of(serve_guests, answering(b"hello"), callbacks, policy=policy, **more)
    without_lane()
    assert short.told() == (await course_of(serve_guests, answering(b"hello"), callbacks, policy=policy, **more)).told()


async def test_a_head_that_no_plugin_changed_goes_on_as_the_object_that_it_was(serve_guests: Serve) -> None:
    sent: list[Message] = []
    seen: list[Scope] = []
    start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-odd", b" as it is ")]}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send(start)
        await send({"type": "http.response.body", "body": b"hello"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody listens")

    guest = Guest(on_request_headers=passing, on_response_headers=passing)
    async with serve_guests(app, guest) as middleware:
        scope = http_scope(headers=HEADERS)
        await middleware(scope, receive, send)
        assert seen[0]["headers"] is scope["headers"]
        assert sent[0] is start
