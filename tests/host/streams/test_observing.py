"""`mode: observe`: the plugin runs, and nothing comes of what it decides but a line, a count and a mark."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware, metrics_app
from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer
from tests.driving import answering, request
from tests.guests import (
    CONTINUE,
    PAUSE,
    REQUEST,
    REQUEST_BODY,
    REQUEST_HEADERS,
    RESPONSE_BODY,
    RESPONSE_HEADERS,
    Guest,
    Serve,
    serve_guests,
    wrap_guests,
)
from tests.host.resident.ways import PROBE

__all__ = ["serve_guests", "wrap_guests"]

OBSERVE = {"mode": "observe"}
APP = answering(b"app's ", b"answer", headers=[(b"content-length", b"12"), (b"x-app", b"1")])


def told(middleware: WasmMiddleware, name: str = "g0") -> dict[str, int]:
    """What the plugin would have done, as the status has it."""
    return {**next(plugin.observed for plugin in middleware.status().plugins if plugin.name == name)}


def once(act: Callable[[Hostcalls], object], verdict: int) -> Callable[..., int]:
    """A callback that acts when it is called first: a reply comes by the response's callbacks, too."""
    done: list[bool] = []

    def callback(api: Hostcalls, *_: int) -> int:
        if done:
            return CONTINUE
        done.append(True)
        act(api)
        return verdict

    return callback


def trap(api: Hostcalls) -> None:
    raise GuestTrap("on purpose")


ACTS: dict[str, tuple[str, Callable[[Hostcalls], object], int, dict[str, int]]] = {
    "reply": ("request_headers", lambda api: api.send_local_response(403, b"no"), PAUSE, {"answer": 1}),
    "reply to a body": ("request_body", lambda api: api.send_local_response(403, b"no"), PAUSE, {"answer": 1}),
    "reply to a response": ("response_headers", lambda api: api.send_local_response(403, b"no"), PAUSE, {"answer": 1}),
    # The head of a sized body waits for this verdict.
    "reply to a response's body": (
        "response_body",
        lambda api: api.send_local_response(403, b"no"),
        CONTINUE,
        {"answer": 1},
    ),
    "close": ("request_headers", lambda api: api.close_stream(REQUEST), CONTINUE, {"close": 1}),
    "pause": ("request_headers", lambda api: None, PAUSE, {"pause": 1, "late": 1}),
    "pause of the response": ("response_headers", lambda api: None, PAUSE, {"pause": 1, "late": 1}),
    "header": (
        "request_headers",
        lambda api: api.add_header_map_value(REQUEST_HEADERS, b"x-a", b"1"),
        CONTINUE,
        {"request_headers": 1},
    ),
    "path": (
        "request_headers",
        lambda api: api.replace_header_map_value(REQUEST_HEADERS, b":path", b"/b"),
        CONTINUE,
        {"request_headers": 1},
    ),
    "response header": (
        "response_headers",
        lambda api: api.remove_header_map_value(RESPONSE_HEADERS, b"x-app"),
        CONTINUE,
        {"response_headers": 1},
    ),
    "body": ("request_body", lambda api: api.set_buffer_bytes(REQUEST_BODY, b"xyz"), CONTINUE, {"request_body": 1}),
    "response body": (
        "response_body",
        lambda api: api.set_buffer_bytes(RESPONSE_BODY, b""),
        CONTINUE,
        {"response_body": 1},
    ),
    "property": ("request_headers", lambda api: api.set_property(b"mine", b"1"), CONTINUE, {}),
    "nothing": ("request_headers", lambda api: None, CONTINUE, {}),
    "trap": ("request_headers", trap, CONTINUE, {"failure": 1}),
    "trap in the end": ("response_body", trap, CONTINUE, {"failure": 1}),
}


@pytest.mark.parametrize("name", ACTS)
async def test_nothing_comes_of_it(serve_guests: Serve, caplog: pytest.LogCaptureFixture, name: str) -> None:
    phase, act, verdict, expected = ACTS[name]
    caplog.set_level(logging.INFO, "asgi_wasm")
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], scope["headers"], scope.get("asgi_wasm")))
        await APP(scope, receive, send)

    bare = await request(APP, "POST", "/a", body=[b"abc"])
    guest = Guest(**{f"on_{phase}": once(act, verdict)})
    async with serve_guests(app, guest, entries=[OBSERVE], traps="trap" in name) as middleware:
        response = await request(middleware, "POST", "/a", body=[b"abc"])
        assert (response.status, response.headers, response.body) == (200, bare.headers, bare.body)
        now = {key: count for key, count in expected.items() if key != "late"}
        assert told(middleware) == now
    assert {**guest_verdicts(caplog)} == expected
    ((path, headers, _),) = seen
    assert path == "/a"
    assert (b"content-length", b"3") in headers
    assert not any(key == b"x-a" for key, _ in headers)


def guest_verdicts(caplog: pytest.LogCaptureFixture) -> dict[str, int]:
    """The sentences, by the verdict that each is about."""
    words = {
        "it would have answered 403": "answer",
        "it would have ended the connection": "close",
        "it would have held": "pause",
        "it would have changed the request's headers": "request_headers",
        "it would have changed the response's headers": "response_headers",
        "it would have changed the request's body from": "request_body",
        "it would have changed the response's body from": "response_body",
        "it would have failed, and got fail_closed": "failure",
        "it would have let the request wait": "late",
    }
    lines = [record.getMessage() for record in caplog.records]
    return {word: 1 for text, word in words.items() if any(f"observed only: {text}" in line for line in lines)}


async def test_a_pause_that_outlives_the_request(serve_guests: Serve) -> None:
    """The verdict of an answer that comes after the app's own response counts all the same."""
    resumer = Resumer()
    phases: list[str] = []

    def on_response(api: Hostcalls, context: int, count: int, end: int) -> int:
        phases.append("response")
        return CONTINUE

    guest = Guest(on_request_headers=lambda api, *_: PAUSE, on_response_headers=on_response, **resumer.callbacks)

    async with serve_guests(APP, guest, guest_of_others(), entries=[OBSERVE, {}]) as middleware:
        assert (await request(middleware)).body == b"app's answer"
        assert told(middleware) == {"pause": 1}
        assert (phases, guest.logged) == ([], [])
        resumer.later(lambda api: (api.set_effective_context(guest.created[0]), api.continue_stream(REQUEST)))
        await resumer.done()
        # The app's response, which had come meanwhile, and then the end.
        assert (phases, guest.logged) == (["response"], guest.created)
        assert (await request(middleware)).status == 200
        resumer.later(lambda api: (api.set_effective_context(guest.created[1]), api.send_local_response(401)))
        await resumer.done()
        assert told(middleware) == {"pause": 2, "answer": 1}


def guest_of_others() -> Guest:
    """One that enforces: it sees what the observer has not touched."""

    def on_headers(api: Hostcalls, *_: int) -> int:
        api.add_header_map_value(RESPONSE_HEADERS, b"x-real", b"1")
        return CONTINUE

    return Guest(on_response_headers=on_headers)


async def test_among_plugins_that_enforce(serve_guests: Serve) -> None:
    """One before it answers: it was never asked, and hears of the end alone."""

    def deny(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403, b"denied")
        return PAUSE

    observer = Guest(on_request_headers=lambda api, *_: PAUSE)
    entries = [{"priority": 2}, {"priority": 1, **OBSERVE}]
    async with serve_guests(APP, Guest(on_request_headers=deny), observer, entries=entries) as middleware:
        assert (await request(middleware)).body == b"denied"
        assert observer.logged == observer.created != []
        assert told(middleware, "g1") == {}


async def test_what_buffers_sees_the_whole_body(serve_guests: Serve) -> None:
    bodies: list[bytes] = []

    def on_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        if not end:
            return PAUSE
        bodies.append(api.get_buffer_bytes(REQUEST_BODY))
        return CONTINUE

    async with serve_guests(APP, Guest(on_request_body=on_body), entries=[OBSERVE]) as middleware:
        assert (await request(middleware, "POST", body=[b"ab", b"cd", b"ef"])).status == 200
        assert told(middleware) == {"pause": 1}
    assert bodies == [b"abcdef"]


async def test_a_body_over_its_limit(serve_guests: Serve) -> None:
    guest = Guest(on_request_body=lambda api, *_: PAUSE)
    limits = {"request_body": 5}
    async with serve_guests(APP, guest, entries=[OBSERVE], limits=limits) as middleware:
        assert (await request(middleware, "POST", body=[b"abcd", b"efgh"])).status == 200
        assert told(middleware) == {"pause": 1, "answer": 1}


async def test_late_ones_are_bounded(serve_guests: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.host.streams.observing.MOST_LATE", 2)

    guest = Guest(on_request_headers=lambda api, *_: PAUSE)
    async with serve_guests(APP, guest, entries=[OBSERVE]) as middleware:
        for _ in range(4):
            assert (await request(middleware)).status == 200
        assert told(middleware) == {"pause": 4, "late": 2}
        assert len(guest.deleted) == 2
        await asyncio.sleep(0)


async def test_a_plugin_that_does_not_start(serve_guests: Serve) -> None:
    """It keeps no server from starting, and no request from the app."""

    guest = Guest(on_configure=lambda api, *_: 0)
    async with serve_guests(APP, guest, entries=[OBSERVE]) as middleware:
        assert (await request(middleware)).status == 200
        assert told(middleware) == {"failure": 1}


async def test_a_reply_that_would_come_too_late(serve_guests: Serve) -> None:
    """In a stream without a length, the head has gone out."""

    guest = Guest(on_response_body=once(lambda api: api.send_local_response(403), CONTINUE))
    async with serve_guests(answering(b"a", b"b"), guest, entries=[OBSERVE]) as middleware:
        assert (await request(middleware)).body == b"ab"
        assert told(middleware) == {"close": 1}


async def test_a_client_that_leaves(serve_guests: Serve) -> None:
    guest = Guest(on_request_headers=lambda api, *_: PAUSE)
    async with serve_guests(answering(), guest, entries=[OBSERVE]) as middleware:
        sent = await request(middleware, "POST", body=[b"abc"], stays=False)
        assert not sent.complete
        # Nothing that it waits for can be of use.
        assert guest.deleted == guest.created != []


async def test_counted_and_traced(serve_guests: Serve) -> None:
    """By the host's own metrics; in a trace, a verdict is marked."""

    guest = Guest(on_request_headers=once(lambda api: api.send_local_response(403), PAUSE))
    settings = {"metrics": True, "trace_requests": 5}
    async with serve_guests(APP, guest, entries=[OBSERVE], **settings) as middleware:
        assert (await request(middleware)).status == 200
        counted = await request(metrics_app)
        assert b'asgi_wasm_observed_total{plugin="g0",verdict="answer"}' in counted.body
        (traced,) = middleware.traces()
        (verdict,) = [call for call in traced.calls if call.name == "on_request_headers"]
        assert "observed only" in verdict.answer


@pytest.mark.parametrize("phase", ["stream_create", "request_headers", "request_body", "log", "done"])
async def test_a_failure_is_nothing_to_the_same_plugin_beside_it(phase: str) -> None:
    """It is tried with another conf, and shares no VM with the one that enforces."""
    plugins = [
        {"name": "enforced", "file": PROBE, "priority": 1},
        {"name": "tried", "file": PROBE, "conf": f"{phase}: trap", **OBSERVE},
    ]
    async with WasmMiddleware(APP, settings={"plugins": plugins}) as middleware:
        for _ in range(3):
            response = await request(middleware, "POST", body=[b"body"])
            assert (response.status, response.body) == (200, b"app's answer")
