"""Real plugins around a real app under a real uvicorn, over each of its implementations of HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import wasmtime

from tests.asgi.uvicorn_app import assert_contexts_ended, plugin, write
from tests.serving import Server, serve
from tests.waiting import SECONDS, wait_until

# Pauses every request with x-pause; each tick of 20 ms resumes all streams that came since the last one.
RESUMING = """(module
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $act (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "x-pause")
  (global $resumed (mut i32) (i32.const 1))
  (global $newest (mut i32) (i32.const 1))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 20))) (i32.const 1))
  (func (export "proxy_on_context_create") (param i32 i32) (global.set $newest (local.get 0)))
  (func (export "proxy_on_tick") (param i32)
    (loop $next
      (if (i32.lt_u (global.get $resumed) (global.get $newest)) (then
        (global.set $resumed (i32.add (global.get $resumed) (i32.const 1)))
        (if (i32.eqz (call $act (global.get $resumed))) (then (drop (call $continue (i32.const 0)))))
        (br $next)))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (i32.eqz (call $get (i32.const 0) (i32.const 100) (i32.const 7) (i32.const 0) (i32.const 4)))))"""


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Plugins that see everything: lifecycle (log, pause, reply), headers (both ways), body (responses)."""
    folder = tmp_path_factory.mktemp("served")
    env = write(
        folder,
        plugin("lifecycle/abi_0_2_1", priority=9),
        plugin("headers/rust", conf={"response": {"add": {"x-plugin": "1"}}}),
        plugin("trailers/c"),
    )
    with serve("served:app", "--http", request.param, env=env, cwd=folder) as running:
        yield running


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), SECONDS)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    got = b""
    while end not in got:
        piece = connection.recv(65536)
        assert piece, got
        got += piece
    return got


def await_log(server: Server, text: str, since: int = 0) -> None:
    wait_until(lambda: text in server.log()[since:], lambda: server.log()[since:])


def test_chunks_pass_both_ways_one_by_one(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        head = read_until(connection, b"\r\n\r\n")
        assert b"x-plugin: 1" in head
        for word in (b"one", b"two"):
            # Sent only when the one before has come back.
            connection.sendall(b"3\r\n" + word + b"\r\n")
            assert word in read_until(connection, word)
        connection.sendall(b"0\r\n\r\n")
        read_until(connection, b"0\r\n\r\n")


def test_request_target_and_headers_reach_the_app(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"GET /scope?a=%20&b HTTP/1.1\r\nHost: example.test:81\r\nCookie: a=1\r\nX-Latin: \xe9\r\nCookie: b=2\r\n"
            b"Connection: close\r\n\r\n"
        )
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    told = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
    assert (told["method"], told["path"], told["query_string"]) == ("GET", "/scope", "b'a=%20&b'")
    headers = told["headers"]
    assert ["host", "example.test:81"] in headers
    assert [value for name, value in headers if name == "cookie"] == ["a=1", "b=2"]
    assert ["x-latin", "\xe9"] in headers
    # What the plugin saw.
    seen = {name: value for name, value in headers if name.startswith("x-seen-")}
    assert seen["x-seen-path"] == "/scope?a=%20&b"
    assert (seen["x-seen-authority"], seen["x-seen-end-of-stream"]) == ("example.test:81", "true")


def test_percent_and_dot_segments_reach_plugin_and_app_as_they_were_sent(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /./x/../s%63ope HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert read_until(connection, b"hello").startswith(b"HTTP/1.1 200")
    with connect(server) as connection:
        connection.sendall(b"GET /s%63ope HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert b'"raw_path": "b\'/s%63ope\'"' in answer
    assert b'["x-seen-path", "/s%63ope"]' in answer


def test_missing_host(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /scope HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert b'"host"' not in answer
    assert f'["x-seen-authority", "127.0.0.1:{server.port}"]'.encode() in answer


def test_responses_without_body_keep_the_connection(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        for method, path, status in (("HEAD", "/sized", 200), ("GET", "/204", 204), ("GET", "/304", 304)):
            response = client.request(method, path)
            assert (response.status_code, response.content) == (status, b"")
            assert response.headers["x-seen-end-of-stream"] == "true"
            assert client.get("/sized").text == "hello"
        assert client.head("/sized").headers["content-length"] == "5"


def test_local_response(server: Server) -> None:
    response = httpx.post(f"{server.url}/echo", content=b"x" * 100_000, headers={"x-lifecycle": "reply"})
    assert (response.status_code, response.text) == (403, "reply")


def test_pause_and_resume_with_a_body(server: Server) -> None:
    data = b"x" * 300_000
    response = httpx.post(f"{server.url}/echo", content=data, headers={"x-lifecycle": "pause"}, timeout=SECONDS)
    assert response.content == data


def test_app_that_raises(server: Server) -> None:
    assert httpx.get(f"{server.url}/raises").status_code == 500
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/raises-late")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/returns")
    assert httpx.get(f"{server.url}/sized").text == "hello"


def test_client_gone_while_paused(server: Server) -> None:
    since = len(server.log())
    with connect(server) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: a\r\nx-lifecycle: pause\r\ncontent-length: 9\r\n\r\nabc")
        await_log(server, "on_request_headers(", since)
    await_log(server, "on_delete(", since)


def test_client_gone_before_the_end_of_its_body(server: Server) -> None:
    since = len(server.log())
    with connect(server) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc")
        await_log(server, "on_request_body(", since)
    await_log(server, "on_delete(", since)


def test_client_that_reads_slowly_gets_everything(server: Server) -> None:
    with connect(server) as connection:
        # More than the buffers between us hold.
        connection.sendall(b"GET /large HTTP/1.0\r\nhost: a\r\n\r\n")
        time.sleep(0.3)
        got = b""
        while piece := connection.recv(65536):
            got += piece
    assert got.partition(b"\r\n\r\n")[2].count(b"x") == 4_000_000


def test_client_gone_before_the_end_of_the_response(server: Server) -> None:
    since = len(server.log())
    with connect(server) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        connection.recv(1000)
    await_log(server, "on_delete(", since)
    assert httpx.get(f"{server.url}/sized").text == "hello"


def test_nothing_is_left_over(server: Server) -> None:
    """Runs last: every context ended, and asyncio complained of nothing."""
    assert_contexts_ended(server)
    log = server.log()
    for complaint in ("was never retrieved", "was destroyed but it is pending", "never awaited", "VM failed"):
        assert complaint not in log
    assert log.count("Traceback") == log.count("ValueError: before") + log.count("ValueError: after")


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_content_length_that_a_plugin_made_a_lie(tmp_path: Path, http: str) -> None:
    conf = {"direction": "response", "mode": "append", "text": " world", "keep_content_length": True}
    env = write(tmp_path, plugin("body/go", conf=conf))
    with serve("served:app", "--http", http, env=env, cwd=tmp_path) as server:
        response = httpx.get(f"{server.url}/sized")
        assert (response.text, response.headers["content-length"]) == ("hello world", "11")


def test_local_response_after_the_start_cuts_the_connection(tmp_path: Path) -> None:
    env = write(tmp_path, plugin("local_reply/assemblyscript", conf={"phase": "response_body"}, root_id="local_reply"))
    with serve("served:app", env=env, cwd=tmp_path) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.url)
        assert server.logs("a response was cut off: a local response came after the response had started")
        # With a content-length the head was still here.
        assert httpx.get(f"{server.url}/sized").status_code == 403
        assert "Traceback" not in server.log()


def test_many_requests_that_pause_over_one_vm(tmp_path: Path) -> None:
    (tmp_path / "resuming.wasm").write_bytes(wasmtime.wat2wasm(RESUMING))
    env = write(tmp_path, {"name": "resuming", "file": "resuming.wasm"})

    async def main(url: str) -> None:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=SECONDS) as client:
            calls = [
                client.post("/echo", content=b"%d" % number, headers={"x-pause": "1"} if number % 3 else {})
                for number in range(300)
            ]
            responses = await asyncio.gather(*calls)
        assert [response.content for response in responses] == [b"%d" % number for number in range(300)]

    with serve("served:app", env=env, cwd=tmp_path) as server:
        asyncio.run(main(server.url))
        assert "Traceback" not in server.log()
