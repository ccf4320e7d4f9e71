"""HTTP/2 to an upstream, by httpx."""

from __future__ import annotations

import ssl

import httpx

from asgi_wasm.services.callouts.connector import CONNECT_TIMEOUT
from asgi_wasm.services.callouts.messages import (
    Answer,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    Request,
    StreamResetError,
    UpstreamProtocolError,
)


class HttpxCarrier:
    """Uses the transport below httpx's client: the client would follow redirects, keep cookies and decode bodies."""

    def __init__(self, url: httpx.URL, tls: ssl.SSLContext | None) -> None:
        self._url = url
        self._transport = httpx.AsyncHTTPTransport(
            http1=tls is not None, http2=True, verify=tls or False, trust_env=False, retries=0
        )

    async def exchange(self, request: Request, answer: Answer) -> None:
        """One call. Raises `CalloutError`."""
        try:
            await self._exchange(request, answer)
        except httpx.ConnectTimeout as error:
            raise ConnectTimeoutError(str(error)) from None
        except httpx.ConnectError as error:
            raise ConnectError(str(error)) from None
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if "StreamReset" in str(error):
                raise StreamResetError(str(error)) from None
            if isinstance(error, httpx.NetworkError) or "Server disconnected" in str(error):
                raise ConnectionLostError(str(error)) from None
            raise UpstreamProtocolError(str(error)) from None

    async def _exchange(self, request: Request, answer: Answer) -> None:
        extensions = {
            "target": request.target,
            "timeout": {"connect": CONNECT_TIMEOUT, "read": None, "write": None, "pool": None},
        }
        method = request.method.decode("ascii")
        sent = httpx.Request(
            method, self._url, headers=request.headers, content=request.body or None, extensions=extensions
        )
        # As the plugin spelled it: httpx puts it in capitals.
        sent.method = method
        response = await self._transport.handle_async_request(sent)
        try:
            answer.begin(response.status_code, [(name.lower(), value) for name, value in response.headers.raw])
            # Raw: the plugin gets the bytes that its headers describe, compressed or not.
            async for chunk in response.aiter_raw():
                answer.append(chunk)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close its connections."""
        await self._transport.aclose()
