"""A failure in each callback of a plugin that serves, by every policy: what the request gets, and the next one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.driving import request, until
from tests.guests import Wrap
from tests.worker.faulty import OF_A_GRPC_STREAM, POLICIES, Faulty, comes_back, served

# In a request's own callbacks, so that it is the one that gets the policy.
IN_THE_REQUEST = [
    *(
        "on_context_create",
        "on_request_headers",
        "on_request_body",
        "on_response_headers",
        "on_response_body",
        "malloc",
    ),
]
# When some of the response is out, so that no other can take its place: at the second piece of the body, at trailers.
UNDER_WAY = ["on_response_body@2", "on_response_trailers"]
# After the response, which nothing can change any more.
AFTERWARDS = ["on_log", "on_done", "on_delete"]
# Of the root context, while another request is paused.
OUTSIDE = [
    *("on_tick", "on_queue_ready", "on_foreign_function", "on_http_call_response", "on_grpc_close"),
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", IN_THE_REQUEST)
async def test_in_the_request(wrap_guests: Wrap, phase: str, policy: str) -> None:
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy) as app:
        faulty.armed = True
        response = await request(app, "POST", headers=[(b"x-more", b"1")], body=[b"x"])
        assert faulty.traps == 1
        assert (response.status, response.body) == ((200, b"app") if policy == "fail_open" else (503, b""))
        faulty.armed = False
        await comes_back(app, faulty)


async def in_pieces(scope: Any, receive: Any, send: Any) -> None:
    """It answers ``app`` in two pieces, and trailers."""
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"pp"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", UNDER_WAY)
async def test_when_the_response_has_started(
    wrap_guests: Wrap, phase: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cut off, so that no client takes it for whole; only `fail_open` lets the rest pass."""
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy, in_pieces) as app:
        faulty.armed = True
        response = await request(app, extensions={"http.response.trailers": {}})
        faulty.armed = False
        assert (faulty.traps, response.status) == (1, 200)
        if policy == "fail_open":
            assert (response.body, response.trailers) == (b"app", [(b"x-sum", b"1")])
        else:
            assert response.body == (b"a" if phase == "on_response_body@2" else b"app")
            assert (response.trailers, response.complete) == ([], False)
        await comes_back(app, faulty)
    assert ("a response was cut off" in caplog.text) is (policy != "fail_open")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AFTERWARDS)
async def test_after_the_response(wrap_guests: Wrap, phase: str, policy: str) -> None:
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy) as app:
        faulty.armed = True
        response = await request(app, "POST", body=[b"x"])
        assert (response.status, response.body, faulty.traps) == (200, b"app", 1)
        faulty.armed = False
        await comes_back(app, faulty)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", OUTSIDE)
async def test_outside_of_requests(wrap_guests: Wrap, phase: str, policy: str) -> None:
    """Whoever waits for that VM has the policy."""
    faulty = Faulty(phase)
    faulty.calls_nobody = True

    async with served(wrap_guests, faulty, policy) as app:
        await fails_outside(app, faulty, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", OF_A_GRPC_STREAM)
async def test_in_a_callback_of_a_grpc_stream(wrap_guests: Wrap, phase: str, policy: str) -> None:
    pytest.importorskip("grpc")
    from tests.grpc_server import grpc_server

    faulty = Faulty(phase)

    async with grpc_server() as server, served(wrap_guests, faulty, policy, grpc=server.url) as app:
        await fails_outside(app, faulty, policy)


async def fails_outside(app: Any, faulty: Faulty, policy: str) -> None:
    paused = asyncio.ensure_future(request(app, headers=[(b"x-pause", b"1")]))
    await until(lambda: faulty.streams)
    faulty.armed = True
    response = await paused
    faulty.armed = False
    assert faulty.traps == 1
    assert (response.status, response.body) == ((200, b"app") if policy == "fail_open" else (503, b""))
    await comes_back(app, faulty)
