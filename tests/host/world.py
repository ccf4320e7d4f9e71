"""The ports of a VM in tests of the host, open to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.plugin import VmPool
from asgi_wasm.host.ports import NO_ORIGIN, Effect, LogOrigin, Ports
from asgi_wasm.host.vm.trace import TextTrace, TraceSink
from asgi_wasm.host.vm.vm import ForeignFunction
from asgi_wasm.services.stores.memory import MemoryQueues, MemorySharedData
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics

NANOSECONDS = 1_700_000_000_123_456_789


@dataclass
class RecordingLog:
    """`host.ports.Log` that keeps everything."""

    lowest: LogLevel = LogLevel.TRACE
    words: list[tuple[str, LogLevel, bytes]] = field(default_factory=list)
    hosts: list[tuple[str, LogLevel, str]] = field(default_factory=list)
    # Of the host's.
    origins: list[LogOrigin] = field(default_factory=list)
    lines: list[str] | None = None
    sink: TraceSink | None = None

    def plugin(self, plugin: str, level: LogLevel, message: bytes, origin: LogOrigin = NO_ORIGIN) -> None:
        self.words.append((plugin, level, message))

    def host(self, plugin: str, level: LogLevel, message: str, origin: LogOrigin = NO_ORIGIN) -> None:
        self.hosts.append((plugin, level, message))
        self.origins.append(origin)

    def level(self, plugin: str) -> LogLevel:
        return self.lowest

    def last_lines(self, plugin: str) -> Sequence[str]:
        return [message.decode() for name, _, message in self.words if name == plugin][-5:]

    def trace(self) -> TraceSink | None:
        return self.sink if self.lines is None else TextTrace(self.lines.append)


class StoppedClock:
    """`host.ports.Clock` that stands still."""

    def realtime(self) -> int:
        return NANOSECONDS

    def monotonic(self) -> int:
        return 42


def _of_bytes(function: Callable[[bytes], bytes | None]) -> ForeignFunction:
    return lambda _vm, data: function(data)


@dataclass
class World:
    """The ports of a test, open to look at. ``posted`` is what waits for the present callback to be over."""

    log: RecordingLog = field(default_factory=RecordingLog)
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    posted: list[Callable[[], None]] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    foreign: dict[str, Callable[[bytes], bytes | None]] = field(default_factory=dict)
    upstreams: frozenset[str] = frozenset({"known"})

    def __post_init__(self) -> None:
        self.ports = Ports(
            log=self.log,
            clock=StoppedClock(),
            random=lambda size: b"\x5a" * size,
            shared_data=MemorySharedData(),
            queues=MemoryQueues(self.posted.append),
            metrics=self.metrics,
            start=self.effects.append,
            upstreams=self.upstreams,
        )

    def pool(self) -> VmPool:
        """One that no VM is in yet."""
        return VmPool(self.ports, {name: _of_bytes(function) for name, function in self.foreign.items()})

    def post(self) -> None:
        """Do what was posted, once."""
        while self.posted:
            self.posted.pop(0)()
