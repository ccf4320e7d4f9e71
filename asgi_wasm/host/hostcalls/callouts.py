"""Spec chapters "HTTP calls" and "gRPC calls".

Followed: Envoy `source/extensions/common/wasm/context.cc` (`httpCall`, `grpcSend`, `grpcClose`). No gRPC service is
known to this host, so gRPC calls are answered as Envoy answers for a cluster that it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.effects import HttpCall
from asgi_wasm.host.header_map import HeaderMap
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.wire import decode_pairs

if TYPE_CHECKING:
    from asgi_wasm.host.vm import WasmVM

__all__ = ["grpc_call", "grpc_cancel", "grpc_close", "grpc_send", "grpc_stream", "http_call"]

# Envoy's gRPC ids: the low two bits tell calls (1) and streams (2) from HTTP calls (0).
_ID_MASK = 3
_GRPC_CALL, _GRPC_STREAM = 1, 2
_NEEDED_HEADERS = (b":method", b":path", b":authority")
# The timeout is a signed number in the ABI; more than this is less than nothing.
_MAX_TIMEOUT = 0x7FFF_FFFF


def _read_ranges(vm: WasmVM, numbers: tuple[int, ...]) -> None:
    for data, size in zip(numbers[::2], numbers[1::2], strict=True):
        vm.memory.read(data, size)


def http_call(
    vm: WasmVM,
    upstream_data: int,
    upstream_size: int,
    headers_data: int,
    headers_size: int,
    body_data: int,
    body_size: int,
    trailers_data: int,
    trailers_size: int,
    timeout_milliseconds: int,
    return_token: int,
) -> int | None:
    """Send a request to a named upstream, after this callback; the answer comes by `on_http_call_response`.

    BAD_ARGUMENT for an upstream that the settings do not name, for headers without ``:method``, ``:path`` or
    ``:authority``, and for a negative timeout.
    """
    read = vm.memory.read
    upstream = read(upstream_data, upstream_size).decode("utf-8", "replace")
    headers = HeaderMap()
    # In Envoy's header maps "host" is another name of ":authority".
    pairs = decode_pairs(read(headers_data, headers_size))
    headers.replace_all((b":authority" if name.lower() == b"host" else name, value) for name, value in pairs)
    body = read(body_data, body_size)
    trailers = decode_pairs(read(trailers_data, trailers_size))
    if upstream not in vm.ports.upstreams or any(headers.get(name) is None for name in _NEEDED_HEADERS):
        return ProxyStatus.BAD_ARGUMENT
    if timeout_milliseconds > _MAX_TIMEOUT:
        return ProxyStatus.BAD_ARGUMENT
    token = vm.next_http_call_token()
    vm.memory.write_u32(return_token, token)
    root = acting_context(vm).root
    vm.effects.append(HttpCall(root, token, upstream, headers.pairs, body, trailers, timeout_milliseconds))
    return None


def grpc_call(vm: WasmVM, *arguments: int) -> int | None:
    """PARSE_FAILURE: the service is no known cluster."""
    _read_ranges(vm, arguments[:-2])
    return ProxyStatus.PARSE_FAILURE


def grpc_stream(vm: WasmVM, *arguments: int) -> int | None:
    """PARSE_FAILURE: the service is no known cluster."""
    _read_ranges(vm, arguments[:-1])
    return ProxyStatus.PARSE_FAILURE


def grpc_send(vm: WasmVM, token: int, message_data: int, message_size: int, _end_stream: int) -> int | None:
    """BAD_ARGUMENT for the token of a call, NOT_FOUND for an unknown one."""
    vm.memory.read(message_data, message_size)
    return ProxyStatus.BAD_ARGUMENT if token & _ID_MASK == _GRPC_CALL else ProxyStatus.NOT_FOUND


def _unknown_token(token: int) -> int:
    return ProxyStatus.NOT_FOUND if token & _ID_MASK in (_GRPC_CALL, _GRPC_STREAM) else ProxyStatus.BAD_ARGUMENT


def grpc_cancel(_vm: WasmVM, token: int) -> int | None:
    """NOT_FOUND for an unknown token, BAD_ARGUMENT for one that is not gRPC's."""
    return _unknown_token(token)


def grpc_close(_vm: WasmVM, token: int) -> int | None:
    """As `grpc_cancel`."""
    return _unknown_token(token)
