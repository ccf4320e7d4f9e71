"""One running module: its instance, its contexts, and the way in.

Followed: proxy-wasm-cpp-host `src/wasm.cc` (`initialize`, `startVm`) and `include/proxy-wasm/wasm.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from asgi_wasm.engines.base import GuestFunction, HostFunction, Module
from asgi_wasm.errors import EngineError, EventLoopError
from asgi_wasm.host import directions
from asgi_wasm.host.abi import AbiVersion
from asgi_wasm.host.effects import EndCallouts
from asgi_wasm.host.resident.kit import Kit
from asgi_wasm.host.resident.layout import RESTRICTED
from asgi_wasm.host.signatures import Signature
from asgi_wasm.host.vm.callbacks import allocator, resolve, with_end_of_stream
from asgi_wasm.host.vm.calls import Calls
from asgi_wasm.host.vm.context_table import ContextTable
from asgi_wasm.host.vm.contexts import VmFailedError
from asgi_wasm.host.vm.instantiation import instantiate
from asgi_wasm.host.vm.log_lines import LogLines
from asgi_wasm.host.vm.memory import NO_MEMORY, GuestMemory
from asgi_wasm.host.vm.metric_ids import MetricIds
from asgi_wasm.host.vm.notices import Notices
from asgi_wasm.host.vm.trace import joined
from asgi_wasm.host.vm.tracing import Trace
from asgi_wasm.host.vm.watching import watched

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Effect, Ports
    from asgi_wasm.host.vm.contexts import Context, RootContext
    from asgi_wasm.specs import PluginSpec


# What answers a name in `proxy_call_foreign_function`: the VM that calls it, and the arguments. It may raise
# `HostcallError` to answer another status than OK.
ForeignFunction = Callable[["WasmVM", bytes], "bytes | None"]
# Makes a host function for each function that a module imports (`host.vm.linker.host_functions`).
MakeHostFunctions = Callable[["WasmVM", Module], "dict[tuple[str, str], HostFunction]"]
_NO_FUNCTIONS: Mapping[str, ForeignFunction] = {}


class WasmVM(ContextTable):
    """A module instance that one or several plugins (root contexts) share.

    ``spec`` is the plugin that the VM was first made for: its environment, capabilities and limits are the VM's,
    and lines logged before any context exists carry its name.
    """

    def __init__(
        self,
        module: Module,
        version: AbiVersion,
        spec: PluginSpec,
        ports: Ports,
        host_functions: MakeHostFunctions,
        foreign_functions: Mapping[str, ForeignFunction] = _NO_FUNCTIONS,
        kit: Kit | None = None,
    ) -> None:
        """``kit`` is to stand beside the instance, if that can be."""
        super().__init__(spec, ports)
        self.version = version
        self.foreign_functions = foreign_functions
        self.failure: str | None = None
        self.refused_at = 0
        self.effects: list[Effect] = []
        # The calls among `effects`.
        self.calls = Calls()
        self.log_lines = LogLines(ports, spec.limits, self)
        self.notices = Notices(ports, self.log_lines.origin)
        self.metric_ids = MetricIds(spec.limits)
        self._thread_here = ports.thread
        # The one that may enter it.
        self.thread = ports.thread()
        told = ports.log.trace()
        sink = joined([*(() if told is None else (told,)), *ports.sinks])
        self.trace = None if sink is None else Trace(sink, self)
        self.memory, self._linear = GuestMemory(NO_MEMORY, self._allocate), NO_MEMORY
        self.flags[RESTRICTED] = 1
        self.instance, self.resident = instantiate(self, module, host_functions(self, module), kit)
        if self.resident is not None:
            self.flags = cast("list[int]", self.resident.words)
        self.flags[RESTRICTED] = 0
        self._linear = self.instance.memory
        self.memory = GuestMemory(self._linear, self._allocate)
        self._resolve(module)

    def _resolve(self, module: Module) -> None:
        found = resolve(module, self.instance, self.version, self.spec.allowed_capabilities, self._wrapped)
        self._functions = found
        self._allocator = allocator(found)
        # Looked up once, because they are on every request's way; indexed by direction.
        self.on_context_create = found.get("proxy_on_context_create")
        self.on_headers = [
            with_end_of_stream(found.get(f"proxy_on_{way}_headers"), self.version) for way in directions.NAMES
        ]
        self.on_body = [found.get(f"proxy_on_{way}_body") for way in directions.NAMES]
        self.on_trailers = [found.get(f"proxy_on_{way}_trailers") for way in directions.NAMES]
        self.sees_body = directions.sees_body(found)
        self.on_log = found.get("proxy_on_log")
        self.on_done = found.get("proxy_on_done")
        self.on_delete = found.get("proxy_on_delete")

    def _wrapped(self, row: Signature, function: GuestFunction) -> GuestFunction:
        if self.trace is not None:
            function = self.trace.callback(row, function)
        return watched(self.ports, row.name, function, self.caller, self.effects)

    @property
    def is_traced(self) -> bool:
        """Whether somebody is told of each of its calls."""
        return self.trace is not None

    def function(self, name: str) -> GuestFunction | None:
        """The callback of this name, if the module exports it and may be called by it."""
        return self._functions.get(name)

    # --- calling

    def call(self, context: Context | None, function: GuestFunction, *args: int) -> int:
        """Call the guest on behalf of ``context``; 0 for a function without result.

        Raises `VmFailedError`, after which ``failure`` says why. Raises `EventLoopError`, and touches nothing, outside
        of the event loop that the VM belongs to: a second thread in a store would end the process.
        """
        if self._thread_here() != self.thread:
            self._come_home()
        if self.failure is not None:
            raise VmFailedError(self.failure)
        previous = self.current, self._effective
        self.current, self._effective = context, None
        try:
            return function(*args) or 0
        except EngineError as error:
            self.fail(error)
            raise VmFailedError(self.failure) from error
        finally:
            self.current, self._effective = previous

    def check_thread(self) -> None:
        """Before the guest is entered. Raises `EventLoopError` outside of the event loop that the VM belongs to."""
        if self._thread_here() != self.thread:
            self._come_home()

    def _come_home(self) -> None:
        """Allow another thread than before if the event loop has moved there: it runs in one at a time."""
        if not self.ports.is_home():
            raise EventLoopError(
                f"plugin {self.spec.name!r} was called outside of its event loop: receive and send of a request may be"
                " called only in the event loop that called the app"
            )
        self.thread = self._thread_here()
        if self.resident is not None and self.resident.native is not None:
            self.resident.native.thread = self.thread

    def fail(self, error: BaseException) -> None:
        """Mark the VM failed: it is in an arbitrary state and never called again."""
        if self.failure is None:
            try:
                self.recall_lent()
            finally:
                # An engine's report names the host function that raised, if one did, and what. It is failed at Python's
                # limit of recursion, too, where little else can be done.
                self.failure = str(error) or type(error).__name__
            self.failure += self._short_of_memory()
            if self.resident is not None:
                self.resident.tell_gone()
            self.effects.clear()
            self.ports.host_metrics.trapped(self.plugin_name())
            for root in self.roots():
                self._end_callouts(root)
                root.on_failure()

    def _short_of_memory(self) -> str:
        """A trap does not tell that memory could not grow, which many a trap comes from."""
        size, limit = self._linear.size, self.spec.limits.memory
        return f"; its memory has {size:,} bytes, and limits.memory is {limit:,}" if size > limit // 2 else ""

    def abandon_streams(self) -> None:
        """After a failure: let every stream that waits for this VM have its failure policy."""
        contexts, self.contexts = self.contexts, {}
        for context in contexts.values():
            if context.stream is not None:
                context.stream.chain.abandoned(context.stream)

    def perform(self) -> None:
        """Carry out what the last callback left behind. To be called whenever a callback is over."""
        # Taken out first: an effect calls plugins, and this again, for theirs alone. Or a tick that resumes many
        # streams would nest each in the one before.
        effects = self.effects[:]
        self.effects.clear()
        calls = self.calls
        if calls.size or calls.count:
            calls.clear()
        for effect in effects:
            effect.perform()

    def _allocate(self, size: int) -> int:
        """Room for so many bytes in the guest; 0 when there is none.

        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_memory_allocate
        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#malloc
        Follows: proxy-wasm-cpp-host `WasmBase::allocMemory` (`include/proxy-wasm/wasm.h`).
        """
        # cpp-host `SaveRestoreContext`: the allocator runs without a context and may only log.
        previous = self.current, self._effective
        flags, restricted = self.flags, self.flags[RESTRICTED]
        self.current = self._effective = None
        flags[RESTRICTED] = 1
        try:
            return self._allocator(size) or 0
        finally:
            self.current, self._effective = previous
            flags[RESTRICTED] = restricted

    def delete(self, root: RootContext) -> None:
        """Run `on_delete` of a root context and forget it, once. Raises `VmFailedError`.

        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_delete
        Follows: proxy-wasm-cpp-host `WasmBase::finishShutdown` (`src/wasm.cc`).
        """
        if root.deleted:
            return
        root.deleted = True
        try:
            if self.on_delete is not None:
                self.call(root, self.on_delete, root.id)
        finally:
            self.forget(root)

    def forget(self, context: Context) -> None:
        """Drop a context after its `on_delete`."""
        self.contexts.pop(context.id, None)
        if self._effective is context:
            self._effective = None
        if context.root is context:
            self._end_callouts(context.root)
            if self.resident is not None:
                self.resident.tell_gone()

    def _end_callouts(self, root: RootContext) -> None:
        # Envoy's `~Context` cancels what is under way; nothing may be delivered from here on. What waits for an answer
        # or for a tick would also keep a dead VM, with all its memory, until then.
        if root.has_asked or root.grpc_tokens:
            root.grpc_tokens.clear()
            self.ports.start(EndCallouts(root))

    def close(self) -> None:
        """Free the instance. A stream that still waits for it has its failure policy."""
        if self.failure is None:
            self.recall_lent()
            self.failure = "the VM is closed"
        self.abandon_streams()
        self._free()

    def discard(self) -> None:
        """Free the instance, and tell nobody: the event loop in which they could hear of it is closed."""
        self.failure = "its event loop is closed"
        self.contexts.clear()
        self.lent.clear()
        self._free()

    def _free(self) -> None:
        if self.resident is not None:
            self.flags = [0, 0]
            self.resident.close()
        self.instance.close()


def vm_of(root: RootContext) -> WasmVM:
    """The VM of a root context, for who needs more of it than `contexts.Vm`."""
    assert isinstance(root.vm, WasmVM)
    return root.vm
