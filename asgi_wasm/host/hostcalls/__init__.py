"""What each hostcall does: one small function per hostcall, one module per chapter of the spec.

The shape is always the same: read arguments, check enumerations, act, write results, and return None for OK or
another `ProxyStatus`. A function may raise `HostcallError` or let `MemoryAccessError` pass; `host.vm.linker` turns
both into a status. Arguments come as the guest gave them, as unsigned ints, in the order of
`host.signatures.HOSTCALLS`.
"""

from __future__ import annotations

from collections.abc import Callable

from asgi_wasm.host.hostcalls import (
    buffers,
    foreign,
    grpc_calls,
    header_maps,
    http_calls,
    logging,
    metrics,
    properties,
    shared_data,
    shared_queues,
    streams,
    system,
)

_CHAPTERS = (
    buffers,
    foreign,
    grpc_calls,
    header_maps,
    http_calls,
    logging,
    metrics,
    properties,
    shared_data,
    shared_queues,
    streams,
    system,
)

# Wire name -> function; a function is named as on the wire, without the prefix "proxy_".
IMPLEMENTATIONS: dict[str, Callable[..., int | None]] = {
    name if name in system.UNPREFIXED else f"proxy_{name}": getattr(chapter, name)
    for chapter in _CHAPTERS
    for name in chapter.__all__
}
