"""Bytes in, bytes out: what each server sends for the app behind plugins is what it sends for the bare app.

But for the header fields that the plugins add, and the date.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.servers.conftest import HTTP2, SERVERS
from tests.serving import Server
from tests.waiting import SECONDS, wait_until

_ADDED = re.compile(rb"(?im)^(?:date|x-plugin|x-seen-[a-z-]+): [^\r]*\r\n")
Find = Callable[[str], Server]


def exchange(server: Server, sent: bytes, *, cut: int = 0) -> bytes:
    """What comes back on one connection until the server closes it; ``cut`` bytes at a time, all at once for 0."""
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
        size = cut or len(sent)
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
        got = b""
        while piece := connection.recv(65536):
            got += piece
    return got


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *fields, "", ""]).encode() + body


def pipelined(prefix: str, *fields: str) -> bytes:
    """Six requests in one piece; the last one ends the connection."""
    chunked = b"3\r\nabc\r\n4;x=1\r\ndefg\r\n0\r\n\r\n"
    return b"".join(
        [
            request(f"GET {prefix}/stream", *fields),
            request(f"POST {prefix}/echo", "Content-Length: 5", *fields, body=b"12345"),
            request(f"POST {prefix}/echo", "Transfer-Encoding: chunked", *fields, body=chunked),
            request(f"HEAD {prefix}/sized", *fields),
            request(f"GET {prefix}/204", *fields),
            request(f"GET {prefix}/sized", "Connection: close", *fields),
        ]
    )


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("fields", [(), ("x-lifecycle: pause",)], ids=["straight", "paused"])
@pytest.mark.parametrize("cut", [0, 7])
def test_pipelined_requests(server_named: Find, name: str, fields: tuple[str, ...], cut: int) -> None:
    server = server_named(name)
    bare = exchange(server, pipelined("/bare", *fields), cut=cut)
    assert bare.count(b"HTTP/1.1 ") == 6, bare
    through = exchange(server, pipelined("", *fields), cut=cut)
    assert through.lower().count(b"x-plugin: 1") == 6
    assert _ADDED.sub(b"", through) == _ADDED.sub(b"", bare)


@pytest.mark.parametrize("name", SERVERS)
def test_answers_of_plugins_between_those_of_the_app(server_named: Find, name: str) -> None:
    """A pipelined request whose body nobody read leaves the ones behind it alone."""
    server = server_named(name)
    denied = request("POST /echo", "Content-Length: 5", "x-lifecycle: reply", body=b"12345")
    last = request("GET /sized", "Connection: close")
    got = exchange(server, request("GET /sized") + denied + last)
    assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"200", b"403", b"200"], got
    assert got.count(b"\r\n\r\nhello") == 2 and got.count(b"\r\n\r\nreply") == 1


@pytest.mark.parametrize("name", SERVERS)
def test_plugins_do_not_wait_for_background_work(server_named: Find, name: str) -> None:
    server = server_named(name)
    before = len(server.log())
    exchange(server, request("GET /background", "Connection: close"))
    wait_until(lambda: "background work is done" in server.log()[before:], server.log)
    log = server.log()[before:]
    work = log.partition("background work is done")[0]
    assert all(f"{callback}(" in work for callback in ("on_log", "on_done", "on_delete")), log


KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ECHO = b"\x81\x02hi"


def handshake(server: Server, path: str, *fields: str) -> bytes:
    """A WebSocket's handshake, a frame and its echo, and the end: all that the server sends."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
        connection.sendall(request(f"GET {path}", *upgrade, "Sec-WebSocket-Protocol: chat, two", *fields))
        got = connection.recv(65536)
        if got.startswith(b"HTTP/1.1 101"):
            # Masked with zeros (RFC 6455 5.2); the close, with code 1000, when the echo is there.
            connection.sendall(b"\x81\x82\0\0\0\0hi")
            while ECHO not in got:
                got += connection.recv(65536) or b"(ended)" + ECHO
            connection.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        while piece := connection.recv(65536):
            got += piece
    return got


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("fields", [(), ("x-lifecycle: pause",)], ids=["straight", "paused"])
def test_websocket(server_named: Find, name: str, fields: tuple[str, ...]) -> None:
    server = server_named(name)
    bare, through = handshake(server, "/bare/socket", *fields), handshake(server, "/socket", *fields)
    assert bare.startswith(b"HTTP/1.1 101") and ECHO in bare and b"(ended)" not in bare
    # Daphne and Granian send no header of an accept.
    assert (
        through.lower().count(b"x-plugin: 1") == bare.lower().count(b"x-app: 1") == (name not in ("daphne", "granian"))
    )
    assert through.lower().count(b"sec-websocket-protocol: chat") == 1
    assert _ADDED.sub(b"", through) == _ADDED.sub(b"", bare)


@pytest.mark.parametrize("name", SERVERS)
def test_websocket_that_a_plugin_denies(server_named: Find, name: str) -> None:
    got = handshake(server_named(name), "/socket", "x-lifecycle: reply", "Connection: close")
    assert got.startswith(b"HTTP/1.1 403"), got


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("fields", [(), ("x-lifecycle: pause",)], ids=["straight", "paused"])
@pytest.mark.parametrize("path", ["/refused", "/refused/pieces"])
def test_websocket_that_the_app_denies(server_named: Find, name: str, fields: tuple[str, ...], path: str) -> None:
    """With a response, which passes plugins as one to a GET does, where the server takes one."""
    if name == "granian" and path == "/refused/pieces":
        pytest.skip("Granian takes no denial in pieces, from the bare app neither")
    server, fields = server_named(name), (*fields, "Connection: close")
    bare, through = handshake(server, f"/bare{path}", *fields), handshake(server, path, *fields)
    if b" 401 " in bare.partition(b"\r\n")[0]:
        assert b"sign in" in bare and through.lower().count(b"x-plugin: 1") == 1
    assert _ADDED.sub(b"", through) == _ADDED.sub(b"", bare)


@pytest.mark.parametrize("name", SERVERS)
def test_subprotocol_that_a_plugin_chooses(server_named: Find, name: str) -> None:
    server = server_named(name)
    assert b"sec-websocket-protocol" not in handshake(server, "/bare/chosen").lower()
    assert handshake(server, "/chosen").lower().count(b"sec-websocket-protocol: two\r\n") == 1


class Http2:
    """One connection of prior knowledge; `ask` sends all requests before it reads anything."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), SECONDS)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))

    def ask(self, *requests: tuple[bytes, bytes, bytes | None, tuple[bytes, bytes] | None]) -> list[dict[str, Any]]:
        """Method, path, body (None: the headers are the end) and one more field each; what came back for each."""
        self._h2.initiate_connection()
        answers: dict[int, dict[str, Any]] = {}
        for method, path, body, field in requests:
            stream = self._h2.get_next_available_stream_id()
            answers[stream] = {"headers": [], "body": b"", "ended": 0, "trailers": []}
            head = [(b":method", method), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
            self._h2.send_headers(stream, [*head, *([field] if field else [])], end_stream=body is None)
            if body is not None:
                self._h2.send_data(stream, body, end_stream=True)
        with self._socket:
            self._socket.sendall(self._h2.data_to_send())
            while not all(answer["ended"] for answer in answers.values()):
                data = self._socket.recv(65536)
                assert data, answers
                for event in self._h2.receive_data(data):
                    self._take(answers, event)
                self._socket.sendall(self._h2.data_to_send())
        return list(answers.values())

    def _take(self, answers: dict[int, dict[str, Any]], event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            answers[event.stream_id]["headers"] += [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            answers[event.stream_id]["body"] += event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answers[event.stream_id]["ended"] += 1
        elif isinstance(event, h2.events.StreamReset):
            raise AssertionError(f"reset with {event.error_code}: {answers}")


def without_added(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for answer in answers:
        answer["headers"] = [
            (name, value)
            for name, value in answer["headers"]
            if name not in (b"date", b"x-plugin") and not name.startswith(b"x-seen-")
        ]
    return answers


@pytest.mark.parametrize("name", HTTP2)
@pytest.mark.parametrize("field", [None, (b"x-lifecycle", b"pause")], ids=["straight", "paused"])
def test_http2_streams(server_named: Find, name: str, field: tuple[bytes, bytes] | None) -> None:
    server = server_named(name)

    def ask(prefix: bytes) -> list[dict[str, Any]]:
        requests: list[Any] = [
            (b"GET", prefix + b"/stream", None, field),
            (b"POST", prefix + b"/echo", b"12345", field),
            (b"GET", prefix + b"/204", None, field),
            (b"PUT", prefix + b"/echo", b"", field),
        ]
        if name != "granian":
            # Granian sends the body of a HEAD, which h2 does not take.
            requests.append((b"HEAD", prefix + b"/sized", None, field))
        if field is None:
            return Http2(server).ask(*requests)
        # The plugin resumes the one that paused last.
        return [answer for one in requests for answer in Http2(server).ask(one)]

    bare, through = ask(b"/bare"), ask(b"")
    assert [answer["body"] for answer in bare][:4] == [b"onetwo", b"12345", b"", b""]
    assert all((b"x-plugin", b"1") in answer["headers"] for answer in through)
    assert without_added(through) == without_added(bare)


@pytest.mark.parametrize("name", HTTP2)
def test_http2_answer_of_a_plugin(server_named: Find, name: str) -> None:
    answers = Http2(server_named(name)).ask(
        (b"POST", b"/echo", b"12345", (b"x-lifecycle", b"reply")), (b"GET", b"/sized", None, None)
    )
    assert [(dict(answer["headers"])[b":status"], answer["body"]) for answer in answers] == [
        (b"403", b"reply"),
        (b"200", b"hello"),
    ]


@pytest.mark.parametrize("name", SERVERS)
def test_no_server_complained(server_named: Find, name: str) -> None:
    """Runs last."""
    log = server_named(name).log()
    for complaint in ("Traceback", "was never retrieved", "was destroyed but it is pending", "VM failed"):
        assert complaint not in log, log
