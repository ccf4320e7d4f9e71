"""Servers with a certificate that the environment trusts, and an environment without the machine's own Docker."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_wasm.fetching.fetcher import Fetcher
from tests.fetching.site import Site, served
from tests.waiting import SECONDS


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context, and the file of the authority that vouches for it."""
    trustme = pytest.importorskip("trustme", reason="it has no wheel for this Python")
    made = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    roots = tmp_path_factory.mktemp("authority") / "roots.pem"
    made.cert_pem.write_to_path(str(roots))
    return context, roots


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, and an empty Docker."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "docker").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def trusted(authority: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context; the environment trusts it."""
    context, roots = authority
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    # A server that does speak TLS may be left standing by a busy machine.
    for name in ("_TLS_SECONDS", "_CONNECT_SECONDS"):
        monkeypatch.setattr(f"asgi_wasm.fetching.transfer.{name}", SECONDS)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return context


@pytest.fixture
def site(trusted: ssl.SSLContext) -> Iterator[Site]:
    """A server by HTTPS."""
    with served(trusted) as made:
        yield made


@pytest.fixture
def fetcher(tmp_path: Path) -> Fetcher:
    """With a cache of its own and little patience."""
    return Fetcher(tmp_path / "cache", seconds=20.0, limit=1 << 20)
