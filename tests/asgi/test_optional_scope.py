"""Scopes of every kind that ASGI allows: optional keys that are missing or None, any iterable for headers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.asgi.sockets import Socket, accepting
from tests.driving import http_scope
from tests.guests import CONTINUE, REQUEST_HEADERS, RESPONSE_HEADERS, Guest, Serve
from tests.plugins.conftest import PLUGINS

FIELDS = [(b"host", b"example.test"), (b"x-many", b"1"), (b"x-many", b"2")]
# Every attribute that a scope tells.
_NAMES = {
    "request": "path url_path host scheme method headers referer useragent id time protocol query duration size "
    "total_size headers_bytes",
    "response": "code code_details flags grpc_status headers headers_bytes size total_size",
    "source": "address port",
    "destination": "address port",
    "connection": "mtls requested_server_name tls_version subject_peer_certificate",
}
ATTRIBUTES = [f"{group}.{name}" for group, names in _NAMES.items() for name in names.split()]
KINDS: dict[str, Callable[[list[tuple[bytes, bytes]]], Iterable[Any]]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda fields: (field for field in fields),
    "map": lambda fields: map(tuple, fields),
    "list of lists": lambda fields: [list(field) for field in fields],
    "tuple of lists": lambda fields: tuple(list(field) for field in fields),
}
OPTIONAL = ("scheme", "raw_path", "query_string", "root_path", "headers", "client", "server", "extensions", "state",
            "http_version", "asgi")  # fmt: skip
CALLBACKS = ("on_request_headers", "on_response_headers", "on_request_body", "on_response_body")


def asking(answers: dict[str, bytes | None]) -> Callable[..., int]:
    """A callback that asks for every attribute, and for every header."""

    def callback(api: Hostcalls, *_: int) -> int:
        for name in ATTRIBUTES:
            answers[name] = api.get_property(name.replace(".", "\0").encode())
        answers["pairs"] = repr(api.get_header_map_pairs(REQUEST_HEADERS)).encode()
        return CONTINUE

    return callback


class Seen:
    """An app that notes its scope, its headers read in full."""

    def __init__(self, headers: Iterable[Any] = ()) -> None:
        self.scope: dict[str, Any] = {}
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = {**scope, "headers": [tuple(field) for field in scope.get("headers") or ()]}
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"ok"})


async def serve(middleware: WasmMiddleware, scope: dict[str, Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append({**message, "headers": [tuple(field) for field in message.get("headers") or ()]})

    await middleware(scope, receive, send)
    return sent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("callback", [None, *CALLBACKS])
@pytest.mark.parametrize("changes", [False, True])
async def test_headers_of_any_kind(serve_guests: Serve, kind: str, callback: str | None, changes: bool) -> None:
    pairs: list[Any] = []

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        pairs.extend(api.get_header_map_pairs(REQUEST_HEADERS))
        if changes:
            api.add_header_map_value(REQUEST_HEADERS, b"x-new", b"3")
        return CONTINUE

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        if changes:
            api.add_header_map_value(RESPONSE_HEADERS, b"x-new", b"3")
        return CONTINUE

    app = Seen(KINDS[kind]([(b"content-length", b"2"), (b"x-a", b"b")]))
    callbacks = {callback: passing} if callback else {}
    callbacks.update(on_request_headers=on_request_headers, on_response_headers=on_response_headers)
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [False, True])
async def test_headers_and_subprotocols_of_websockets(serve_guests: Serve, kind: str, changes: bool) -> None:
    seen: list[Any] = []
    scopes: list[dict[str, Any]] = []

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        seen.extend(api.get_header_map_pairs(REQUEST_HEADERS))
        if changes:
            api.add_header_map_value(REQUEST_HEADERS, b"x-new", b"3")
        return CONTINUE

    def on_response_headers(api: Hostcalls, *_: int) -> int:
        if changes:
            api.add_header_map_value(RESPONSE_HEADERS, b"x-new", b"3")
        return CONTINUE

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append({"headers": list(scope["headers"]), "subprotocols": list(scope["subprotocols"])})
        await accepting(headers=KINDS[kind]([(b"x-a", b"b")]), subprotocol="two")(scope, receive, send)

    guest = Guest(on_request_headers=on_request_headers, on_response_headers=on_response_headers)
    async with serve_guests(app, guest) as middleware:
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
