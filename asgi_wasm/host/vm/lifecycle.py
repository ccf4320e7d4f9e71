"""The life of a module and its contexts: its entry point, create, start, configure, done, log, delete.

Followed: proxy-wasm-cpp-host `src/wasm.cc` (`start`, `configure`, `finishShutdown`) and `src/context.cc`; the order
at a stream's end is Envoy's (`Context::log`, then `onDestroy`): log, done, delete. The spec has done, log, delete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.effects import EndStreamCallouts
from asgi_wasm.host.resident.layout import RESTRICTED
from asgi_wasm.host.vm.contexts import Chain, RootContext, StreamContext, VmFailedError
from asgi_wasm.host.vm.log_lines import origin_of

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM
    from asgi_wasm.specs import PluginSpec


class StartRefusedError(Exception):
    """Raised when `on_vm_start` or `on_configure` answered false."""


def start_module(vm: WasmVM) -> None:
    """Run the module's own entry point: `_initialize` (then its main), else `_start`.

    Raises `VmFailedError`. A module may also have none of these, or only a start section.

    Follows: proxy-wasm-cpp-host `WasmBase::startVm` (`src/wasm.cc`).
    """
    vm.flags[RESTRICTED] = 1
    initialize = vm.function("_initialize")
    if initialize is not None:
        vm.call(None, initialize)
        if (main := vm.function("main")) is not None:
            vm.call(None, main, 0, 0)
        elif (main := vm.function("__main_void")) is not None:
            vm.call(None, main)
    elif (start := vm.function("_start")) is not None:
        vm.call(None, start)
    vm.flags[RESTRICTED] = 0


def start_root(vm: WasmVM, spec: PluginSpec, conf: bytes) -> RootContext:
    """Make a root context and start it: `on_context_create`, `on_vm_start`, `on_configure`.

    Raises `StartRefusedError` when the plugin says no, `VmFailedError` when it traps.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_context_create
    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_vm_start
    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_configure
    Follows: proxy-wasm-cpp-host `WasmBase::start`, `WasmBase::configure` (`src/wasm.cc`).
    """
    root = RootContext(vm.next_context_id(), vm, spec, conf)
    vm.contexts[root.id] = root
    try:
        if vm.on_context_create is not None:
            root.configuring = True
            vm.call(root, vm.on_context_create, root.id, 0)
        starts = ("proxy_on_vm_start", "vm_conf", len(spec.vm_conf)), ("proxy_on_configure", "conf", len(conf))
        for name, key, size in starts:
            callback = vm.function(name)
            # cpp-host `ContextBase::onStart`: the start of the VM is to be independent of the plugin.
            root.configuring = name == "proxy_on_configure"
            if callback is not None and not vm.call(root, callback, root.id, size):
                _refuse(root)
                with_it = f"with its {key}" if size else f"without a {key}"
                raise StartRefusedError(f"it refused to start {with_it} ({name.removeprefix('proxy_')} answered false)")
        root.configuring = False
        vm.perform()
    except VmFailedError:
        vm.abandon_streams()
        raise
    return root


def _refuse(root: RootContext) -> None:
    """Forget a root context that would not start; what it asked for is not to be answered to nobody."""
    root.deleted = True
    root.vm.effects.clear()
    root.vm.forget(root)


def shut_down_root(root: RootContext) -> None:
    """Ask a root context to end; `on_delete` follows at once, or after its `proxy_done` when it answers false.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_done
    Follows: proxy-wasm-cpp-host `WasmBase::startShutdown` (`src/wasm.cc`).
    """
    vm = root.vm
    if vm.failure is not None or root.deleted or root.awaiting_done:
        return
    try:
        if vm.on_done is not None and not vm.call(root, vm.on_done, root.id):
            root.awaiting_done = True
        else:
            vm.delete(root)
        vm.perform()
    except VmFailedError as error:
        root.deleted = True
        told = f"its VM failed while it was stopped, which touches no request: {error}"
        vm.ports.log.host(root.spec.name, LogLevel.WARN, told, origin_of(root))
        vm.abandon_streams()


def create_stream(root: RootContext, chain: Chain) -> StreamContext:
    """Make the context of one request in this plugin. Raises `VmFailedError`, `LimitReachedError`.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_context_create
    Follows: proxy-wasm-cpp-host `ContextBase::onCreate` (`src/context.cc`).
    """
    vm = root.vm
    context_id = vm.new_stream_id(root.spec.name)
    vm.contexts[context_id] = context = StreamContext(context_id, root, chain)
    if vm.on_context_create is not None:
        vm.call(context, vm.on_context_create, context_id, root.id)
    return context


def end_callouts(context: StreamContext) -> None:
    """End what the stream waits for, before the callbacks of its end: its client has gone."""
    context.vm.ports.start(EndStreamCallouts(context.root, context.id))


def log_stream(context: StreamContext) -> None:
    """`on_log`, before `finish_stream`. A failed VM hears nothing of it. Raises `VmFailedError` when it fails now.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_log
    Follows: Envoy `Context::log` (`source/extensions/common/wasm/context.cc`).
    """
    vm = context.vm
    if vm.failure is not None or context.deleted or vm.on_log is None:
        return
    context.logging = True
    vm.call(context, vm.on_log, context.id)
    context.logging = False
    if vm.effects:
        vm.perform()


def finish_stream(context: StreamContext) -> None:
    """`on_done`, `on_delete`, once. A failed VM hears nothing of it. Raises `VmFailedError` when it fails now.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_done
    Follows: Envoy `Context::onDestroy` (`source/extensions/common/wasm/context.cc`).
    """
    vm = context.vm
    if vm.failure is not None or context.deleted:
        return
    if vm.on_done is not None:
        # The answer is not looked at: Envoy honours "not yet" for root contexts only.
        vm.call(context, vm.on_done, context.id)
    delete_stream(context)


def delete_stream(context: StreamContext) -> None:
    """`on_delete`, once, after an `on_done`. Raises `VmFailedError` when the VM fails now.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_delete
    Follows: Envoy `Context::onDestroy` (`source/extensions/common/wasm/context.cc`).
    """
    vm = context.vm
    if vm.failure is not None or context.deleted:
        return
    context.deleted = True
    try:
        if vm.on_delete is not None:
            vm.call(context, vm.on_delete, context.id)
    finally:
        vm.forget(context)
    if vm.effects:
        vm.perform()
