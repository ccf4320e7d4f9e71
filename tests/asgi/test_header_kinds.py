"""A scope's headers may be any iterable of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from asgi_wasm.testing.guests.guests import Callback
from tests.asgi.acting import passing
from tests.asgi.odd_scopes import CALLBACKS, FIELDS, Seen, serve
from tests.asgi.websocket.sockets import Socket, accepting
from tests.driving import http_scope
from tests.guests import CONTINUE, REQUEST_HEADERS, RESPONSE_HEADERS, Guest, Serve

KINDS: dict[str, Callable[[list[tuple[bytes, bytes]]], Iterable[Any]]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda fields: (field for field in fields),
    "map": lambda fields: map(tuple, fields),
    "list of lists": lambda fields: [list(field) for field in fields],
    "tuple of lists": lambda fields: tuple(list(field) for field in fields),
}


def reading(pairs: list[Any], *, changes: bool) -> dict[str, Callback]:
    """Callbacks that keep the request's headers, and add one to both heads if they are to change something."""

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        pairs.extend(api.get_header_map_pairs(REQUEST_HEADERS))
        if changes:
            api.add_header_map_value(REQUEST_HEADERS, b"x-new", b"3")
        return CONTINUE

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        if changes:
            api.add_header_map_value(RESPONSE_HEADERS, b"x-new", b"3")
        return CONTINUE

    return {"on_request_headers": on_request_headers, "on_response_headers": on_response_headers}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("callback", [None, *CALLBACKS])
@pytest.mark.parametrize("changes", [False, True])
async def test_headers_of_any_kind(serve_guests: Serve, kind: str, callback: str | None, changes: bool) -> None:
    pairs: list[Any] = []

    app = Seen(KINDS[kind]([(b"content-length", b"2"), (b"x-a", b"b")]))
    callbacks = {callback: passing} if callback else {}
    callbacks.update(reading(pairs, changes=changes))
    async with serve_guests(app, Guest(**callbacks)) as middleware:
        scope = http_scope()
        scope["headers"] = KINDS[kind](FIELDS)
        sent = await serve(middleware, scope)
    more = [(b"x-new", b"3")] if changes else []
    assert [pair for pair in pairs if pair[0] == b"x-many"] == FIELDS[1:]
    assert app.scope["headers"] == FIELDS + more
    assert sent[0]["headers"] == [(b"content-length", b"2"), (b"x-a", b"b"), *more]
    # Others outside find them, too.
    assert [tuple(field) for field in scope["headers"]] == FIELDS


# Logs the response's `x-a`, and has no other callback.
_LOGGING = """(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-a")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) i32.const 64)
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_log") (param i32)
    (drop (call $get (i32.const 2) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 20)))
    (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20))))))"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accelerator", ["off", "auto"])
async def test_headers_of_any_kind_are_there_for_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, accelerator: str
) -> None:
    """The server has read them by then."""
    caplog.set_level("INFO")
    (tmp_path / "logging.wasm").write_bytes(bytes(wasmtime.wat2wasm(_LOGGING)))
    plugins = [{"name": "p", "file": tmp_path / "logging.wasm"}]
    fields = [(b"x-a", b"found"), (b"x-b", b"1")]
    app = Seen()
    async with WasmMiddleware(app, settings={"plugins": plugins, "accelerator": accelerator}) as middleware:
        for _ in range(2):
            app.headers = KINDS[kind](fields)
            assert (await serve(middleware, http_scope()))[0]["headers"] == fields
    assert [record.message for record in caplog.records if record.message == "found"] == ["found"] * 2


@pytest.mark.parametrize("kind", ["tuple", "generator", "list of lists"])
@pytest.mark.parametrize("routed", [False, True])
async def test_headers_of_any_kind_by_routes(serve_guests: Serve, kind: str, routed: bool) -> None:
    """Routes read them first, and where no plugin runs the app still finds them."""

    app, guest = Seen(), Guest(on_request_headers=passing)
    routes = [{"uri": "/*", "hosts": ["example.test" if routed else "other.test"], "plugins": {"g0": {}}}]
    async with serve_guests(app, guest, routes=routes) as middleware:
        scope = http_scope()
        scope["headers"] = KINDS[kind](FIELDS)
        await serve(middleware, scope)
    assert app.scope["headers"] == FIELDS
    assert len(guest.created) == int(routed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [False, True])
async def test_headers_and_subprotocols_of_websockets(serve_guests: Serve, kind: str, changes: bool) -> None:
    seen: list[Any] = []
    scopes: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append({"headers": list(scope["headers"]), "subprotocols": list(scope["subprotocols"])})
        await accepting(headers=KINDS[kind]([(b"x-a", b"b")]), subprotocol="two")(scope, receive, send)

    async with serve_guests(app, Guest(**reading(seen, changes=changes))) as middleware:
        socket = Socket(middleware)
        socket.scope["headers"] = KINDS[kind](FIELDS)
        socket.scope["subprotocols"] = (word for word in ("one", "two"))
        socket.hang_up()
        (accept,) = await socket.over()
    more = [(b"x-new", b"3")] if changes else []
    assert (b"sec-websocket-protocol", b"one, two") in seen
    assert [pair for pair in seen if pair[0] == b"x-many"] == FIELDS[1:]
    assert [tuple(field) for field in accept["headers"]] == [(b"x-a", b"b"), *more]
    assert accept["subprotocol"] == "two"
    assert scopes[0]["subprotocols"] == ["one", "two"]
