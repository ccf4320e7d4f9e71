"""GET over HTTPS, bounded: bytes, redirects, and what a redirect may lead to. httpx does the rest.

Proxies (``HTTPS_PROXY``, ``NO_PROXY``) and trusted certificates (``SSL_CERT_FILE``) are the environment's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import httpx

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.names import is_loopback
from asgi_wasm.fetching.watch import WATCH

_MOST_REDIRECTS = 5
_LAST_PORT = 65535
# Seconds. Who is there takes less.
_CONNECT_SECONDS = 10.0
# For a loopback host to say something by TLS, or that it does not speak it.
_TLS_SECONDS = 2.0
# Errors that tell that the other side speaks no TLS.
_NO_TLS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.RemoteProtocolError)


@dataclass(frozen=True)
class Answer:
    """What was answered, at the end of all redirects. ``content`` is empty unless the status is 2xx."""

    host: str
    status: int
    headers: httpx.Headers
    content: bytes


class Transfer:
    """One fetch's connections, made when the first is needed. In one event loop."""

    def __init__(self, seconds: float) -> None:
        """``seconds`` bound each wait for the other side; who calls bounds the whole."""
        self._seconds = seconds
        self._client: httpx.AsyncClient | None = None
        self._plain = False

    async def __aenter__(self) -> Transfer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def get(
        self, url: str, limit: int, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
    ) -> Answer:
        """What is at ``url``, of at most ``limit`` bytes, as they are on the wire; ``form`` is posted.

        An ``authorization`` among the headers stays at its own host. Raises `FetchError` and `httpx.HTTPError`.
        """
        asked, sent = httpx.URL(url), dict(headers or {})
        for _ in range(_MOST_REDIRECTS + 1):
            self._check(asked)
            # Encoded bytes would have another digest, and no bound.
            request = self._opened().build_request(
                "GET" if form is None else "POST", asked, headers={**sent, "accept-encoding": "identity"}, data=form
            )
            response = await self._opened().send(request, stream=True)
            try:
                location = response.headers.get("location")
                if not (response.is_redirect and location and form is None):
                    return Answer(asked.host, response.status_code, response.headers, await _read(response, limit))
            finally:
                await response.aclose()
            before, asked = asked, asked.join(location)
            if (before.scheme, before.host, before.port) != (asked.scheme, asked.host, asked.port):
                sent.pop("authorization", None)
        raise FetchError(f"is not to be had: {before.host} redirects more than {_MOST_REDIRECTS} times")

    async def speaks_tls(self, host: str) -> bool:
        """Whether a loopback host does; if not, plain HTTP to such hosts is allowed from now on."""
        try:
            await self._opened().get(f"https://{host}/v2/", timeout=_TLS_SECONDS)
        except _NO_TLS as error:
            # A certificate that is not trusted is TLS; to go on without would hide it.
            self._plain = "CERTIFICATE_VERIFY_FAILED" not in str(error)
        except httpx.ReadTimeout:
            # It has shaken hands, and only takes long to answer.
            self._plain = False
        return not self._plain

    def _check(self, url: httpx.URL) -> None:
        # A registry of this machine must not send the others' files, nor its credentials, over a network in plain.
        if url.scheme != "https" and not (url.scheme == "http" and self._plain and is_loopback(url.host)):
            raise FetchError(f"leads to {url.scheme}://{url.host}, and nothing is fetched but by https://")
        # httpx's URLs have any number there, which what connects raises all kinds of errors for.
        if url.port is not None and not 0 < url.port <= _LAST_PORT:
            raise FetchError(f"leads to port {url.port} of {url.host}, which is none")

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            timeout = httpx.Timeout(self._seconds, connect=min(self._seconds, _CONNECT_SECONDS))
            try:
                self._client = httpx.AsyncClient(timeout=timeout, headers={"user-agent": "asgi-wasm"})
            except (ImportError, OSError, ValueError) as error:
                raise FetchError(
                    f"cannot be fetched: the environment's proxy or SSL_CERT_FILE is of no use here ({error})"
                ) from error
        return self._client


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The body of a good answer. Raises `FetchError` when it is larger."""
    if not response.is_success:
        return b""
    content = bytearray()
    announced = response.headers.get("content-length", "")
    total = int(announced[:20]) if announced.isdecimal() else None
    if total is None or total <= limit:
        with WATCH.get()(f"{response.url.host}{response.url.path}", total) as arrived:
            async for piece in response.aiter_raw():
                content += piece
                arrived(len(piece))
                if len(content) > limit:
                    break
            else:
                return bytes(content)
    size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
    raise FetchError(f"is not taken: what {response.url.host} sends is larger than {size}")
