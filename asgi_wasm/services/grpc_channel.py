"""One conversation over grpcio. Only this file imports it, and `grpc_calls` imports this file at the first call."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from asgi_wasm.host.wire import Pairs
from asgi_wasm.logs import get_logger
from asgi_wasm.specs import UpstreamSpec

logger = get_logger("asgi_wasm.host")

# Envoy's `connect_timeout` is five seconds. After a failure grpcio waits before it tries again, by default up to two
# minutes; Envoy tries at every call.
_CONNECT_MILLISECONDS = 5000
_MOST_BACKOFF_MILLISECONDS = 1000
# Envoy's `max_response_headers_kb`; grpcio's own bound is 8 KiB.
_MAX_METADATA_BYTES = 60 * 1024

_NAME = re.compile(rb"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[\x20-\x7e]*")
_BINARY = b"-bin"


@dataclass(frozen=True)
class Status:
    """How a conversation ended: gRPC's number, its text as UTF-8, and the trailing metadata."""

    code: int
    message: bytes
    metadata: Pairs


@dataclass(frozen=True)
class Listener:
    """Who is told what comes, while it comes."""

    initial: Callable[[Pairs], None]
    message: Callable[[bytes], None]


def open_channel(upstream: UpstreamSpec) -> grpc.aio.Channel:
    """A channel that does what the settings name and nothing else; it connects at its first call.

    Raises ValueError for an upstream that gRPC cannot be spoken to, OSError for certificates that cannot be read.
    """
    is_secure = urlsplit(upstream.url).scheme == "https"
    if is_secure and upstream.verify is False:
        raise ValueError("grpcio always verifies: gRPC needs an upstream without 'verify: false'")
    target = f"dns:///{address(upstream.url)}"
    options: list[tuple[str, int | str]] = [
        # No retries that the plugin does not know of, no configuration from DNS, no proxy from the environment.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0),
        # Connections are this channel's own, and end with it.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MILLISECONDS),
        ("grpc.initial_reconnect_backoff_ms", _MOST_BACKOFF_MILLISECONDS),
        ("grpc.max_reconnect_backoff_ms", _MOST_BACKOFF_MILLISECONDS),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_receive_message_length", upstream.message_limit),
        # Else the flow window grows by itself, and with it what an endless answer makes the host hold.
        ("grpc.http2.bdp_probe", 0),
        # What a plugin sends is bounded by its memory.
        ("grpc.max_send_message_length", -1),
    ]
    hosts = [value for name, value in upstream.headers if name.lower() == "host"]
    if hosts:
        options.append(("grpc.default_authority", hosts[-1]))
    if is_secure:
        roots = upstream.verify.read_bytes() if isinstance(upstream.verify, Path) else None
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots), options)
    return grpc.aio.insecure_channel(target, options)


def address(url: str) -> str:
    """Host and port. The path is of no use to gRPC."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


async def converse(
    channel: grpc.aio.Channel,
    path: str,
    metadata: Pairs,
    messages: AsyncIterator[bytes],
    timeout: float | None,
    listener: Listener,
) -> Status:
    """Send ``messages``, tell ``listener`` what comes, and return how it ended. Failures are statuses too.

    Cancelling the task that runs it resets the call.
    """
    fields = [(name.decode("ascii"), value) for name, value in metadata]
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
    rpc = method(messages, timeout=timeout, metadata=fields)
    _make_lenient(rpc)
    try:
        listener.initial(_pairs(await rpc.initial_metadata()))
        async for message in rpc:
            listener.message(message)
    except grpc.aio.AioRpcError:
        # The status says it.
        pass
    finally:
        rpc.cancel()
    code, details = await rpc.code(), await rpc.details()
    return Status(code.value[0], (details or "").encode("utf-8", "replace"), _pairs(await rpc.trailing_metadata()))


def _make_lenient(rpc: Any) -> None:
    """Where grpcio keeps its inner call is its own affair: without it all works but for what `_LenientCall` mends."""
    call = getattr(rpc, "_cython_call", None)
    if call is not None:
        rpc._cython_call = _LenientCall(call)


class _LenientCall:
    """grpcio's call, to which a message that can no longer be sent is no failure.

    When a server ends a stream while the client still sends, `grpc.aio` gives the failed write the last word: status
    13, "Internal error from Core", in place of the server's own, which is still on its way.
    """

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def send_serialized_message(self, message: bytes) -> None:
        """Send it, if that is still of use."""
        with suppress(grpc.aio.InternalError):
            await self._call.send_serialized_message(message)

    async def send_receive_close(self) -> None:
        """Half-close, likewise."""
        with suppress(grpc.aio.InternalError):
            await self._call.send_receive_close()


def sendable(metadata: Pairs, plugin: str) -> Pairs:
    """The metadata that gRPC can carry; what it cannot, pseudo-headers too, is left out with a warning."""
    result: Pairs = []
    for name, value in metadata:
        if _NAME.fullmatch(name) and (name.endswith(_BINARY) or _VALUE.fullmatch(value)):
            result.append((name, value))
        else:
            logger.warning("plugin %r: gRPC cannot carry the metadata %r: it is left out", plugin, name)
    return result


def _pairs(metadata: grpc.aio.Metadata | None) -> Pairs:
    pairs: Pairs = []
    for key, value in metadata or ():
        name = key.encode("ascii", "replace")
        data = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
        # As it is on the wire, and as Envoy gives it to plugins: without padding.
        pairs.append((name, b64encode(data).rstrip(b"=") if name.endswith(_BINARY) else data))
    return pairs
