"""What the host asks of the outside during a callback: synchronous, and answered at once.

What takes time is an effect instead (`host.effects`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.host.abi import LogLevel, MetricType
from asgi_wasm.host.codecs.wire import PropertyValue
from asgi_wasm.host.host_metrics import NO_HOST_METRICS, HostMetrics

if TYPE_CHECKING:
    from asgi_wasm.host.vm.trace import TraceSink


class PortError(Exception):
    """Raised by a port that cannot answer now: the hostcall answers INTERNAL_FAILURE.

    The port itself logs when that begins and when it ends, since it may be asked thousands of times in between.
    """


class LimitReachedError(PortError):
    """Raised by a hostcall, or by a port, that would go beyond a limit: it has done nothing.

    ``limit`` is its name in the settings (a field of `limits.PluginLimits` or `StoreLimits`), ``most`` its value.
    """

    def __init__(self, limit: str, most: int) -> None:
        super().__init__(f"limits.{limit} is {most}")
        self.limit = limit
        self.most = most


@dataclass(frozen=True)
class LogOrigin:
    """Where in a plugin a line was written, or what it is about happened.

    0 for no context, and b"" for no request, or one without an id.
    """

    vm_id: str = ""
    context_id: int = 0
    request_id: bytes = b""


NO_ORIGIN = LogOrigin()


class Log(Protocol):
    """Where plugins and the host write lines."""

    def plugin(self, plugin: str, level: LogLevel, message: bytes, origin: LogOrigin = NO_ORIGIN) -> None:
        """One line of a plugin's own words. ``message`` may hold anything."""
        ...

    def host(self, plugin: str, level: LogLevel, message: str, origin: LogOrigin = NO_ORIGIN) -> None:
        """One line of the host about a plugin; about a request and no plugin where the name is empty.

        ``origin`` is what is known of where it happened.

        An implementation may leave out warnings that only repeat themselves: a client may cause one with each request.
        """
        ...

    def level(self, plugin: str) -> LogLevel:
        """The lowest level that is kept for this plugin."""
        ...

    def last_lines(self, plugin: str) -> Sequence[str]:
        """The plugin's own last few lines, for an error that says why it did not start."""
        ...

    def trace(self) -> TraceSink | None:
        """Where to tell of each callback and hostcall, or None. Asked once a VM, when it is made."""
        ...


# Of what `Clock` counts, in seconds.
NANOSECOND = 1e-9


class Clock(Protocol):
    """Nanoseconds; never zero, since Go's runtime refuses to start on a zero clock."""

    def realtime(self) -> int:
        """Since the Unix epoch."""
        ...

    def monotonic(self) -> int:
        """Since any fixed point."""
        ...


class SharedData(Protocol):
    """A key-value store per vm_id, with compare-and-swap (spec: "Shared key-value store"). May raise `PortError`."""

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its CAS number (never 0), or None."""
        ...

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> bool:
        """Store it. False, and nothing stored, when ``cas`` is neither 0 nor the key's present number."""
        ...


class QueueOwner(Protocol):
    """Who is told that a shared queue has something: a root context."""

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be told to it any more."""
        ...

    def queue_ready(self, token: int) -> None:
        """Run its `proxy_on_queue_ready`. To be called when no callback runs."""
        ...


class SharedQueues(Protocol):
    """Named FIFOs per vm_id (spec: "Shared queues"). Tokens are never 0. May raise `PortError`."""

    def register(self, vm_id: str, name: bytes, owner: QueueOwner) -> int:
        """The queue's token; makes it if need be. The last registrant is told when something arrives."""
        ...

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """The token, or None when nobody registered it."""
        ...

    def enqueue(self, token: int, value: bytes) -> bool:
        """Append, and tell the owner once no callback runs. False for an unknown token."""
        ...

    def dequeue(self, token: int) -> bytes | None:
        """The oldest value, or None when the queue is empty. Raises KeyError for an unknown token."""
        ...


class Metrics(Protocol):
    """Where the plugins' metrics are kept. It may serve many VMs; ids are each VM's own. May raise `PortError`."""

    def counter_add(self, plugin: str, name: str, value: int) -> None: ...

    def gauge_set(self, plugin: str, name: str, value: int) -> None: ...

    def gauge_add(self, plugin: str, name: str, value: int) -> None: ...

    def observe(self, plugin: str, name: str, value: int) -> None: ...

    def value(self, plugin: str, kind: MetricType, name: str) -> int:
        """Of a counter or gauge; 0 when never set."""

    def known(self, plugin: str, kind: MetricType, name: str) -> int:
        """`value`, as far as it is known on this machine: whoever shows it to people must not wait for another one."""


class Attributes(Protocol):
    """The properties of one request and response that the ASGI border knows."""

    def get(self, path: tuple[bytes, ...]) -> PropertyValue | None:
        """The attribute at this path, or None."""
        ...


class Effect:
    """What a plugin asked for that takes time: `host.effects` has them all."""

    __slots__ = ()

    def perform(self) -> None:
        """Let it be carried out, once the callback that left it is over."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ports:
    """Everything a VM may ask.

    ``start`` carries out the effects that concern a root context; ``upstreams`` are the names that may be called, and
    ``can_call_grpc`` says of a name whether it can be called by gRPC, ``has_room_grpc`` whether once more now, and
    ``may_send_grpc`` whether a message of so many bytes may be sent now.
    ``thread`` is a number of the thread that asks, and ``is_home`` whether a guest may be entered there.
    """

    log: Log
    clock: Clock
    random: Callable[[int], bytes]
    shared_data: SharedData
    queues: SharedQueues
    metrics: Metrics
    start: Callable[[Effect], None]
    upstreams: Collection[str] = frozenset()
    host_metrics: HostMetrics = NO_HOST_METRICS
    can_call_grpc: Callable[[str], bool] = lambda _name: False
    has_room_grpc: Callable[[str], bool] = lambda _name: True
    may_send_grpc: Callable[[int], bool] = lambda _size: True
    thread: Callable[[], int] = lambda: 0
    is_home: Callable[[], bool] = lambda: True
    # Where calls are told of, beside `log.trace`. Asked once a VM, when it is made.
    sinks: Sequence[TraceSink] = ()
