"""How a connection to an upstream is made."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx

from asgi_wasm.services.callouts.deadline import Deadline
from asgi_wasm.services.callouts.messages import ConnectError, ConnectTimeoutError
from asgi_wasm.specs import UpstreamSpec
from asgi_wasm.waits import wait

# Seconds. Envoy's `connect_timeout` of a cluster defaults to five.
CONNECT_TIMEOUT = 5.0
# Of all addresses but the last one that a name has: one that does not answer must not keep from the others. And of
# asking again for a name whose addresses are known.
_ADDRESS_TIMEOUT = 1.0
# Seconds that what a name resolves to is used for: Envoy's `dns_refresh_rate`.
_FRESH_SECONDS = 5.0


class Connection(asyncio.Protocol):
    """What can be made here: an `asyncio.Protocol` that can be given up."""

    def abort(self) -> None:
        """Close it at once. Idempotent."""
        raise NotImplementedError


_Connection = TypeVar("_Connection", bound=Connection)


class Connector:
    """Makes connections to one host; ``tls`` is None for plain ones."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._lookup: asyncio.Future[list[str]] | None = None
        # What the name resolved to, and until when it counts.
        self._addresses: list[str] = []
        self._fresh_until = float("inf") if self._is_address() else 0.0

    def _is_address(self) -> bool:
        try:
            self._addresses = [str(ipaddress.ip_address(self._host))]
        except ValueError:
            return False
        return True

    async def connect(self, make: Callable[[], _Connection]) -> _Connection:
        """A new connection, with TLS where that is asked for. Raises `ConnectError`."""
        try:
            with Deadline(CONNECT_TIMEOUT):
                return await self._connect(make)
        except asyncio.TimeoutError:
            raise ConnectTimeoutError(f"no connection within {CONNECT_TIMEOUT:g} s") from None
        except (OSError, ValueError) as error:
            # ValueError: a host that is no name.
            raise ConnectError(str(error) or type(error).__name__) from None

    async def _connect(self, make: Callable[[], _Connection]) -> _Connection:
        *others, last = await self._resolve()
        for address in others:
            try:
                with Deadline(_ADDRESS_TIMEOUT):
                    return await self._connect_to(address, make)
            except (OSError, asyncio.TimeoutError):
                continue
        return await self._connect_to(last, make)

    async def _resolve(self) -> list[str]:
        """Many calls at once ask once; and one that is given up leaves no thread behind for each call after it."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._fresh_until:
            return self._addresses
        lookup = self._lookup
        if lookup is None:
            lookup = self._lookup = asyncio.ensure_future(self._look_up())
            lookup.add_done_callback(self._looked_up)
        # What was found before counts, as in Envoy, when it fails now or takes long: a host seldom moves while its name
        # server is away.
        await wait([lookup], timeout=_ADDRESS_TIMEOUT if self._addresses else None)
        if not self._addresses:
            raise OSError(f"the name {self._host} is not resolved: {lookup.exception()}")
        return self._addresses

    async def _look_up(self) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _looked_up(self, lookup: asyncio.Future[list[str]]) -> None:
        self._lookup = None
        if not lookup.cancelled() and lookup.exception() is None:
            self._addresses = lookup.result()
            self._fresh_until = asyncio.get_running_loop().time() + _FRESH_SECONDS

    def close(self) -> None:
        """Ask for its name no more. Idempotent."""
        if self._lookup is not None:
            self._lookup.cancel()

    async def _connect_to(self, address: str, make: Callable[[], _Connection]) -> _Connection:
        connection = make()
        name = None if self._tls is None else self._host
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                address,
                self._port,
                ssl=self._tls,
                server_hostname=name,
            )
        except BaseException:
            connection.abort()
            raise
        return connection


def connector_to(upstream: UpstreamSpec, protocols: list[str]) -> Connector:
    """For the settings' upstream; ``protocols`` are offered by TLS (ALPN). Raises OSError for certificates.

    httpx knows what a host's name is in DNS, and which certificates are trusted.
    """
    url = httpx.URL(upstream.url)
    tls = None
    if url.scheme == "https":
        # Certificates take long to load: not for nothing.
        tls = _tls(upstream.verify)
        tls.set_alpn_protocols(protocols)
    return Connector(url.raw_host.decode("ascii"), url.port or (80 if tls is None else 443), tls)


def _tls(verify: bool | Path) -> ssl.SSLContext:
    """Nothing of the environment has a say."""
    if isinstance(verify, Path):
        return ssl.create_default_context(cafile=verify)
    return httpx.create_ssl_context(verify=verify, trust_env=False)
