"""Spec chapter "HTTP calls".

Followed: Envoy `source/extensions/common/wasm/context.cc` (`httpCall`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import CalloutType, HostcallError, ProxyStatus
from asgi_wasm.host.effects import HttpCall
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.streams.header_map import RequestHeaderMap

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["http_call"]

_NEEDED_HEADERS = (b":method", b":path", b":authority")
# The timeout is a signed number in the ABI; more than this is less than nothing.
_MAX_TIMEOUT = 0x7FFF_FFFF


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

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_http_call
    Follows: Envoy `Context::httpCall` (`source/extensions/common/wasm/context.cc`).
    """
    limits.check_range(vm, upstream_data, upstream_size)
    headers = RequestHeaderMap()
    headers.replace_all(limits.read_pairs(vm, headers_data, headers_size))
    limits.check_range(vm, body_data, body_size)
    trailers = limits.read_pairs(vm, trailers_data, trailers_size)
    # Written in any case, as cpp-host does; 0 is no token.
    vm.memory.write_u32(return_token, 0)
    upstream = _read_upstream(vm, upstream_data, upstream_size)
    if timeout_milliseconds > _MAX_TIMEOUT or any(headers.get(name) is None for name in _NEEDED_HEADERS):
        return ProxyStatus.BAD_ARGUMENT
    body = limits.read(vm, "callback_call_bytes", body_data, body_size)
    token = vm.calls.next_token(CalloutType.HTTP_CALL)
    context = acting_context(vm)
    request = headers.pairs, body, trailers, timeout_milliseconds
    call = HttpCall(context.root, token, upstream, *request, context.stream_id)
    limits.ask(vm, call, headers_size + body_size + trailers_size)
    vm.memory.write_u32(return_token, token)
    return None


def _read_upstream(vm: WasmVM, address: int, size: int) -> str:
    """The name of an upstream that the settings name too; else BAD_ARGUMENT, and the log is told."""
    upstream = limits.read_name(vm, address, size, ProxyStatus.BAD_ARGUMENT).decode("utf-8", "replace")
    if upstream not in vm.ports.upstreams:
        vm.notices.unknown_upstream(vm.plugin_name(), upstream)
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    return upstream
