"""No request reaches what a route guards without the guard: drawn requests, real frameworks, real servers."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.driving import request
from tests.serving import ROOT, free_port, listens, stop
from tests.waiting import wait_until
from tests.worker.guarded import FRAMEWORKS, MARKED, SECRET, guarded

pytest.importorskip("flask", reason="flask has no release for this Python")
PIECES = [
    *("/", "//", ".", "..", "\\", "\n"),
    *["admin", "secret", "exact", "hosted", "static", "private", "file", "api", "x"],
]
PATHS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join)
# More often than not something that is there, with something odd in it.
NEAR = st.builds(
    lambda path, at, piece: path[: at % (len(path) + 1)] + piece + path[at % (len(path) + 1) :],
    st.sampled_from(["/admin/secret", "/exact", "/hosted", "/static/private/file", "/static/x/../private/file"]),
    st.integers(0, 40),
    st.sampled_from(["", "/", "//", "/.", "/..", "/x/..", "\\", "\n", "/../admin/secret", "/../static"]),
)
HOSTS = st.sampled_from(
    [[b"example.com"], [b"Example.COM:80"], [b"example.com."], [b"example.com.:80"], [b"example.com:"], [b"other"], []]
)


@pytest.fixture(scope="module", params=["starlette", "fastapi", "flask"])
def app(request: pytest.FixtureRequest) -> Iterator[tuple[WasmMiddleware, asyncio.AbstractEventLoop]]:
    made = guarded(FRAMEWORKS[request.param]())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(made.start())
    yield made, loop
    loop.run_until_complete(made.stop())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=NEAR | PATHS,
    root=st.sampled_from(["", "", "/api", "/api/", "/admin"]),
    prefixed=st.booleans(),
    method=st.sampled_from(["GET", "GET", "HEAD", "get", "POST"]),
    hosts=HOSTS,
)
@example(path="/static//../../private/file", root="", prefixed=False, method="GET", hosts=[b"example.com"])
@example(path="/exact\n", root="", prefixed=False, method="GET", hosts=[b"example.com"])
@example(path="/hosted", root="", prefixed=False, method="get", hosts=[b"example.com.:80"])
def test_a_secret_is_told_behind_the_guard_only(
    app: tuple[WasmMiddleware, asyncio.AbstractEventLoop],
    path: str,
    root: str,
    prefixed: bool,
    method: str,
    hosts: list[bytes],
) -> None:
    middleware, loop = app
    path = root.rstrip("/") + path if prefixed else path
    headers = [(b"host", host) for host in hosts]
    scope = {"path": path, "raw_path": path.encode(), "root_path": root, "method": method, "headers": headers}

    async def as_said(given: Scope, receive: Receive, send: Send) -> None:
        await middleware({**given, **scope}, receive, send)

    answer = loop.run_until_complete(request(as_said))
    told = SECRET in answer.body
    assert not told or MARKED in answer.body or (b"x-plugin-out", b"here") in answer.headers, scope


# --- on real servers

TARGETS = [
    target.encode()
    for target in [
        "/admin/secret",
        "//admin/secret",
        "/admin//secret",
        "/x/../admin/secret",
        "/admin/./secret",
        "/admin%2Fsecret",
        "/admin/secret/",
        "/ADMIN/secret",
        "admin/secret",
        "/api/admin/secret",
        "/exact",
        "/exact%0A",
        "/exact/",
        "/%65xact",
        "/exact?x",
        "/static/private/file",
        "/static/x/../private/file",
        "/static//private/file",
        "/static/%2e%2e/static/private/file",
        "/static/x/..%2fprivate/file",
        "/static//../../private/file",
        "/static/..\\private/file",
    ]
]
HOSTS_ON_SERVERS = [b"example.com", b"Example.com:80", b"example.com.", b"example.com.:80", b"other.test"]
METHODS = [b"GET", b"HEAD", b"get"]


@contextmanager
def serving(server: list[str], framework: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", *server, *_bound(server[0], port)]
    environment = {"PYTHONPATH": str(ROOT), "GUARDED_FRAMEWORK": framework, "PATH": ""}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        yield port
    finally:
        stop(process)


def _bound(server: str, port: int) -> list[str]:
    if server == "uvicorn":
        return ["--factory", "tests.worker.guarded:served", "--port", str(port)]
    return ["--bind", f"127.0.0.1:{port}", "tests.worker.guarded:served()"]


def ask(port: int, method: bytes, target: bytes, host: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % (method, target, host))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    "server",
    [
        ["uvicorn", "--http", "h11"],
        ["uvicorn", "--http", "httptools", "--root-path", "/api"],
        ["hypercorn"],
        ["hypercorn", "--root-path", "/api"],
    ],
    ids=lambda value: " ".join(value),
)
def test_on_servers(server: list[str], framework: str) -> None:
    met = 0
    with serving(server, framework) as port:
        asked = [(method, target, b"example.com") for method in METHODS for target in TARGETS]
        for each in [*asked, *((b"GET", b"/hosted", host) for host in HOSTS_ON_SERVERS)]:
            answer = ask(port, *each)
            if SECRET in answer:
                assert MARKED in answer or b"x-plugin-out: here" in answer.lower(), (each, answer)
                met += 1
    # Most of them do reach what is guarded, or this would prove nothing.
    assert met >= 2
