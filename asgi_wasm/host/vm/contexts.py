"""Contexts: who a callback is for, and what its hostcalls may see.

Followed: proxy-wasm-cpp-host `include/proxy-wasm/context.h`; Envoy `source/extensions/common/wasm/context.cc`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.host.abi import CONTINUE, LogLevel, MapType
from asgi_wasm.host.directions import HEADERS_MAPS, TRAILERS_MAPS, InBoth
from asgi_wasm.host.ports import LogOrigin
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.vm.grpc_tokens import GrpcTokens
from asgi_wasm.host.vm.windows import Windows

if TYPE_CHECKING:
    from asgi_wasm.engines.base import GuestFunction
    from asgi_wasm.host.ports import Attributes, Effect, Ports
    from asgi_wasm.specs import PluginSpec


def _ignore() -> None:
    """Nobody is to be told."""


class VmFailedError(Exception):
    """Raised by `Vm.call` when the guest trapped, now or earlier: nothing of this VM may be called again."""


class Vm(Protocol):
    """What contexts, and those who have a VM by a context, know of it (`host.vm.vm.WasmVM`)."""

    ports: Ports
    failure: str | None
    # When a port last refused a hostcall, by `Clock.monotonic`.
    refused_at: int
    # What callbacks have left to be carried out after them.
    effects: list[Effect]
    contexts: dict[int, Context]
    # The callbacks that the module exports; those of two directions are indexed by direction.
    on_context_create: GuestFunction | None
    on_headers: list[GuestFunction | None]
    on_body: list[GuestFunction | None]
    on_trailers: list[GuestFunction | None]
    sees_body: InBoth
    on_log: GuestFunction | None
    on_done: GuestFunction | None
    on_delete: GuestFunction | None

    def function(self, name: str) -> GuestFunction | None:
        """Another callback, by its name."""
        ...

    def check_thread(self) -> None:
        """Raises `EventLoopError` outside of the event loop that the VM belongs to."""
        ...

    def call(self, context: Context | None, function: GuestFunction, *args: int) -> int:
        """Call the guest on behalf of ``context``. Raises `VmFailedError`."""
        ...

    def perform(self) -> None:
        """Carry out the effects."""
        ...

    def new_stream_id(self, plugin: str) -> int:
        """The id of one more stream context. Raises `LimitReachedError`."""
        ...

    def delete(self, root: RootContext) -> None:
        """Run `on_delete` of a root context and forget it, once. Raises `VmFailedError`."""
        ...

    def forget(self, context: Context) -> None:
        """Drop a context after its `on_delete`."""
        ...

    def abandon_streams(self) -> None:
        """After a failure: let every stream that waits for this VM have its failure policy."""
        ...


@dataclass(eq=False)
class RootContext:
    """A plugin context: one (plugin, conf) in one VM, parent of its stream contexts."""

    id: int
    vm: Vm
    spec: PluginSpec
    conf: bytes
    # Buffer 7 is readable while the plugin is configured, and not later (Envoy).
    configuring: bool = False
    # What `proxy_get_status` answers: the last callout's status, while its callback runs.
    status: tuple[int, bytes] = (0, b"")
    # Something outside may be under way for it: a callout, a timer.
    has_asked: bool = False
    # It registered a queue: what it is told of comes without a request.
    has_queue: bool = False
    # The gRPC calls and streams that it waits for.
    grpc_tokens: GrpcTokens = field(default_factory=GrpcTokens)
    # The HTTP calls and asynchronous foreign ones, and the bytes of those (`services.tasks.share`).
    other_calls: int = 0
    other_call_bytes: int = 0
    # Maps 4 to 7 and buffers 4, 5 and 8: there while a callout's or foreign function's callback runs.
    maps: dict[int, HeaderMap] = field(default_factory=dict)
    buffers: dict[int, Buffer] = field(default_factory=dict)
    # True between an `on_done` that answered false and the `proxy_done` it asked us to wait for.
    awaiting_done: bool = False
    deleted: bool = False
    # By the foreign function `declare_property`: whether each is read-only once set.
    declared_properties: dict[bytes, bool] = field(default_factory=dict)
    declared_bytes: int = 0
    # Called once its VM has failed.
    on_failure: Callable[[], None] = _ignore

    @property
    def root(self) -> RootContext:
        """Itself."""
        return self

    @property
    def calls_under_way(self) -> int:
        """Of every kind: what `limits.calls_under_way` bounds."""
        return self.other_calls + len(self.grpc_tokens)

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be told to it any more."""
        return self.deleted or self.vm.failure is not None

    def notify(self, callback_name: str, *arguments: int) -> None:
        """Run a callback that something outside asked for: a tick, a queue, an answer.

        Nothing happens when the context is gone or has no such callback. A trap is logged; the VM has failed then.
        """
        vm, callback = self.vm, self.vm.function(callback_name)
        if callback is None or vm.failure is not None or self.deleted:
            return
        try:
            vm.call(self, callback, self.id, *arguments)
            vm.perform()
        except VmFailedError as error:
            told = f"its VM failed in {callback_name}: {error}"
            vm.ports.log.host(self.spec.name, LogLevel.ERROR, told, LogOrigin(self.spec.vm_id, self.id))
            vm.abandon_streams()

    def queue_ready(self, token: int) -> None:
        """Run `on_queue_ready`, as the owner of a queue (`host.ports.QueueOwner`)."""
        self.notify("proxy_on_queue_ready", token)

    @property
    def stream(self) -> StreamContext | None:
        """None: a root context has no stream."""
        return None

    @property
    def stream_id(self) -> int:
        """0: a root context has no stream."""
        return 0

    def body_shown(self, direction: int) -> Buffer | None:
        """None: a root context has no stream."""
        return None


class Chain(Protocol):
    """The request that a stream context is part of: what hostcalls, effects and attributes ask of it."""

    # Attributes that the ASGI border knows, and what plugins set by `proxy_set_property`.
    attributes: Attributes
    properties: dict[bytes, bytes]
    read_only_properties: set[bytes]
    # How many those were, and the bytes of all, when one was set here last.
    properties_kept: tuple[int, int]
    # What the app, or a local response, had as `:status` before any plugin saw it.
    status: bytes
    local_details: bytes

    @property
    def answered_locally(self) -> bool:
        """Whether a plugin, or the host, has answered in the app's stead."""
        ...

    def logged_map(self, map_type: MapType) -> HeaderMap | None:
        """What `proxy_on_log`, and attributes, may read."""
        ...

    def apply(self, effect: Effect) -> None:
        """Carry out what a plugin asked for on this stream."""
        ...

    def abandoned(self, context: StreamContext) -> None:
        """The context's VM failed elsewhere."""
        ...


class StreamContext(Windows):
    """One filter's part in one request and its response."""

    __slots__ = ("chain", "declared_bytes", "declared_properties", "deleted", "failed", "id", "logging", "root", "vm")

    def __init__(self, context_id: int, root: RootContext, chain: Chain) -> None:
        self.id = context_id
        self.root = root
        self.vm = root.vm
        self.chain = chain
        self.maps = [None, None, None, None]
        self.bodies = [None, None]
        self._may_make_trailers = 0
        self.failed = False
        self.logging = False
        self.deleted = False
        # Remembered for the sake of a second declaration's status: only those of the root context count.
        self.declared_properties: dict[bytes, bool] = {}
        self.declared_bytes = 0

    @property
    def stream(self) -> StreamContext | None:
        """Itself: a stream context has a stream."""
        return self

    @property
    def stream_id(self) -> int:
        """Its own id."""
        return self.id

    def body_shown(self, direction: int) -> Buffer | None:
        """The body of this direction that may be read now, and changed."""
        return self.bodies[direction]

    def headers(self, direction: int, headers: HeaderMap, end_of_stream: bool) -> int:
        """Run `on_request_headers` or `on_response_headers`; the raw verdict, 0 when the plugin has none.

        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_request_headers
        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_response_headers
        Follows: proxy-wasm-cpp-host `ContextBase::onRequestHeaders`, `onResponseHeaders` (`src/context.cc`).
        """
        callback = self.vm.on_headers[direction]
        if callback is None:
            return CONTINUE
        window = HEADERS_MAPS[direction]
        self.maps[window] = headers
        verdict = self.vm.call(self, callback, self.id, len(headers.pairs), int(end_of_stream))
        if verdict == CONTINUE:
            self.maps[window] = None
        return verdict

    def body(self, direction: int, buffer: Buffer, end_of_stream: bool) -> int:
        """Run `on_request_body` or `on_response_body`; the raw verdict.

        When the end is here, writing to the trailers map makes trailers: they are in ``made_trailers`` afterwards.

        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_request_body
        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_response_body
        Follows: proxy-wasm-cpp-host `ContextBase::onRequestBody`, `onResponseBody` (`src/context.cc`).
        """
        callback = self.vm.on_body[direction]
        if callback is None:
            return CONTINUE
        # As `show_body` and `hide_body`, which are a call each for every piece of a body.
        self.bodies[direction] = buffer
        self._may_make_trailers = TRAILERS_MAPS[direction] if end_of_stream else 0
        verdict = self.vm.call(self, callback, self.id, len(buffer.data), int(end_of_stream))
        self._may_make_trailers = 0
        self.bodies[direction] = None
        return verdict

    def trailers(self, direction: int, trailers: HeaderMap) -> int:
        """Run `on_request_trailers` or `on_response_trailers`; the raw verdict.

        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_request_trailers
        Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_response_trailers
        Follows: proxy-wasm-cpp-host `ContextBase::onRequestTrailers`, `onResponseTrailers` (`src/context.cc`).
        """
        callback = self.vm.on_trailers[direction]
        if callback is None:
            return CONTINUE
        window = TRAILERS_MAPS[direction]
        self.maps[window] = trailers
        verdict = self.vm.call(self, callback, self.id, len(trailers.pairs))
        if verdict == CONTINUE:
            self.maps[window] = None
        return verdict

    def sees_body(self, direction: int) -> bool:
        """Whether this filter has a callback for the body or the trailers of this direction."""
        return self.vm.sees_body[direction]

    def readable(self, map_type: int) -> HeaderMap | None:
        """The map that may be read now."""
        if self.logging:
            return self.chain.logged_map(MapType(map_type))
        return self.maps[map_type]


Context = RootContext | StreamContext
