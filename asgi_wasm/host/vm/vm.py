"""One running module: its instance, its contexts, and the way in.

Followed: proxy-wasm-cpp-host `src/wasm.cc` (`initialize`, `startVm`) and `include/proxy-wasm/wasm.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from asgi_wasm.engines.base import GuestFunction, HostFunction, Instance, Module
from asgi_wasm.engines.companion import CompanionModule, NativeFunction
from asgi_wasm.errors import EngineError, EventLoopError
from asgi_wasm.host import directions
from asgi_wasm.host.abi import AbiVersion, CalloutType, LogLevel
from asgi_wasm.host.effects import EndCallouts
from asgi_wasm.host.ports import LimitReachedError, LogOrigin
from asgi_wasm.host.resident.kit import FILL, GIVE_BODY, Kit
from asgi_wasm.host.resident.layout import ARENA, LAST_ID, MAX_PAIRS, REQUEST_SLOT, RESTRICTED
from asgi_wasm.host.resident.resident import Lent, Resident
from asgi_wasm.host.signatures import Signature
from asgi_wasm.host.vm.callbacks import allocator, is_sound, resolve, with_end_of_stream
from asgi_wasm.host.vm.contexts import VmFailedError
from asgi_wasm.host.vm.log_lines import LogLines
from asgi_wasm.host.vm.memory import NO_MEMORY, GuestMemory
from asgi_wasm.host.vm.slowness import time_limit
from asgi_wasm.host.vm.trace import joined
from asgi_wasm.host.vm.tracing import Trace
from asgi_wasm.host.vm.watching import watched

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Effect, Ports
    from asgi_wasm.host.vm.contexts import Context, RootContext
    from asgi_wasm.specs import PluginSpec


class Asked:
    """How many calls a callback asked for, and of how many bytes."""

    __slots__ = ("count", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0


# Of the kernel: two pages, under the same limit as the plugin's memory.
_LEAST_MEMORY = 2 * 65536
_CLOCK = "proxy_get_current_time_nanoseconds"
_REQUEST_ID = b"x-request-id"


# What answers a name in `proxy_call_foreign_function`: the VM that calls it, and the arguments. It may raise
# `HostcallError` to answer another status than OK.
ForeignFunction = Callable[["WasmVM", bytes], "bytes | None"]
# Makes a host function for each function that a module imports (`host.vm.linker.link`).
Link = Callable[["WasmVM", Module], "dict[tuple[str, str], HostFunction]"]
_NO_FUNCTIONS: Mapping[str, ForeignFunction] = {}


class WasmVM:
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
        link: Link,
        foreign_functions: Mapping[str, ForeignFunction] = _NO_FUNCTIONS,
        kit: Kit | None = None,
    ) -> None:
        """``kit`` is to stand beside the instance, if that can be."""
        self.spec = spec
        self.version = version
        self.ports = ports
        self.foreign_functions = foreign_functions
        self.failure: str | None = None
        self.effects: list[Effect] = []
        self.contexts: dict[int, Context] = {}
        # What stands beside the instance, and the requests whose headers it is lent, by their stream contexts' ids.
        self.resident: Resident | None = None
        self.lent: dict[int, Lent] = {}
        # `layout.RESTRICTED`: only logging, clocks and WASI answer while the module starts or allocates.
        # `layout.LAST_ID`: of a context. A list of these, or the kernel's own window, so that there is one of each.
        self.flags: list[int] = [0, 0]
        self.current: Context | None = None
        self._effective: Context | None = None
        # The calls among `effects`, which limits bound.
        self.asked = Asked()
        # Limits that the log was told of.
        self._told_limits: set[str] = set()
        # The log was told of an upstream that the settings do not name.
        self.told_of_upstream = False
        self._last_tokens: dict[CalloutType, int] = {kind: int(kind) for kind in CalloutType}
        self._last_function_id = 0
        # Metric ids of this VM: id -> name, and how many of each type (`host.hostcalls.metrics`).
        self.metric_names: dict[int, str] = {}
        self.metric_counts = [0, 0, 0]
        self.metric_bytes = 0
        self.log_lines = LogLines(ports, spec.limits, self)
        self._thread_here = ports.thread
        # The one that may enter it.
        self.thread = ports.thread()
        told = ports.log.trace()
        sink = joined([*(() if told is None else (told,)), *ports.sinks])
        self.trace = None if sink is None else Trace(sink, self)
        self.memory = GuestMemory(NO_MEMORY, self._allocate)
        self.instance = self._instantiate(module, link, kit)
        self.memory = GuestMemory(self.instance.memory, self._allocate)
        self._resolve(module)

    # --- starting

    def _instantiate(self, module: Module, link: Link, kit: Kit | None) -> Instance:
        self.restricted = True
        functions = link(self, module)
        limits = self.spec.limits
        limit = time_limit(limits, self.ports, self.plugin_name)
        space = {"memory_limit": limits.memory, "table_limit": limits.table_elements}
        if (
            kit is not None
            and is_sound(module, self.version)
            and isinstance(module, CompanionModule)
            and self._may_lend(module)
        ):
            native = kit.native_kernel()
            fill = self._fill if native is None else NativeFunction(native.fill, native.env, native)
            body = self._give_body if native is None else NativeFunction(native.give_body, native.env, native)
            own = {FILL: fill, GIVE_BODY: body}
            instance, beside = module.instantiate_beside({**functions, **own}, kit, **space, time_limit=limit)
            self.resident = Resident(self, beside, self.ports.clock.realtime, native)
            self.resident.may_want_time = any(each.name == _CLOCK for each in module.imports)
            self.flags = cast("list[int]", self.resident.words)
        else:
            instance = module.instantiate(functions, **space, time_limit=limit)
        self.restricted = False
        return instance

    def _fill(self, slot: int) -> int:
        return 0 if self.resident is None else self.resident.fill(slot)

    def _give_body(self, at: int, start: int, size: int) -> None:
        piece = b"" if self.resident is None else self.resident.piece
        self.memory.write(at, piece if size == len(piece) else piece[start : start + size])

    def _may_lend(self, module: CompanionModule) -> bool:
        """Whether all that a kernel answers would be answered by the host as well, and unseen."""
        limits = self.spec.limits
        return (
            module.takes_companion
            and self.version > AbiVersion.V0_1_0
            and not self.spec.allowed_capabilities
            and self.trace is None
            and not self.ports.host_metrics.enabled
            and limits.memory >= _LEAST_MEMORY
            # The kernel keeps no limit but its own size.
            and limits.header_count >= MAX_PAIRS
            and min(limits.header_bytes, limits.local_reply_bytes) >= ARENA
        )

    @property
    def restricted(self) -> bool:
        """See ``flags``."""
        return bool(self.flags[RESTRICTED])

    @restricted.setter
    def restricted(self, value: bool) -> None:
        self.flags[RESTRICTED] = int(value)

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
        self.on_log = found.get("proxy_on_log")
        self.on_done = found.get("proxy_on_done")
        self.on_delete = found.get("proxy_on_delete")

    def _wrapped(self, row: Signature, function: GuestFunction) -> GuestFunction:
        if self.trace is not None:
            function = self.trace.callback(row, function)
        return watched(self.ports, row.name, function, self._caller, self.effects)

    def function(self, name: str) -> GuestFunction | None:
        """The callback of this name, if the module exports it and may be called by it."""
        return self._functions.get(name)

    def start(self) -> None:
        """Run the module's own entry point: `_initialize` (then its main), else `_start`.

        Raises `VmFailedError`. A module may also have none of these, or only a start section.
        """
        self.restricted = True
        initialize = self.function("_initialize")
        if initialize is not None:
            self.call(None, initialize)
            if (main := self.function("main")) is not None:
                self.call(None, main, 0, 0)
            elif (main := self.function("__main_void")) is not None:
                self.call(None, main)
        elif (start := self.function("_start")) is not None:
            self.call(None, start)
        self.restricted = False

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
            self._recall_lent()
            # An engine's report names the host function that raised, if one did, and what.
            self.failure = str(error) or type(error).__name__
            if self.resident is not None:
                self.resident.tell_gone()
            self.effects.clear()
            self.ports.host_metrics.trapped(self.plugin_name())
            for root in self.roots():
                self._end_callouts(root)
                root.on_failure()

    def _recall_lent(self) -> None:
        """Let requests that kernels serve go on in Python: nothing of this VM may be entered by them any more."""
        for lent in list(self.lent.values()):
            lent.recall()

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
        if self.asked.size or self.asked.count:
            self.asked = Asked()
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

    # --- contexts

    @property
    def context(self) -> Context | None:
        """Whom a hostcall acts for: the effective context while it lives, else the one whose callback runs."""
        if self._effective is not None:
            return self._effective
        if self.current is not None or self.resident is None:
            return self.current
        return self.resident.acting()

    def find_context(self, context_id: int) -> Context | None:
        """The context of this id; one that is lent is taken back."""
        if context_id in self.lent:
            if self.resident is not None:
                # Of the callback that runs, too: there is no other way to whom it acts for from here on.
                self.resident.recall()
            if context_id in self.lent:
                self.lent[context_id].recall()
        return self.contexts.get(context_id)

    def set_effective_context(self, context: Context | None) -> None:
        """Let the later hostcalls of this callback act for another context, or (None) for its own again."""
        if self.resident is not None:
            self.resident.recall()
        self._effective = context

    def leave(self) -> None:
        """A callback that the kernel called is over, and had been taken back."""
        self.current = self._effective = None

    def new_stream_id(self, plugin: str) -> int:
        """The id of one more stream context, of this plugin. Raises `LimitReachedError`."""
        if len(self.contexts) + len(self.lent) >= self.spec.limits.contexts:
            self.ports.host_metrics.limit_reached(plugin, "contexts")
            raise LimitReachedError("contexts", self.spec.limits.contexts)
        flags = self.flags
        flags[LAST_ID] = last = flags[LAST_ID] + 1
        return last

    def next_context_id(self) -> int:
        """A number that this VM has not used before (the Rust SDK panics on a repeated one)."""
        flags = self.flags
        flags[LAST_ID] = last = flags[LAST_ID] + 1
        return last

    def next_callout_token(self, kind: CalloutType) -> int:
        """4, 8, … for HTTP calls, 5, 9, … and 6, 10, … for gRPC's: the low two bits are the kind."""
        self._last_tokens[kind] += 4
        return self._last_tokens[kind]

    def next_function_id(self) -> int:
        """Under which an asynchronous foreign function will answer; a number that this VM has not used before."""
        self._last_function_id += 1
        return self._last_function_id

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

    def limit_reached(self, error: LimitReachedError) -> None:
        """Count that a limit refused something; the log is told once, since a plugin may try for ever."""
        plugin = self.plugin_name()
        self.ports.host_metrics.limit_reached(plugin, error.limit)
        if error.limit not in self._told_limits:
            self._told_limits.add(error.limit)
            self.ports.log.host(plugin, LogLevel.WARN, f"what it asked for was refused: {error} (said once)")

    def _caller(self) -> str:
        """The plugin whose callback runs, whomever its hostcalls act for."""
        return (self.spec if self.current is None else self.current.root.spec).name

    def log_level(self) -> LogLevel:
        """The lowest level that is kept of the plugin that acts now: its logger's, or the settings' if that is more."""
        context = self.context
        spec = self.spec if context is None else context.root.spec
        return max(self.ports.log.level(spec.name), LogLevel(spec.log_level))

    def log_origin(self) -> LogOrigin:
        """Where it is, for a line of the log."""
        context = self.context
        if context is None:
            return LogOrigin(self.spec.vm_id)
        stream_id = context.stream_id
        return LogOrigin(context.root.spec.vm_id, stream_id or context.root.id, self._request_id(context, stream_id))

    def _request_id(self, context: Context, stream_id: int) -> bytes:
        """As the property ``request.id``; a kernel need not hand its request over for that."""
        lent = self.lent.get(stream_id)
        if lent is not None:
            fields = lent.flat(REQUEST_SLOT)
            return next((fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == _REQUEST_ID), b"")
        found = context.stream.chain.attributes.get((b"request", b"id")) if context.stream is not None else None
        return found if isinstance(found, bytes) else b""

    def plugin_name(self) -> str:
        """Whose words a log line is."""
        context = self.context
        return self.spec.name if context is None else context.root.spec.name

    def close(self) -> None:
        """Free the instance. A stream that still waits for it has its failure policy."""
        if self.failure is None:
            self._recall_lent()
            self.failure = "the VM is closed"
        self.abandon_streams()
        if self.resident is not None:
            self.flags = [0, 0]
            self.resident.close()
        self.instance.close()

    def discard(self) -> None:
        """Free the instance, and tell nobody: the event loop in which they could hear of it is closed."""
        self.failure = "its event loop is closed"
        self.contexts.clear()
        self.lent.clear()
        if self.resident is not None:
            self.flags = [0, 0]
            self.resident.close()
        self.instance.close()

    def roots(self) -> list[RootContext]:
        """Its root contexts, oldest first."""
        return [context for context in self.contexts.values() if context.root is context]


def vm_of(root: RootContext) -> WasmVM:
    """The VM of a root context, for who needs more of it than `contexts.Vm`."""
    assert isinstance(root.vm, WasmVM)
    return root.vm
