"""Every attribute that an ASGI scope can answer, typed as Envoy types it."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest

from asgi_wasm import cel
from asgi_wasm.asgi import properties as attributes
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.host.codecs.wire import decode_pairs
from asgi_wasm.host.hostcalls import properties as hostcalls
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request
from tests.guests import REQUEST_HEADERS, Guest, Serve

TLS = {"tls_version": 0x0304, "client_cert_name": "CN=alice", "server_cert": None}


async def read(
    serve_guests: Serve, phase: str, paths: list[str], app: Any = None, **asked: Any
) -> dict[str, bytes | None]:
    """What a plugin reads in one phase."""
    seen: dict[str, bytes | None] = {}

    def on_phase(api: Hostcalls, *_: int) -> int:
        seen.update({path: api.get_property(path.replace(".", "\0").encode()) for path in paths})
        return 0

    async with serve_guests(app or answering(b"12345"), Guest(**{phase: on_phase})) as middleware:
        await request(middleware, **asked)
    return seen


def i64(value: int) -> bytes:
    return struct.pack("<q", value)


REQUEST: dict[str, bytes | None] = {
    "request.path": b"/a%20b?q=1",
    "request.url_path": b"/a%20b",
    "request.query": b"q=1",
    "request.host": b"example.test",
    "request.scheme": b"http",
    "request.method": b"POST",
    "request.referer": b"http://r.test/",
    "request.useragent": b"pytest",
    "request.id": b"id-1",
    "request.protocol": b"HTTP/1.1",
    "request.headers.referer": b"http://r.test/",
    "request.headers.X-Twice": b"1,2",
    "request.headers.absent": None,
    "request.headers.referer.deeper": None,
    "request.duration": None,
    "response.code": None,
    "response.code_details": None,
    "response.grpc_status": None,
    # There from the beginning, as in Envoy.
    "response.flags": i64(0),
    "response.headers": bytes(4),
    "response.headers_bytes": i64(0),
    "response.trailers": bytes(4),
    "response.size": i64(0),
    "response.total_size": i64(0),
    "source.address": b"127.0.0.1:40000",
    "source.port": i64(40000),
    "destination.address": b"127.0.0.1:8000",
    "destination.port": i64(8000),
    "connection.mtls": b"\1",
    "connection.tls_version": b"TLSv1.3",
    "connection.subject_peer_certificate": b"CN=alice",
    "upstream.address": None,
    "plugin_name": b"g0",
    "plugin_root_id": b"",
    "plugin_vm_id": b"",
    "listener_direction": i64(1),
}
HEADERS = [
    (b"referer", b"http://r.test/"),
    (b"user-agent", b"pytest"),
    (b"x-request-id", b"id-1"),
    (b"x-twice", b"1"),
    (b"x-twice", b"2"),
    (b"content-length", b"3"),
]
ASKED: dict[str, Any] = {
    "method": "POST",
    "path": "/a%20b?q=1",
    "headers": HEADERS,
    "body": [b"abc"],
    "extensions": {"tls": TLS},
}


def test_expressions_know_each_attribute() -> None:
    """`cel_evaluate` and `when:` read what a plugin may, and a part of a path has no value of its own."""
    told = {(root, leaf) for root, leaves in cel.ATTRIBUTES.items() for leaf in leaves}
    kept = {tuple(part.decode() for part in path) for path in attributes._ATTRIBUTES if len(path) == 2}
    assert told == kept, "an attribute stands in asgi/properties.py (_ATTRIBUTES) and in cel.py (ATTRIBUTES)"
    starts = {part.decode() for part in hostcalls._STARTS}
    assert cel.ATTRIBUTES.keys() <= starts, "its first part stands in host/hostcalls/properties.py (_STARTS), too"


async def test_in_request_headers(serve_guests: Serve) -> None:
    assert await read(serve_guests, "on_request_headers", list(REQUEST), **ASKED) == REQUEST


async def test_time_is_a_timestamp_and_sizes_are_integers(serve_guests: Serve) -> None:
    before = time.time_ns()
    paths = ["request.time", "request.headers_bytes", "request.size", "request.total_size", "request.headers"]
    seen = await read(serve_guests, "on_log", paths, **ASKED)
    (when,) = struct.unpack("<q", seen["request.time"] or b"")
    assert before <= when <= time.time_ns()
    pseudo = [(b":authority", b"example.test"), (b":path", b"/a%20b?q=1"), (b":method", b"POST"), (b":scheme", b"http")]
    size = sum(len(name) + len(value) for name, value in [*pseudo, *HEADERS])
    assert seen["request.headers_bytes"] == i64(size)
    # Also when no plugin looks at the body.
    assert seen["request.size"] == i64(3)
    assert seen["request.total_size"] == i64(size + 3)
    assert dict(decode_pairs(seen["request.headers"] or b""))[b"x-twice"] == b"1,2"


async def test_in_response_headers(serve_guests: Serve) -> None:
    paths = ["response.code", "response.code_details", "response.flags", "response.headers.x-a", "response.size"]
    app = answering(b"12345", status=201, headers=[(b"x-a", b"1"), (b"x-a", b"2")])
    assert await read(serve_guests, "on_response_headers", paths, app) == {
        "response.code": i64(201),
        "response.code_details": b"via_upstream",
        "response.flags": i64(0),
        "response.headers.x-a": b"1,2",
        "response.size": i64(0),
    }


async def test_at_the_end(serve_guests: Serve) -> None:
    paths = ["response.size", "response.total_size", "response.headers_bytes", "request.duration", "response.trailers"]
    seen = await read(serve_guests, "on_log", paths, answering(b"123", b"45", headers=[(b"x-a", b"1")]))
    size = len(b":status200x-a1")
    assert seen["response.size"] == i64(5)
    assert seen["response.headers_bytes"] == i64(size)
    assert seen["response.total_size"] == i64(size + 5)
    assert 0 < struct.unpack("<q", seen["request.duration"] or b"")[0] < 60 * 10**9
    assert seen["response.trailers"] == bytes(4)


async def test_trailers_and_grpc_status(serve_guests: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = [
            {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
            {"type": "http.response.body", "body": b"x"},
            {"type": "http.response.trailers", "headers": [(b"grpc-status", b"7"), (b"x-t", b"1")]},
        ]
        for message in messages:
            await send(message)

    paths = ["response.grpc_status", "response.trailers.x-t"]
    extensions: dict[str, Any] = {"http.response.trailers": {}}
    seen = await read(serve_guests, "on_log", paths, app, extensions=extensions)
    assert seen == {"response.grpc_status": i64(7), "response.trailers.x-t": b"1"}
    for value, expected in ((b"3", i64(3)), (b"nonsense", i64(2))):
        in_headers = answering(b"", headers=[(b"grpc-status", value)])
        assert (await read(serve_guests, "on_log", paths, in_headers))["response.grpc_status"] == expected


async def test_details_of_a_local_response(serve_guests: Serve) -> None:
    seen: list[Any] = []

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403, details=b"told")
        return 1

    guest = Guest(
        on_request_headers=on_request_headers,
        on_log=lambda api, context: seen.append(api.get_property(b"response\0code_details")),
    )
    async with serve_guests(answering(b""), guest) as middleware:
        await request(middleware)
    assert seen == [b"told"]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (
            {"client": None, "server": None},
            {"source.address": None, "source.port": None, "destination.port": None, "destination.address": None},
        ),
        ({"server": ("/tmp/sock", None)}, {"destination.address": b"/tmp/sock", "destination.port": None}),
        ({"client": ("::1", 5)}, {"source.address": b"[::1]:5", "source.port": i64(5)}),
        ({"http_version": "1.0"}, {"request.protocol": b"HTTP/1.0"}),
        ({"http_version": "2"}, {"request.protocol": b"HTTP/2"}),
        ({"http_version": "3"}, {"request.protocol": b"HTTP/3"}),
        (
            {},
            {
                "connection.mtls": b"\0",
                "connection.tls_version": None,
                "connection.subject_peer_certificate": None,
                "request.query": b"",
                "request.id": None,
                "request.useragent": None,
            },
        ),
        ({"extensions": {"tls": {"tls_version": 0x0999}}}, {"connection.tls_version": None}),
    ],
)
async def test_other_scopes(serve_guests: Serve, scope: dict[str, Any], expected: dict[str, bytes | None]) -> None:
    assert await read(serve_guests, "on_request_headers", list(expected), **scope) == expected


async def test_attributes_follow_what_plugins_write(serve_guests: Serve) -> None:
    seen: list[Any] = []

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        api.replace_header_map_value(REQUEST_HEADERS, b":path", b"/new?z")
        seen.extend(
            [
                api.get_property(b"request\0path"),
                api.get_property(b"request\0url_path"),
                api.get_property(b"request\0query\0"),
            ]
        )
        api.remove_header_map_value(REQUEST_HEADERS, b":path")
        seen.extend([api.get_property(b"request\0url_path"), api.get_property(b"request\0query")])
        return 0

    async with serve_guests(answering(b""), Guest(on_request_headers=on_request_headers)) as middleware:
        await request(middleware)
    assert seen == [b"/new?z", b"/new", b"z", None, None]
