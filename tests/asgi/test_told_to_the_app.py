"""What plugins tell the app: the mapping in its scope."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Request

from asgi_wasm import PluginProperties
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request
from tests.guests import Guest, Serve


async def test_what_plugins_set_reaches_later_plugins_and_the_app(serve_guests: Serve) -> None:
    """It is live: the app sees at its end what a plugin set on its response."""
    seen: list[Any] = []

    def first(api: Hostcalls, *_: int) -> int:
        api.set_property(b"user", b"alice")
        api.set_property(b"raw\0part", b"\xff")
        api.set_property(b"request\0path", b"forged")
        return 0

    def second(api: Hostcalls, *_: int) -> int:
        seen.extend([api.get_property(b"user"), api.get_property(b"request\0path")])
        return 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        properties = scope["asgi_wasm"]
        seen.append(dict(properties))
        await answering(b"")(scope, receive, send)
        seen.append(properties.text("late"))

    guests = (
        Guest(on_request_headers=first, on_response_headers=lambda api, *_: api.set_property(b"late", b"yes")),
        Guest(on_request_headers=second),
    )
    async with serve_guests(app, *guests) as middleware:
        await request(middleware)
    assert seen == [b"alice", b"/", {"user": b"alice", "raw\0part": b"\xff", "request\0path": b"forged"}, "yes"]


def test_mapping_for_the_app() -> None:
    properties = PluginProperties({b"user": b"alice", b"raw": b"\xff", b"\xff": b"1"})
    assert properties["user"] == b"alice"
    assert (len(properties), set(properties)) == (3, {"user", "raw", "\udcff"})
    assert properties["\udcff"] == b"1"
    assert properties.text("raw") == "\N{REPLACEMENT CHARACTER}"
    assert (properties.text("absent"), properties.text("absent", "x"), properties.get("absent")) == ("", "x", None)
    assert repr(PluginProperties({b"a": b"1"})) == "PluginProperties({'a': b'1'})"
    with pytest.raises(KeyError):
        properties["absent"]


async def test_request_without_plugins_has_an_empty_mapping(serve_guests: Serve) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["asgi_wasm"]))
        await answering(b"")(scope, receive, send)

    async with serve_guests(app) as middleware:
        await request(middleware)
    assert seen == [{}]


fastapi = FastAPI()


@fastapi.get("/")
async def who(request: Request) -> dict[str, str]:
    return {"user": request.scope["asgi_wasm"]["user"].decode()}


async def test_fastapi_reads_it(serve_guests: Serve) -> None:
    guest = Guest(on_request_headers=lambda api, *_: api.set_property(b"user", b"alice"))
    async with serve_guests(fastapi, guest) as middleware:
        assert (await request(middleware)).body == b'{"user":"alice"}'
