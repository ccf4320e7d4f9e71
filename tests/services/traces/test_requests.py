"""The last requests as they are kept: callbacks, hostcalls and callouts of real plugins, and whose they are."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from asgi_wasm.services.traces.requests import MOST_CALLS, TracedRequest
from tests.driving import answering, request
from tests.plugins.conftest import PLUGINS
from tests.serving import dead_port, serve

AUTH = {
    "name": "auth",
    "file": str(PLUGINS / "http_auth" / "rust.wasm"),
    "conf": {"upstream": "up", "timeout_ms": 60_000},
}
FAULT = {
    "name": "fault",
    "file": str(PLUGINS / "fault_injection" / "c.wasm"),
    "conf": {"http_status": 418, "body": "no"},
}
HEADERS = {"name": "headers", "file": str(PLUGINS / "headers" / "rust.wasm"), "conf": {}}


async def traced(
    plugins: list[dict[str, Any]],
    body: Callable[[WasmMiddleware], Awaitable[object]],
    app: ASGIApp | None = None,
    **settings: Any,
) -> tuple[TracedRequest, ...]:
    """What is kept once ``body`` is over."""
    given = {"trace_requests": 3, **settings, "plugins": plugins}
    async with WasmMiddleware(app or answering(b"ok"), settings=given) as middleware:
        await body(middleware)
        return middleware.traces()


async def test_a_request_with_all_its_calls() -> None:
    (kept,) = await traced([HEADERS], lambda app: request(app, path="/a?b", headers=[(b"x-request-id", b"r1")]))
    assert (kept.method, kept.target, kept.request_id, kept.status, kept.answered_by) == (
        "GET",
        "/a?b",
        "r1",
        200,
        "app",
    )
    callbacks = [call.name for call in kept.calls if call.is_callback]
    assert callbacks[:2] == ["on_context_create", "on_request_headers"] and callbacks[-1] == "on_delete"
    (get, *_) = [call for call in kept.calls if call.name == "get_header_map_value"]
    assert get.depth == 1 and "key=" in get.arguments and get.answer.startswith("OK")
    assert all(call.took is not None and call.took >= 0 and call.began >= 0 for call in kept.calls)
    assert [call.began for call in kept.calls] == sorted(call.began for call in kept.calls)
    assert {call.plugin for call in kept.calls} == {"headers"}
    assert kept.plain()["calls"][0]["name"] == "on_context_create"


async def test_a_local_response_of_two_plugins_and_only_the_last_are_kept() -> None:
    async def body(app: WasmMiddleware) -> None:
        for number in range(5):
            await request(app, path=f"/{number}")

    kept = await traced([{**HEADERS, "priority": 1}, FAULT], body)
    assert [each.target for each in kept] == ["/4", "/3", "/2"]
    assert [each.number for each in kept] == [5, 4, 3]
    assert (kept[0].status, kept[0].answered_by) == (418, "plugin or host")
    assert {call.plugin for call in kept[0].calls} == {"headers", "fault"}
    (reply,) = [call for call in kept[0].calls if call.name == "send_local_response"]
    assert "status_code=418" in reply.arguments and "body=no" in reply.arguments


async def test_a_callout_and_its_answer_are_the_requests() -> None:
    with serve("tests.services.traces.upstream:app") as server:
        (kept,) = await traced(
            [AUTH], lambda app: request(app, headers=[(b"x-user", b"bob")]), upstreams={"up": server.url}
        )
    (callout,) = kept.callouts
    assert (callout.kind, callout.upstream, callout.what, callout.outcome) == ("http", "up", "POST /check", "response")
    assert callout.took is not None and callout.took > 0 and callout.plugin == "auth"
    names = [call.name for call in kept.calls]
    # It comes to a root context, and is the request's all the same; what follows in it acts for the stream.
    assert names.index("http_call") < names.index("on_http_call_response") < names.index("continue_stream")
    assert kept.status == 200


async def test_a_callout_that_fails() -> None:
    with dead_port() as port:
        upstreams = {"up": f"http://127.0.0.1:{port}"}
        (kept,) = await traced([AUTH], lambda app: request(app, headers=[(b"x-user", b"bob")]), upstreams=upstreams)
    # Envoy answers 503 itself, which the plugin gets as any answer.
    assert [callout.outcome for callout in kept.callouts] == ["response"]
    assert kept.answered_by == "plugin or host"


@pytest.mark.parametrize("left_out", [False, True])
async def test_a_request_that_is_not_kept_any_more_is_let_go_of(left_out: bool) -> None:
    """With what its callouts have to say: else each would stay for as long as the worker."""
    alive: list[weakref.ref[TracedRequest]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        alive.append(weakref.ref(middleware.traces()[0]))
        if left_out:
            middleware.leave_out(scope)
        await answering(b"ok")(scope, receive, send)

    with serve("tests.services.traces.upstream:app") as server:
        settings = {"trace_requests": 1, "plugins": [AUTH], "upstreams": {"up": server.url}}
        middleware = WasmMiddleware(app, settings=settings)
        async with middleware:
            for _ in range(10):
                assert (await request(middleware, headers=[(b"x-user", b"bob")])).status == 200
            gc.collect()
            # The time limit may keep the frames around a call for a while.
            assert len([each for each in alive if each() is not None]) <= 3


async def test_credentials_are_not_kept() -> None:
    # Short enough to be shown whole.
    secret = [(b"cookie", b"hush"), (b"authorization", b"hush"), (b"x-open", b"seen")]
    script = (
        'request_headers: get_header_map_pairs 0\nrequest_headers: get_header_map_value 0 "authorization"\n'
        'request_headers: get_header_map_value 0 "x-open"\n'
        'request_headers: get_property "request\\x00headers\\x00cookie"\n'
        'request_headers: get_property "request\\x00headers"\n'
    )
    probe = {"name": "probe", "file": str(PLUGINS / "probe" / "abi_0_2_1.wasm"), "conf": script}
    (kept,) = await traced([probe], lambda app: request(app, headers=secret))
    asked = [call for call in kept.calls if call.name.startswith("get_")]
    text = "\n".join(f"{call.arguments} {call.answer}" for call in asked)
    assert text.count("(hidd") >= 4 and "seen" in text and "hush" not in text


async def test_a_trap() -> None:
    probe = {"name": "probe", "file": str(PLUGINS / "probe" / "abi_0_2_1.wasm"), "conf": "request_headers: trap"}
    (kept,) = await traced([probe], request)
    assert [call.name for call in kept.calls if call.error] == ["on_request_headers"]
    assert kept.status in (0, 503)


async def test_calls_beyond_the_most_are_counted() -> None:
    script = "".join('request_headers: get_header_map_value 0 "x"\n' for _ in range(MOST_CALLS))
    probe = {"name": "probe", "file": str(PLUGINS / "probe" / "abi_0_2_1.wasm"), "conf": script}
    (kept,) = await traced([probe], request)
    assert len(kept.calls) == MOST_CALLS and kept.left_out > 0


async def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    assert await traced([HEADERS], request, trace_requests=0) == ()


async def test_a_request_that_is_left_out() -> None:
    made: list[WasmMiddleware] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/quiet":
            made[0].leave_out(scope)
        await answering(b"ok")(scope, receive, send)

    async def body(middleware: WasmMiddleware) -> None:
        made.append(middleware)
        for path in ("/quiet", "/loud", "/quiet"):
            await request(middleware, path=path)

    assert [each.target for each in await traced([HEADERS], body, app)] == ["/loud"]


@pytest.mark.parametrize("path", ["/a", "https://api.test/a?b"])
async def test_which_plugins_run(path: str) -> None:
    found: list[Any] = []

    async def body(app: WasmMiddleware) -> None:
        found.extend((app.running_on("GET", path), app.running_on("POST", path), app.running_on("GET", "/else")))

    no_conf = {key: value for key, value in FAULT.items() if key != "conf"}
    routes = [
        {"uri": "/a", "methods": ["GET"], "plugins": {"fault": {"conf": {"http_status": 418}}}},
        {"default": "deny"},
    ]
    await traced([{**HEADERS, "priority": 9}, no_conf], body, routes=routes)
    assert [plugin.name for plugin in found[0]] == ["headers", "fault"]
    assert found[1:] == [None, None]
