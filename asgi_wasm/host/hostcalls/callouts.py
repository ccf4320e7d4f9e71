"""Spec chapters "HTTP calls" and "gRPC calls".

No upstream is known to this host yet, so every call is answered as Envoy answers for a cluster it does not know;
the arguments are read and checked all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import ProxyStatus

if TYPE_CHECKING:
    from asgi_wasm.host.vm import WasmVM

__all__ = ["grpc_call", "grpc_cancel", "grpc_close", "grpc_send", "grpc_stream", "http_call"]

# Envoy's gRPC ids: the low two bits tell calls (1) and streams (2) from HTTP calls (0).
_ID_MASK = 3
_GRPC_CALL, _GRPC_STREAM = 1, 2


def _read_ranges(vm: WasmVM, numbers: tuple[int, ...]) -> None:
    for data, size in zip(numbers[::2], numbers[1::2], strict=True):
        vm.memory.read(data, size)


def http_call(vm: WasmVM, *arguments: int) -> int | None:
    """BAD_ARGUMENT: the upstream is unknown."""
    _read_ranges(vm, arguments[:-2])
    return ProxyStatus.BAD_ARGUMENT


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
