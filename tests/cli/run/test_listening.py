"""At which addresses ``asgi-wasm run`` listens."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from asgi_wasm.cli.run.listening import bind_all
from asgi_wasm.errors import SettingsError

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))


@contextmanager
def bound_at(host: str, port: int = 0) -> Iterator[list[tuple[Any, ...]]]:
    """The addresses."""
    with ExitStack() as stack:
        made = [stack.enter_context(each) for each in bind_all(host, port)]
        yield [each.getsockname() for each in made]


def means(monkeypatch: pytest.MonkeyPatch, *told: object) -> None:
    """Let every name mean these."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [*told])


@pytest.fixture
def _ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.usefixtures("_ipv6")
def test_localhost_is_both_addresses_at_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a resolver may say it, in either order and twice."""
    means(monkeypatch, V6, V4, V4)
    with bound_at("localhost") as (first, second):
        assert (first[0], second[0]) == ("127.0.0.1", "::1")
        assert first[1] == second[1] != 0


@pytest.mark.usefixtures("_ipv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(host: str) -> None:
    with bound_at(host) as [address]:
        assert address[0] == host


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_ipv4(host: str) -> None:
    with bound_at(host) as [address]:
        assert address[0] == host


def test_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.bind

    class Without(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            real(self, address)

    monkeypatch.setattr(socket, "socket", Without)
    means(monkeypatch, V4, V6)
    with bound_at("localhost") as [address]:
        assert address[0] == "127.0.0.1"
    means(monkeypatch, V6)
    with pytest.raises(SettingsError, match=r"^--host six --port 0: cannot listen there: Cannot assign"):
        bind_all("six", 0)


@pytest.mark.usefixtures("_ipv6")
def test_a_port_that_is_taken_at_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a browser would meet another server than curl."""
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        means(monkeypatch, (*V4[:4], ("127.0.0.1", port)), (*V6[:4], ("::1", port, 0, 0)))
        with pytest.raises(SettingsError, match=rf"^port {port} is taken: choose another with --port$"):
            bind_all("localhost", port)
