"""What httpx raises, as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from asgi_wasm.errors import FetchError


@contextmanager
def told(url: str, cache: Path | None) -> Iterator[None]:
    """Raises `FetchError` for whatever went wrong on the way. ``url`` is what was asked for."""
    try:
        yield
    except httpx.HTTPError as error:
        raise FetchError(_sentence(error, url, cache)) from error
    except (httpx.InvalidURL, ValueError) as error:
        # The latter is of a host that cannot be looked up.
        raise FetchError(f"leads to what is no URL: {error}") from error


def _sentence(error: httpx.HTTPError, url: str, cache: Path | None) -> str:
    host = _host(error) or url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    reason = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"cannot be fetched: the certificate of {host} is not trusted ({reason}): SSL_CERT_FILE names others"
    if isinstance(error, httpx.TimeoutException):
        return f"cannot be fetched: {host} does not answer, and it is not in the cache{_at(cache)}: try again"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"cannot be fetched: the answer of {host} is cut off, or no HTTP ({reason})"
    if isinstance(error, httpx.ProxyError):
        return f"cannot be fetched: the environment's proxy refuses it ({reason})"
    return (
        f"cannot be fetched: {host} is not reached ({reason}), and it is not in the cache{_at(cache)}: check the "
        "network, or fill the cache by asgi-wasm compile"
    )


def _host(error: httpx.HTTPError) -> str:
    try:
        return error.request.url.host
    except RuntimeError:
        return ""


def _at(cache: Path | None) -> str:
    return "" if cache is None else f" {cache}"
