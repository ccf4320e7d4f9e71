"""Trailers of responses."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing, pausing
from tests.asgi.exchange.messages import START, body
from tests.driving import request
from tests.guests import CONTINUE, Guest, Serve

TRAILERS: dict[str, Any] = {"type": "http.response.trailers", "headers": []}


@pytest.mark.parametrize("offered", [True, False])
async def test_response_trailers(serve_guests: Serve, offered: bool) -> None:
    """They pass the plugins; a server that does not take them is not told of any."""
    seen: list[tuple[int, int]] = []
    guest = Guest(
        on_response_body=lambda api, context, size, end: seen.append((size, end)),
        on_response_trailers=lambda api, context, count: api.add_header_map_value(3, b"x-plugin", b"1"),
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        await send(body(b"app"))
        await send({"type": "http.response.trailers", "headers": [(b"X-App", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-app", b"2")], "more_trailers": False})

    extensions: dict[str, Any] = {"http.response.trailers": {}} if offered else {}
    async with serve_guests(app, guest) as middleware:
        response = await request(middleware, extensions=extensions)
        kinds = [message["type"].rpartition(".")[2] for message in response.messages]
        assert response.body == b"app"
        if offered:
            assert kinds == ["start", "body", "body", "trailers"]
            assert response.messages[0]["trailers"] is True
            assert response.messages[-1]["headers"] == [(b"x-app", b"1"), (b"x-app", b"2"), (b"x-plugin", b"1")]
        else:
            assert kinds == ["start", "body", "body"]
            assert "trailers" not in response.messages[0]
    assert seen == [(3, 0)]


@pytest.mark.parametrize("phase", ["response_headers", "response_body"])
async def test_local_response_in_place_of_one_with_trailers(serve_guests: Serve, phase: str) -> None:
    """What the app announced was about its own response: a server would wait for trailers that never come."""

    def on_phase(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403, b"no")
        return CONTINUE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"3")], "trailers": True})
        await send(body(b"app"))
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

    extensions: dict[str, Any] = {"http.response.trailers": {}}
    async with serve_guests(app, Guest(**{f"on_{phase}": on_phase})) as middleware:
        response = await request(middleware, extensions=extensions)
        assert (response.status, response.body, response.complete) == (403, b"no", True)
        assert "trailers" not in response.messages[0]


async def test_trailers_behind_a_body_that_is_held(serve_guests: Serve) -> None:
    """Nothing was sent yet when they come: head, body and trailers leave in their order."""
    guest = Guest(
        on_response_body=pausing,
        on_response_trailers=lambda api, *_: (
            api.add_header_map_value(3, b"x-bad", b"1\r\n") or api.add_header_map_value(3, b"x-good", b"1")
        ),
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"0003")], "trailers": True})
        await send(body(b"app"))
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

    extensions: dict[str, Any] = {"http.response.trailers": {}}
    async with serve_guests(app, guest) as middleware:
        start, piece, end, trailers = (await request(middleware, extensions=extensions)).messages
        assert start["trailers"] is True
        assert (piece["body"], piece["more_body"], end["body"], end["more_body"]) == (b"app", True, b"", False)
        assert trailers["headers"] == [(b"x-good", b"1")]


async def test_trailers_without_any_body(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"00")], "trailers": True})
        await send(body(b""))
        await send({"type": "http.response.trailers", "headers": [(b"x-t", b"1")], "more_trailers": False})

    extensions: dict[str, Any] = {"http.response.trailers": {}}
    async with serve_guests(app, Guest(on_response_body=passing)) as middleware:
        response = await request(middleware, extensions=extensions)
        kinds = [message["type"].rpartition(".")[2] for message in response.messages]
        assert kinds == ["start", "body", "trailers"]


@pytest.mark.parametrize(
    ("before", "odd"),
    [
        ([], TRAILERS),
        ([body(b"app", more=True)], TRAILERS),
        ([body(b"app")], body(b"again")),
        ([body(b"app")], {"type": "http.response.pathsend", "path": "/app"}),
    ],
)
async def test_what_comes_out_of_turn_is_refused_at_once(serve_guests: Serve, before: list[Any], odd: Any) -> None:
    """The client still waits for what is to come: an app that waited for all to be out would do so for ever."""
    refused: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        for message in before:
            await send(message)
        try:
            await send(odd)
        except RuntimeError as error:
            refused.append(str(error))
        if not before or before[-1].get("more_body"):
            await send(body(b"end"))
        await send({**TRAILERS, "headers": [(b"x-t", b"1")]})

    async with serve_guests(app, Guest(on_response_trailers=passing)) as middleware:
        response = await request(middleware, extensions={"http.response.trailers": {}})
        assert response.messages[-1]["headers"] == [(b"x-t", b"1")]
        assert response.body in (b"app", b"end", b"append")
    expected = "body" if odd["type"] == TRAILERS["type"] else "trailers"
    assert refused == [f"Expected ASGI message 'http.response.{expected}', but got {odd['type']!r}."]
