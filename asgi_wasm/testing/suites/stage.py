"""One stream of one plugin, phase by phase: what a test of single callbacks drives. No chain, no app, no event loop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

from asgi_wasm.foreign.envoy import ENVOY_FUNCTIONS
from asgi_wasm.host.abi import LogLevel, MapType
from asgi_wasm.host.codecs.wire import PropertyValue
from asgi_wasm.host.directions import HEADERS_MAPS
from asgi_wasm.host.effects import LocalResponse
from asgi_wasm.host.plugin import Code, Plugin, VmPool
from asgi_wasm.host.ports import NO_ORIGIN, Attributes, Effect, LogOrigin, Ports
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.host.vm.contexts import StreamContext, VmFailedError
from asgi_wasm.host.vm.vm import vm_of
from asgi_wasm.services.stores.memory import MemoryQueues, MemorySharedData
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing.clock import ManualClock
from asgi_wasm.testing.records import Recorder

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass
class PhaseResult:
    """What a callback made of its input. ``immediate`` is the local response that it asked for."""

    verdict: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    immediate: LocalResponse | None = None
    logs: list[bytes] = field(default_factory=list)


class _Words(Recorder):
    """A `Recorder` that also keeps the plugin's words as bytes."""

    reads_memory = False

    def __init__(self, is_traced: bool) -> None:
        super().__init__()
        self.words: list[bytes] = []
        self._is_traced = is_traced

    def trace(self) -> Recorder | None:
        """Itself, or nothing, where calls are to cost what they cost."""
        return self if self._is_traced else None

    def plugin(self, plugin: str, level: LogLevel, message: bytes, origin: LogOrigin = NO_ORIGIN) -> None:
        """One line of the plugin's own words."""
        super().plugin(plugin, level, message, origin)
        if level >= self.lowest:
            self.words.append(message)

    def taken(self) -> list[bytes]:
        """Those since the last time."""
        words, self.words = self.words, []
        return words


class Stage:
    """A plugin, started, and at most one stream of it at a time.

    It is the `host.vm.contexts.Chain` of that stream, and the attributes of it.
    """

    def __init__(
        self,
        spec: PluginSpec,
        code: Code,
        *,
        level: LogLevel,
        seconds: int,
        properties: Mapping[str, bytes],
        is_traced: bool = True,
    ) -> None:
        """``seconds`` since the Unix epoch is what the clock says; ``properties`` are by their path with dots.

        ``is_traced``: whether calls are counted. Raises `PluginError` when the plugin does not start.
        """
        self.log = _Words(is_traced)
        self.log.lowest = level
        # As in the tester: a plugin that separates a path's parts by dots instead of NUL gets it as well.
        self._values = {path.encode(): value for path, value in properties.items()}
        self._pool = VmPool(self._ports(seconds), ENVOY_FUNCTIONS)
        self._plugin = Plugin(spec, code, self._pool)
        self._root = self._plugin.root(spec.conf or b"")
        self._stream: StreamContext | None = None
        self._immediate: LocalResponse | None = None
        self._forget()

    def _forget(self) -> None:
        """Be as before the first stream."""
        # --- host.vm.contexts.Chain
        self.attributes: Attributes = self
        self.properties: dict[bytes, bytes] = {}
        self.read_only_properties: set[bytes] = set()
        self.properties_kept = 0, 0
        self.status = b""
        self.answered_locally = False
        self.local_details = b""

    def beside(self) -> Stage:
        """Another stream of the same plugin, at the same time. This one is to be closed last."""
        other = copy(self)
        other._stream = other._immediate = None
        other._forget()
        return other

    def _ports(self, seconds: int) -> Ports:
        clock = ManualClock()
        # Never zero: Go's runtime refuses that.
        clock.now = seconds * 1_000_000_000 or 1_000_000
        return Ports(
            log=self.log,
            clock=clock,
            random=os.urandom,
            shared_data=MemorySharedData(),
            queues=MemoryQueues(lambda wake: wake()),
            metrics=MemoryMetrics(),
            start=self._start,
        )

    # --- what the stream asks

    def get(self, path: tuple[bytes, ...]) -> PropertyValue | None:
        """A property that the test has given."""
        return self._values.get(b".".join(path))

    def logged_map(self, map_type: MapType) -> HeaderMap | None:
        """Nothing is left at the end."""
        return None

    def apply(self, effect: Effect) -> None:
        """Keep a local response; the test itself decides whether the stream goes on."""
        if isinstance(effect, LocalResponse):
            self._immediate = effect
            self.answered_locally = True

    def abandoned(self, context: StreamContext) -> None:
        """The VM's failure is raised by `VmFailedError` as well."""

    def _start(self, effect: Effect) -> None:
        """Callouts and ticks are not carried out: no upstream is known, and time stands still."""

    # --- the phases; each raises `VmFailedError`

    def open(self) -> PhaseResult:
        """Make the stream's context."""
        self._forget()
        self._stream = lifecycle.create_stream(self._root, self)
        return self._over(PhaseResult())

    def headers(self, direction: int, pairs: Pairs) -> PhaseResult:
        """`on_request_headers` or `on_response_headers`, by `host.directions`; more is to come."""
        if self.answered_locally or self._stream is None:
            return PhaseResult()
        headers = HeaderMap([(name.lower(), value) for name, value in pairs])
        verdict = self._stream.headers(direction, headers, False)
        # A local response has headers of its own, which only it shows.
        result = self._over(PhaseResult(verdict))
        result.headers = list(headers.pairs if result.immediate is None else result.immediate.headers)
        self._stream.maps[HEADERS_MAPS[direction]] = None
        return result

    def body(self, direction: int, data: bytes, end_of_stream: bool) -> PhaseResult:
        """`on_request_body` or `on_response_body`, by `host.directions`, for one piece."""
        if self.answered_locally or self._stream is None:
            return PhaseResult()
        buffer = Buffer(data)
        verdict = self._stream.body(direction, buffer, end_of_stream)
        result = self._over(PhaseResult(verdict))
        if result.immediate is None:
            result.body = bytes(buffer.data)
        return result

    def close_stream(self) -> PhaseResult:
        """`on_done` and `on_delete`."""
        if self._stream is not None:
            lifecycle.finish_stream(self._stream)
            self._stream = None
        return self._over(PhaseResult())

    def close(self) -> None:
        """End the plugin, and free its VM."""
        self._plugin.stop()
        self._pool.close()

    def started(self) -> PhaseResult:
        """What the plugin logged while it started."""
        return PhaseResult(logs=self.log.taken())

    def _over(self, result: PhaseResult) -> PhaseResult:
        self._immediate = None
        self._root.vm.perform()
        result.immediate = self._immediate
        if result.immediate is not None:
            result.body = result.immediate.body
        result.logs = self.log.taken()
        return result

    @property
    def hostcalls(self) -> int:
        """How many it has made since its log's calls were last cleared."""
        return sum(not call.is_callback for call in self.log.every_call)

    @property
    def memory(self) -> int:
        """Bytes of its linear memory now."""
        return vm_of(self._root).instance.memory.size


__all__ = ["PhaseResult", "Stage", "VmFailedError"]
