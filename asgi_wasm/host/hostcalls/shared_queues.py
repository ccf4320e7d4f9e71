"""Spec chapter "Shared queues"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host import limits
from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.hostcalls.system import acting_context

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

__all__ = ["dequeue_shared_queue", "enqueue_shared_queue", "register_shared_queue", "resolve_shared_queue"]


def register_shared_queue(vm: WasmVM, name_data: int, name_size: int, return_token: int) -> int | None:
    """Make the queue or take it over: this root context gets `on_queue_ready` from now on.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_register_shared_queue
    Follows: proxy-wasm-cpp-host `SharedQueue::registerQueue` (`src/shared_queue.cc`).
    """
    name = limits.read_name(vm, name_data, name_size)
    root = acting_context(vm).root
    root.has_queue = True
    token = vm.ports.queues.register(vm.spec.vm_id, name, root)
    vm.memory.write_u32(return_token, token)
    return None


def resolve_shared_queue(
    vm: WasmVM, vm_id_data: int, vm_id_size: int, name_data: int, name_size: int, return_token: int
) -> int | None:
    """The token of a queue that somebody registered, else NOT_FOUND. An empty vm_id is the plugin's own.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_resolve_shared_queue
    Follows: proxy-wasm-cpp-host `SharedQueue::resolveQueue` (`src/shared_queue.cc`).
    """
    limits.check_range(vm, name_data, name_size)
    vm_id = limits.read_name(vm, vm_id_data, vm_id_size, ProxyStatus.NOT_FOUND).decode("utf-8", "replace")
    name = limits.read_name(vm, name_data, name_size, ProxyStatus.NOT_FOUND)
    token = vm.ports.queues.resolve(vm_id or vm.spec.vm_id, name)
    if token is None:
        return ProxyStatus.NOT_FOUND
    vm.memory.write_u32(return_token, token)
    return None


def enqueue_shared_queue(vm: WasmVM, token: int, value_data: int, value_size: int) -> int | None:
    """Append a value. NOT_FOUND for an unknown token.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_enqueue_shared_queue
    Follows: proxy-wasm-cpp-host `SharedQueue::enqueue` (`src/shared_queue.cc`).
    """
    value = limits.read(vm, "value_bytes", value_data, value_size)
    return None if vm.ports.queues.enqueue(token, value) else ProxyStatus.NOT_FOUND


def dequeue_shared_queue(vm: WasmVM, token: int, return_value_data: int, return_value_size: int) -> int | None:
    """Take the oldest value. EMPTY when there is none, NOT_FOUND for an unknown token.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_dequeue_shared_queue
    Follows: proxy-wasm-cpp-host `SharedQueue::dequeue` (`src/shared_queue.cc`).
    """
    try:
        value = vm.ports.queues.dequeue(token)
    except KeyError:
        return ProxyStatus.NOT_FOUND
    if value is None:
        return ProxyStatus.EMPTY
    vm.memory.give(value, return_value_data, return_value_size)
    return None
