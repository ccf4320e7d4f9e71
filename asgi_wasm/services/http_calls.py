"""`proxy_http_call` by httpx: one client an upstream, for its connection pool.

Followed for failures: Envoy `source/common/http/async_client_impl.cc` (`sendLocalReply`): a timeout is a 504 answer
and a connection that cannot be made is a 503 answer; only what breaks off later is a failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from importlib.util import find_spec

import httpx

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.host import callouts
from asgi_wasm.host.effects import HttpCall
from asgi_wasm.host.header_map import HeaderMap
from asgi_wasm.specs import UpstreamSpec

# Envoy bounds an answer by its buffer limit, 1 MiB as everywhere; a larger one is a failure.
MAX_RESPONSE_BYTES = 1024 * 1024
_MILLISECONDS = 1000
_TIMEOUT = (504, b"upstream request timeout")
_CONNECT = (503, b"upstream connect error or disconnect/reset before headers. reset reason: connection failure")

logger = logging.getLogger("asgi_wasm.host")

_Answer = tuple[HeaderMap, bytes]


class _ResponseTooLargeError(Exception):
    """Raised while reading an answer over the bound."""

    def __init__(self) -> None:
        super().__init__(f"its answer is over {MAX_RESPONSE_BYTES} bytes")


class HttpCalls:
    """Carries out HTTP calls as tasks of the running event loop."""

    def __init__(self, upstreams: Iterable[UpstreamSpec]) -> None:
        """Raises `MissingExtraError` when an upstream wants HTTP/2 and its library is not there."""
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        for upstream in self._upstreams.values():
            if upstream.http2 and find_spec("h2") is None:
                raise MissingExtraError(f"upstream {upstream.name!r} wants http2: pip install 'asgi-wasm[http2]'")
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> frozenset[str]:
        """The upstreams that may be called."""
        return frozenset(self._upstreams)

    def start(self, call: HttpCall) -> None:
        """Send it; its answer, or its failure, is delivered to the root context later, once."""
        task = asyncio.get_running_loop().create_task(self._run(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call: HttpCall) -> None:
        upstream = self._upstreams[call.upstream]
        ports = call.root.vm.ports
        began = ports.clock.monotonic()

        def ended(outcome: str) -> None:
            took = ports.clock.monotonic() - began
            ports.host_metrics.callout_ended(call.root.spec.name, call.upstream, outcome, took)

        asked = call.timeout_milliseconds / _MILLISECONDS or None
        limits = [seconds for seconds in (asked, upstream.timeout) if seconds is not None]
        try:
            headers, body = await asyncio.wait_for(self._exchange(call, upstream), min(limits, default=None))
            ended("response")
        except (asyncio.TimeoutError, httpx.TimeoutException):
            ended("timeout")
            headers, body = _local_answer(*_TIMEOUT)
        except (httpx.ConnectError, httpx.UnsupportedProtocol):
            ended("connection_failure")
            headers, body = _local_answer(*_CONNECT)
        except Exception as error:
            # Whatever it was: the plugin's token must be answered, once.
            ended("failure")
            logger.warning("HTTP call to %r of plugin %r: %s", call.upstream, call.root.spec.name, _told(error))
            callouts.deliver_http_failure(call.root, call.token)
            return
        callouts.deliver_http_response(call.root, call.token, headers, body)

    async def _exchange(self, call: HttpCall, upstream: UpstreamSpec) -> _Answer:
        client = self._client(upstream)
        response = await client.send(_request(call, upstream), stream=True)
        try:
            body = bytearray()
            # Raw: the plugin gets the bytes that its headers describe, compressed or not.
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise _ResponseTooLargeError
        finally:
            await response.aclose()
        headers = HeaderMap([(b":status", b"%d" % response.status_code)])
        headers.pairs += [(name.lower(), value) for name, value in response.headers.raw]
        return headers, bytes(body)

    def _client(self, upstream: UpstreamSpec) -> httpx.AsyncClient:
        client = self._clients.get(upstream.name)
        if client is None:
            client = httpx.AsyncClient(
                http2=upstream.http2,
                verify=upstream.verify,
                # Nothing of the environment, and no second address that a settings entry did not name.
                trust_env=False,
                follow_redirects=False,
                timeout=None,
            )
            self._clients[upstream.name] = client
        return client

    async def close(self) -> None:
        """Cancel what is under way, and close the connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()


def _request(call: HttpCall, upstream: UpstreamSpec) -> httpx.Request:
    """The plugin's request as it is: no header of httpx's own but `content-length`."""
    headers = HeaderMap(call.headers)
    path = headers.get(b":path") or b"/"
    url = httpx.URL(upstream.url).copy_with(raw_path=path)
    fields = [(b"host", headers.get(b":authority") or b"")]
    fields += [
        (name, value) for name, value in headers.pairs if not name.startswith(b":") and name != b"content-length"
    ]
    fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in upstream.headers]
    method = (headers.get(b":method") or b"GET").decode("latin-1")
    return httpx.Request(method, url, headers=fields, content=call.body or None)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _local_answer(status: int, body: bytes) -> _Answer:
    fields = [(b":status", b"%d" % status), (b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    return HeaderMap(fields), body
