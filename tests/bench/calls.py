"""What an HTTP call costs this process, beside the same call by httpx."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import httpx

from asgi_wasm.services.callouts.connector import Connector
from asgi_wasm.services.callouts.messages import Answer, Request
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.turns import Turns

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-type: text/plain\r\n\r\nfine"
_LIMIT = 1 << 20

Call = Callable[[], Awaitable[object]]


class _Upstream(asyncio.Protocol):
    """Answers each head at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER * data.count(b"\r\n\r\n"))


async def measure(rounds: int, times: int = 300) -> dict[str, float]:
    """Name to microseconds of processor time per call; the upstream's share, which is the same for all, is in it."""
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url, pool = f"http://127.0.0.1:{port}/", Pool(Connector("127.0.0.1", port, None), Turns())
    request = Request(b"GET", b"/", [(b"host", b"up.test")], b"")
    async with httpx.AsyncClient(trust_env=False) as client, httpx.AsyncHTTPTransport(trust_env=False) as transport:

        async def by_transport() -> None:
            response = await transport.handle_async_request(httpx.Request("GET", url))
            await response.aread()
            await response.aclose()

        ways: dict[str, Call] = {
            "a plugin's HTTP call": lambda: pool.exchange(request, Answer(_LIMIT)),
            "httpx's transport": by_transport,
            "httpx's client": lambda: client.get(url),
        }
        found: dict[str, list[float]] = {}
        for name, call in ways.items():
            found[name] = [await _time(call, times) for _ in range(rounds)]
    await pool.close()
    server.close()
    return {name: statistics.median(values) for name, values in found.items()}


async def _time(call: Call, times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - began) / times * 1e6
