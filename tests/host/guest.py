"""Guests written in Python for tests of the host, run over the null engine, and everything a VM may ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from asgi_wasm.engines.base import GuestFunction, Import, Module
from asgi_wasm.engines.null import NullEngine, NullHost, NullMemory, declare
from asgi_wasm.host.abi import AbiVersion, LogLevel, ProxyStatus
from asgi_wasm.host.codecs.wire import Pairs, PropertyValue
from asgi_wasm.host.plugin import BrokenPlugin, Code, Filter, Plugin, VmPool
from asgi_wasm.host.ports import NO_ORIGIN, Effect, LogOrigin, Ports
from asgi_wasm.host.signatures import callbacks, hostcalls
from asgi_wasm.host.streams.filter_chain import FilterChain
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.streams.stage import Way
from asgi_wasm.host.vm import delivery
from asgi_wasm.host.vm import vm as vm_module
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.trace import TextTrace, TraceSink
from asgi_wasm.host.vm.vm import ForeignFunction, WasmVM
from asgi_wasm.host.wasi import preview1 as wasi
from asgi_wasm.limits import StreamLimits
from asgi_wasm.services.stores.memory import MemoryQueues, MemorySharedData
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing import Guest, Hostcalls
from asgi_wasm.testing.calling import ROWS, marshalled
from asgi_wasm.testing.guests import Callback

V010, V020, V021 = AbiVersion
OK, NOT_FOUND, BAD_ARGUMENT = ProxyStatus.OK, ProxyStatus.NOT_FOUND, ProxyStatus.BAD_ARGUMENT
INVALID_MEMORY_ACCESS, INTERNAL_FAILURE = ProxyStatus.INVALID_MEMORY_ACCESS, ProxyStatus.INTERNAL_FAILURE

# What a guest's memory is filled with, so that a stray write shows.
MARKER = b"\xa5"
# An address that is outside of every test's memory.
OUTSIDE = 0xFFFF_FF00
NANOSECONDS = 1_700_000_000_123_456_789

# --- ports


@dataclass
class RecordingLog:
    """`host.ports.Log` that keeps everything."""

    lowest: LogLevel = LogLevel.TRACE
    words: list[tuple[str, LogLevel, bytes]] = field(default_factory=list)
    hosts: list[tuple[str, LogLevel, str]] = field(default_factory=list)
    lines: list[str] | None = None
    sink: TraceSink | None = None

    def plugin(self, plugin: str, level: LogLevel, message: bytes, origin: LogOrigin = NO_ORIGIN) -> None:
        self.words.append((plugin, level, message))

    def host(self, plugin: str, level: LogLevel, message: str) -> None:
        self.hosts.append((plugin, level, message))

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


# --- guests


def env_imports(version: AbiVersion) -> list[Import]:
    """Every hostcall of the version."""
    return [Import("env", row.name, "func", row.type) for row in hostcalls(version)]


WASI_IMPORTS = [Import("wasi_snapshot_preview1", row.name, "func", row.type) for row in wasi.SIGNATURES.values()]


class Calls(Hostcalls):
    """Watches where the host writes. In a memory that is full of `MARKER`, so that what it does not write shows."""

    @property
    def memory(self) -> NullMemory:
        return self.host.memory

    def wasi(self, name: str, *numbers: int) -> int:
        """A WASI function with these very numbers."""
        return self.host.call("wasi_snapshot_preview1", name, *numbers)

    def __call__(self, name: str, *given: bytes | int) -> tuple[Any, ...]:
        """`call`, which fails when the host wrote anywhere else than it may."""
        numbers, slots = marshalled(self.host, ROWS[name], given)
        for slot in slots:
            self.memory.write(slot.address, MARKER * slot.size)
        before = self.memory.data[:]
        status = ProxyStatus(self.raw(name, *numbers))
        expected = before[:]
        for slot in slots:
            written = self.memory.read(slot.address, slot.size)
            # A refused HTTP call says that there is no token.
            if status is OK or (name == "proxy_http_call" and written == bytes(4)):
                _allow(expected, slot.address, written)
        results = [slot.read(self.host) for slot in slots] if status is OK else []
        for slot, result in zip(slots, results, strict=False):
            if isinstance(result, bytes):
                address = self.host.read_u32(slot.address)
                assert (address == 0) == (result == b"")
                _allow(expected, address, result)
        assert self.memory.data[: len(before)] == expected, f"{name} wrote where it should not"
        return (status, *results)


def _allow(expected: bytearray, address: int, written: bytes) -> None:
    # It may lie in memory that has grown meanwhile.
    end = min(address + len(written), len(expected))
    expected[address:end] = written[: max(end - address, 0)]


class _HostGuest(Guest):
    """Names are of the wire, and may be unknown to the ABI. ``errors`` are traps, too."""

    def __init__(self, version: AbiVersion, given: Mapping[str, Callback], errors: list[Exception] | None) -> None:
        known = callbacks(version).keys()
        super().__init__(version, **{name.removeprefix("proxy_"): given[name] for name in given if name in known})
        self._others = {name: given[name] for name in given.keys() - known}
        self.errors = [] if errors is None else errors

    def hostcalls(self, host: NullHost) -> Calls:
        return Calls(host)

    def __call__(self, host: NullHost) -> Mapping[str, GuestFunction]:
        host.memory.data[:] = MARKER * host.memory.size
        calls = Calls(host)
        others = {name: declare([])(partial(callback, calls)) for name, callback in self._others.items()}
        return {**super().__call__(host), **others}


def module(
    given: Mapping[str, Callback],
    *,
    version: AbiVersion = V021,
    imports: Sequence[Import] | None = None,
    errors: list[Exception] | None = None,
) -> Module:
    """A module that exports these callbacks; each gets the `Calls` of its instance, then its own arguments.

    What a callback raises ends in ``errors`` as well as in a trap. Without an allocator of its own it has one.
    """
    if imports is None:
        imports = [*env_imports(version), *WASI_IMPORTS]
    return NullEngine({"guest": _HostGuest(version, given, errors)}, imports).compile(b"null:guest")


def spec(name: str = "guest", **changes: Any) -> PluginSpec:
    """A plugin's settings."""
    return replace(PluginSpec(name=name, file=Path(f"{name}.wasm")), **changes)


def plugin(
    world: World,
    given: Mapping[str, Callback],
    *,
    pool: VmPool | None = None,
    version: AbiVersion = V021,
    imports: Sequence[Import] | None = None,
    errors: list[Exception] | None = None,
    digest: str = "",
    **changes: Any,
) -> Plugin:
    """A plugin that is loaded and not started."""
    made = spec(**changes)
    code = Code(module(given, version=version, imports=imports, errors=errors), version, digest or made.name)
    return Plugin(made, code, pool or world.pool())


def vm_of(started: Plugin, conf: bytes = b"") -> WasmVM:
    """The VM of a plugin, which is started if need be."""
    return vm_module.vm_of(started.root(conf))


# --- streams


@dataclass
class RecordingSink:
    """A far end that keeps what arrives: ("headers", pairs, end), ("data", bytes, end), ("trailers", pairs)."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    started: bool = False
    reason: str | None = None
    way: Way | None = None
    size: int | None = None

    def received(self, size: int | None, way: Way) -> None:
        self.size, self.way = size, way

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        self.started = True
        self.events.append(("headers", list(headers.pairs), end_of_stream))

    def data(self, data: bytes, end_of_stream: bool) -> None:
        self.events.append(("data", bytes(data), end_of_stream))

    def trailers(self, trailers: HeaderMap) -> None:
        self.events.append(("trailers", list(trailers.pairs)))

    def reset(self, reason: str) -> None:
        self.reason = reason

    @property
    def body(self) -> bytes:
        return b"".join(event[1] for event in self.events if event[0] == "data")

    @property
    def status(self) -> bytes | None:
        """The value of ``:status``, when headers came."""
        return dict(self.events[0][1]).get(b":status") if self.events else None


REQUEST_HEADERS: Pairs = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"example.test"),
    (b":path", b"/path?query"),
    (b"x-one", b"1"),
    (b"x-two", b"2"),
    (b"x-two", b"3"),
]
RESPONSE_HEADERS: Pairs = [(b":status", b"200"), (b"x-app", b"yes")]


class TestAttributes:
    """`host.ports.Attributes` over a mapping."""

    __test__ = False

    def __init__(self, values: Mapping[tuple[bytes, ...], PropertyValue]) -> None:
        self.values = dict(values)

    def get(self, path: tuple[bytes, ...]) -> PropertyValue | None:
        return self.values.get(path)


class Exchange:
    """One request and its response through plugins, fed by hand."""

    def __init__(
        self,
        world: World,
        *plugins: Plugin | BrokenPlugin,
        limits: StreamLimits | None = None,
        attributes: Mapping[tuple[bytes, ...], PropertyValue] | None = None,
        conf: bytes = b"conf",
    ) -> None:
        self.app, self.client = RecordingSink(), RecordingSink()
        filters = [Filter(each, conf) for each in plugins]
        self.chain = FilterChain(
            filters,
            self.app,
            self.client,
            TestAttributes(attributes or {}),
            limits or StreamLimits(),
            world.log,
        )

    def request(self, *body: bytes, headers: Pairs = REQUEST_HEADERS, trailers: Pairs | None = None) -> None:
        """The request; its body in these pieces, the last of which ends it unless there are trailers."""
        self.chain.request.headers(HeaderMap(headers), not body and trailers is None)
        self._rest(self.chain.request, body, trailers)

    def respond(self, *body: bytes, headers: Pairs = RESPONSE_HEADERS, trailers: Pairs | None = None) -> None:
        """The app's response, unless a plugin has answered."""
        if self.chain.answered_locally:
            return
        response = self.chain.respond(HeaderMap(headers), not body and trailers is None)
        self._rest(response, body, trailers)

    @staticmethod
    def _rest(direction: Any, body: Sequence[bytes], trailers: Pairs | None) -> None:
        for index, piece in enumerate(body):
            if not direction.closed:
                direction.data(piece, trailers is None and index == len(body) - 1)
        if trailers is not None and not direction.closed:
            direction.trailers(HeaderMap(trailers))


# --- whole lives

STREAM_PHASES = (
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_log",
)
ROOT_PHASES = (
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_http_call_response",
)
ATTRIBUTES: dict[tuple[bytes, ...], PropertyValue] = {(b"request", b"path"): b"/path?query"}


def in_phase(
    phase: str,
    act: Callable[[Calls], Any],
    *,
    world: World | None = None,
    version: AbiVersion = V021,
    returns: int | None = None,
    others: Mapping[str, Callback] | None = None,
    attributes: Mapping[tuple[bytes, ...], PropertyValue] | None = None,
    **changes: Any,
) -> Any:
    """What ``act`` gives when it is done in this callback, the first time that it comes, in a plugin's whole life.

    ``returns`` is what the callback answers: else true to start, and Continue.
    """
    results: list[Any] = []
    errors: list[Exception] = []

    def callback(calls: Calls, *_: int) -> int:
        if not results:
            results.append(None)
            results[0] = act(calls)
        if returns is not None:
            return returns
        return int(phase in ("proxy_on_vm_start", "proxy_on_configure", "proxy_on_done"))

    world = world or World()
    changes = {"conf": b"conf", "vm_conf": b"vm conf", "vm_id": "id", "root_id": "root", **changes}
    made = plugin(world, {**(others or {}), phase: callback}, version=version, errors=errors, **changes)
    live(world, made, attributes=ATTRIBUTES if attributes is None else attributes)
    if errors:
        raise errors[0]
    assert results, f"{phase} did not come"
    return results[0]


def live(world: World, made: Plugin, attributes: Mapping[tuple[bytes, ...], PropertyValue] | None = None) -> Exchange:
    """A plugin's whole life: start, tick, answer, one exchange with everything, end."""
    root = made.root(b"conf")
    root.notify("proxy_on_tick")
    answer = HeaderMap([(b":status", b"200"), (b"x-answer", b"1")])
    delivery.deliver_http_response(root, 4, answer, b"answer")
    exchange = Exchange(world, made, attributes=attributes)
    exchange.request(b"request ", b"body", trailers=[(b"x-end", b"1")])
    exchange.respond(b"response ", b"body", trailers=[(b"x-end", b"2")])
    exchange.chain.finish()
    made.stop()
    return exchange


def start(world: World, given: Mapping[str, Callback], **more: Any) -> RootContext:
    """The root context of a plugin that is started with these callbacks."""
    return plugin(world, given, **more).root(b"conf")
