"""Scopes of every kind that ASGI allows: optional keys that are missing or None."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.asgi.odd_scopes import ATTRIBUTES, CALLBACKS, Seen, asking, serve
from tests.asgi.websocket.sockets import Socket, accepting
from tests.driving import http_scope
from tests.guests import CONTINUE, REQUEST_HEADERS, Guest, Serve
from tests.plugins.conftest import PLUGINS

OPTIONAL = ("scheme", "raw_path", "query_string", "root_path", "headers", "client", "server", "extensions", "state",
            "http_version", "asgi")  # fmt: skip


@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("absent", [{}, {"value": None}], ids=["missing", "None"])
@pytest.mark.parametrize("count", [1, 2, len(OPTIONAL)])
async def test_optional_keys(serve_guests: Serve, callback: str, absent: dict[str, None], count: int) -> None:
    """No hostcall fails (a guest traps on a refused one), and the app is called."""
    answers: dict[str, bytes | None] = {}

    app = Seen()
    callbacks = {callback: passing, "on_request_headers": asking(answers), "on_log": asking(answers)}
    async with serve_guests(app, Guest(**callbacks)) as middleware:
        for keys in itertools.combinations(OPTIONAL, count):
            scope = http_scope()
            for key in keys:
                scope.pop(key, None)
                if absent:
                    scope[key] = None
            assert (await serve(middleware, scope))[0]["status"] == 200, keys
            assert answers["request.method"] == b"GET"
            assert answers["request.scheme"] == b"http"


@pytest.mark.parametrize("plugin", ["headers/c", "probe/abi_0_2_1", "fault_injection/rust", "body/c"])
@pytest.mark.parametrize("absent", [{}, {"value": None}], ids=["missing", "None"])
async def test_optional_keys_and_compiled_plugins(plugin: str, absent: dict[str, None]) -> None:
    script = "".join(f'request_headers: get_property "{name}"\n' for name in ATTRIBUTES)
    conf = script if plugin.startswith("probe") else '{"http_status": 200, "body": "x", "percentage": 0}'
    app = Seen()
    entry = {"name": "p", "file": PLUGINS / f"{plugin}.wasm", "conf": conf}
    async with WasmMiddleware(app, settings={"plugins": [entry]}) as middleware:
        for keys in (*((key,) for key in OPTIONAL), OPTIONAL):
            scope = http_scope()
            for key in keys:
                scope.pop(key, None)
                if absent:
                    scope[key] = None
            assert (await serve(middleware, scope))[0]["status"] == 200, keys


@pytest.mark.parametrize(
    "tls",
    [None, {}, {"server_name": None}, {"tls_version": None, "client_cert_name": None}, {"tls_version": 0x0304}],
)
async def test_what_the_tls_extension_leaves_out(serve_guests: Serve, tls: dict[str, Any] | None) -> None:
    answers: dict[str, bytes | None] = {}

    async with serve_guests(Seen(), Guest(on_request_headers=asking(answers))) as middleware:
        assert (await serve(middleware, http_scope(extensions={"tls": tls})))[0]["status"] == 200
    assert answers["connection.requested_server_name"] == b""
    assert answers["connection.mtls"] == b"\0"


@pytest.mark.parametrize("address", [("10.0.0.1", 80), ["10.0.0.1", 80], ("10.0.0.1", None), ("/run/app.sock", None)])
async def test_addresses(serve_guests: Serve, address: Any) -> None:
    answers: dict[str, bytes | None] = {}

    async with serve_guests(Seen(), Guest(on_request_headers=asking(answers))) as middleware:
        scope = http_scope(client=address, server=address)
        assert (await serve(middleware, scope))[0]["status"] == 200
    told = b"10.0.0.1:80" if address[1] else address[0].encode()
    assert (answers["source.address"], answers["destination.address"]) == (told, told)


CRUMBS = [(b"cookie", b"a=1"), (b"x-a", b"b"), (b"cookie", b"c=2"), (b"cookie", b"d=3; e=4")]


@pytest.mark.parametrize(("version", "joined"), [("1.1", False), ("2", True), ("2.0", True), ("3", True)])
@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
async def test_cookies_in_pieces(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, version: str, joined: bool, changes: bool, compiled: bool
) -> None:
    """HTTP/2 and 3 allow one `cookie` for each pair (RFC 9113 8.2.3): a plugin sees one, as behind Envoy."""
    seen: list[Any] = []
    whole = [(b"cookie", b"a=1; c=2; d=3; e=4"), (b"x-a", b"b")]

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        seen.extend(pair for pair in api.get_header_map_pairs(REQUEST_HEADERS) if not pair[0].startswith(b":"))
        if changes:
            api.add_header_map_value(REQUEST_HEADERS, b"x-new", b"3")
        return CONTINUE

    app = Seen()
    scope = http_scope(headers=CRUMBS, http_version=version)
    if compiled:
        caplog.set_level("INFO")
        script = 'request_headers: get_header_map_value 0 "cookie"\n'
        script += 'request_headers: add_header_map_value 0 "x-new" "3"\n' if changes else ""
        entry = {"name": "p", "file": PLUGINS / "probe" / "abi_0_2_1.wasm", "conf": script}
        async with WasmMiddleware(app, settings={"plugins": [entry]}) as middleware:
            await serve(middleware, scope)
        assert ("a=1; c=2; d=3; e=4" in caplog.text) is joined
    else:
        async with serve_guests(app, Guest(on_request_headers=on_request_headers)) as middleware:
            await serve(middleware, scope)
        assert seen == (whole if joined else CRUMBS)
    got = [field for field in app.scope["headers"] if field[0] in (b"cookie", b"x-a")]
    assert got == (whole if joined and changes else CRUMBS)


@pytest.mark.parametrize("callback", ["on_request_headers", "on_response_headers", "on_response_body"])
@pytest.mark.parametrize("absent", [{}, {"value": None}], ids=["missing", "None"])
async def test_optional_keys_of_websockets(serve_guests: Serve, callback: str, absent: dict[str, None]) -> None:
    answers: dict[str, bytes | None] = {}
    optional = (*OPTIONAL, "subprotocols")

    callbacks = {callback: passing, "on_request_headers": asking(answers), "on_log": asking(answers)}
    async with serve_guests(accepting(), Guest(**callbacks)) as middleware:
        for keys in (*((key,) for key in optional), optional):
            socket = Socket(middleware)
            for key in keys:
                socket.scope.pop(key, None)
                if absent:
                    socket.scope[key] = None
            socket.hang_up()
            assert [message["type"] for message in await socket.over()] == ["websocket.accept"], keys
            assert (answers["request.method"], answers["request.scheme"]) == (b"GET", b"http")
