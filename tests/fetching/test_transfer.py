"""Servers that mean harm, or do some: each ends in one sentence, in time, and nothing is held beyond the limit."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.fetching.transfer import Transfer
from asgi_wasm.specs import RemoteFile
from tests.fetching.site import GOOD, Answer, Site, content, digest_of, redirect, served

LIMIT = 1 << 16


def fetched(site: Site, tmp_path: Path, *, seconds: float = 20.0, path: str = "/w.wasm") -> bytes:
    return Fetcher(tmp_path / "cache", seconds, LIMIT).fetch(RemoteFile(site.url(path), digest_of(GOOD))).content


def head(handler: BaseHTTPRequestHandler, **headers: str) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def endless(site: Site) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, connection="close")
        while not site.over.is_set():
            handler.wfile.write(bytes(8192))

    return answer


def dripping(site: Site) -> Answer:
    """A byte now and then, so that no wait for the next one is long."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, content_length=str(LIMIT))
        while not site.over.wait(0.05):
            handler.wfile.write(b"\0")

    return answer


def dripping_head(site: Site) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not site.over.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    return answer


def silent(site: Site) -> Answer:
    def answer(_: BaseHTTPRequestHandler) -> None:
        site.over.wait()

    return answer


def cut_off(site: Site) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, content_length="100")
        handler.wfile.write(GOOD)
        handler.close_connection = True

    return answer


def longer_than_said(site: Site) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, content_length=str(len(GOOD) - 1))
        handler.wfile.write(GOOD)
        handler.close_connection = True

    return answer


def no_http(site: Site) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"220 mail.example ESMTP\r\n")
        handler.close_connection = True

    return answer


def huge_head(site: Site) -> Answer:
    return lambda handler: head(handler, x="x" * (1 << 20))


def said_to_be_huge(site: Site) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, content_length="9" * 5000)
        site.over.wait()

    return answer


def zipped(site: Site) -> Answer:
    """Though nobody asked for it: what it unpacks to is never looked at."""
    return content(gzip.compress(bytes(1 << 24)), content_encoding="gzip")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (endless, r"is not taken: what 127\.0\.0\.1 sends is larger than 65536 bytes"),
        (said_to_be_huge, "larger than 65536 bytes|is cut off, or no HTTP"),
        (cut_off, r"the answer of 127\.0\.0\.1 is cut off, or no HTTP"),
        (longer_than_said, "is another file: its sha256 is"),
        (no_http, "is cut off, or no HTTP"),
        (huge_head, "is cut off, or no HTTP"),
        (zipped, "is another file: its sha256 is"),
    ],
)
def test_hostile(site: Site, tmp_path: Path, make: Callable[[Site], Answer], sentence: str) -> None:
    site.answers["/w.wasm"] = make(site)
    with pytest.raises(FetchError, match=sentence):
        fetched(site, tmp_path)


@pytest.mark.parametrize("make", [dripping, dripping_head, silent])
def test_slow(site: Site, tmp_path: Path, make: Callable[[Site], Answer]) -> None:
    """The time is that of the whole, however lively the other side is."""
    site.answers["/w.wasm"] = make(site)
    with pytest.raises(FetchError, match=r"is not there after 1 s, which is fetch_timeout|does not answer"):
        fetched(site, tmp_path, seconds=1.0)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (404, r"is not there: 127\.0\.0\.1 answered 404: check the name"),
        (410, "is not there: .* answered 410"),
        (401, "is refused: .* answered 401: check the credentials"),
        (403, "is refused: .* answered 403"),
        (429, "is not to be had now: .* answered 429: try again later"),
        (503, "is not to be had now: .* answered 503: try again later"),
        (304, "is not to be had now: .* answered 304"),
    ],
)
def test_statuses(site: Site, tmp_path: Path, status: int, sentence: str) -> None:
    site.answers["/w.wasm"] = content(b"", status)
    with pytest.raises(FetchError, match=sentence):
        fetched(site, tmp_path)


def test_redirects(site: Site, tmp_path: Path) -> None:
    for number in range(5):
        site.answers[f"/{number}"] = redirect(f"/{number + 1}", (301, 302, 303, 307, 308)[number])
    site.answers["/5"] = content(GOOD)
    assert fetched(site, tmp_path, path="/0") == GOOD


def test_a_loop_of_redirects(site: Site, tmp_path: Path) -> None:
    site.answers["/w.wasm"] = redirect("/w.wasm")
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 redirects more than 5 times"):
        fetched(site, tmp_path)
    assert len(site.asked) == 6


@pytest.mark.parametrize("to", ["http://127.0.0.1:{0}/w.wasm", "ftp://x.example/w", "file:///etc/passwd"])
def test_redirects_lead_nowhere_but_to_https(site: Site, tmp_path: Path, to: str) -> None:
    with served(None) as plain:
        plain.answers["/w.wasm"] = content(GOOD)
        site.answers["/w.wasm"] = redirect(to.format(plain.port))
        with pytest.raises(FetchError, match=r"leads to (http|ftp|file)://.*, and nothing is fetched but by https://"):
            fetched(site, tmp_path)
        assert plain.asked == []


@pytest.mark.parametrize(
    "to",
    [
        *("https://[", "https://x.example:port/", "https://\0/", "//", f"https://{'a' * 70}.example"),
        *("https://127.0.0.1:65536/", "https://127.0.0.1:0/", "https://127.0.0.1:-1/"),
    ],
)
def test_redirects_to_what_is_no_url(site: Site, tmp_path: Path, to: str) -> None:
    site.answers["/w.wasm"] = redirect(to)
    with pytest.raises(FetchError, match=r"leads to|is cut off|is not reached|redirects more"):
        fetched(site, tmp_path)


def test_a_name_and_a_password_stay_at_their_host(site: Site, trusted: ssl.SSLContext, tmp_path: Path) -> None:
    with served(trusted) as other:
        site.answers["/w.wasm"] = redirect(other.url("/x.wasm"))
        other.answers["/x.wasm"] = content(GOOD)
        file = RemoteFile(site.url("/w.wasm").replace("https://", "https://user:secret@"), digest_of(GOOD))
        assert Fetcher(tmp_path / "cache").fetch(file).content == GOOD
        assert site.asked[0].headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
        assert "Authorization" not in other.asked[0].headers


def test_an_authority_that_nobody_trusts(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    site.answers["/w.wasm"] = content(GOOD)
    with pytest.raises(FetchError, match=r"the certificate of 127\.0\.0\.1 is not trusted \(.*SSL_CERT_FILE names"):
        fetched(site, tmp_path)


def test_a_server_without_tls(tmp_path: Path) -> None:
    with served(None) as plain:
        plain.answers["/w.wasm"] = content(GOOD)
        file = RemoteFile(f"https://127.0.0.1:{plain.port}/w.wasm", digest_of(GOOD))
        with pytest.raises(FetchError, match=r"is not reached|is cut off"):
            Fetcher(tmp_path / "cache").fetch(file)
        assert plain.asked == []


@pytest.mark.parametrize(
    ("error", "speaks"),
    [
        (httpx.ConnectTimeout("no handshake"), False),
        (httpx.ConnectError("WRONG_VERSION_NUMBER"), False),
        (httpx.ConnectError("CERTIFICATE_VERIFY_FAILED"), True),
        (httpx.ReadTimeout("a handshake, and no answer"), True),
    ],
    ids=["mute", "plain", "not trusted", "slow to answer"],
)
async def test_whether_a_registry_of_this_machine_speaks_tls(
    error: httpx.HTTPError, speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(*_: object, **__: object) -> httpx.Response:
        raise error

    monkeypatch.setattr(httpx.AsyncClient, "get", get)
    async with Transfer(20.0) as transfer:
        assert await transfer.speaks_tls("127.0.0.1:5000") is speaks


def test_the_proxy_of_the_environment(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for a tunnel to the host; here it has nothing to say to that."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with listener, pytest.raises(FetchError, match=r"the environment's proxy refuses it \(403 Forbidden\)"):
        fetched(site, tmp_path)
    thread.join()
    assert asked[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1" % site.port)
    assert site.asked == []


def test_an_environment_that_cannot_be_used(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://x.example")
    with pytest.raises(FetchError, match=r"proxy or SSL_CERT_FILE is of no use here"):
        fetched(site, tmp_path)
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(FetchError, match=r"SSL_CERT_FILE|is not trusted"):
        fetched(site, tmp_path)
