"""Each callback and each hostcall of a VM as a record, with its arguments by name, and what it answered.

Functions are wrapped once, when a VM is linked: without a sink nothing is, and a call costs nothing more. Where there
is one, a VM has no kernel beside it (`host.resident`), so that every hostcall is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.engines.base import GuestFunction, HostFunction
from asgi_wasm.errors import MemoryAccessError
from asgi_wasm.host.abi import BufferType, LogLevel, MapType, MetricType, ProxyStatus, Signature, StreamType
from asgi_wasm.host.codecs import wire

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

# Of one argument or result that lies in the guest's memory.
MOST_BYTES = 1024 * 1024
# Parameters whose numbers have names.
_ENUMS: dict[str, type[IntEnum]] = {
    "buffer_type": BufferType,
    "level": LogLevel,
    "map_type": MapType,
    "metric_type": MetricType,
    "stream_type": StreamType,
}
# Parameters whose bytes are a list of pairs.
_PAIRS = frozenset({"headers", "trailers", "metadata", "pairs"})
_WIDE = frozenset({"return_time"})
Value = bytes | int | wire.Pairs


@dataclass
class Call:
    """One call between host and guest. A callback is the host's, a hostcall the guest's.

    ``arguments`` are numbers by name; ``given`` and ``returned`` what those that are addresses lead to, without
    ``_data`` and ``_size``: bytes, numbers, or pairs. ``began`` and ``ended`` are nanoseconds of the sink's clock.
    """

    name: str
    is_callback: bool
    plugin: str
    # Of whom the call is: a context id, 0 for none.
    context: int
    # The same object for all calls of one request; None for a plugin's own.
    stream: object
    depth: int
    arguments: tuple[tuple[str, int], ...]
    given: dict[str, Value] = field(default_factory=dict)
    result: int | None = None
    returned: dict[str, Value] = field(default_factory=dict)
    # What it raised: a trap.
    error: str = ""
    began: int = 0
    ended: int = 0

    @property
    def answer(self) -> str:
        """The result in words: a hostcall's status, a callback's number, "" for none."""
        if self.result is None:
            return ""
        # The results of WASI, of emscripten's imports and of unknown ones are no statuses.
        is_status = not self.is_callback and self.name.startswith("proxy_")
        return _named(ProxyStatus, self.result) if is_status else str(self.result)

    @property
    def words(self) -> str:
        """The arguments as they are written in a call."""
        return ", ".join(
            f"{name}={_named(_ENUMS.get(name), value)}" if name else str(value) for name, value in self.arguments
        )


class TraceSink(Protocol):
    """Where calls are told. No method may raise."""

    @property
    def reads_memory(self) -> bool:
        """Whether ``given`` and ``returned`` are wanted."""
        ...

    def begin(self, call: Call) -> None:
        """It is about to be made."""
        ...

    def end(self, call: Call) -> None:
        """It is over."""
        ...


class TextTrace:
    """A `TraceSink` that writes lines:

    ==> fault_injection proxy_on_request_headers(context_id=2, num_headers=7, end_of_stream=1)
      --> proxy_get_buffer_status(buffer_type=PLUGIN_CONFIGURATION, return_size=1024, return_flags=1028)
      <-- proxy_get_buffer_status = NOT_FOUND
    <== fault_injection proxy_on_request_headers = 0
    """

    reads_memory = False

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def begin(self, call: Call) -> None:
        """Write the first line of a call."""
        self._write(f"{'  ' * call.depth}{'==>' if call.is_callback else '-->'} {_label(call)}({call.words})")

    def end(self, call: Call) -> None:
        """Write its last."""
        start = f"{'  ' * call.depth}{'<==' if call.is_callback else '<--'} {_label(call)}"
        if call.error:
            self._write(f"{start} failed: {call.error}")
        else:
            self._write(start if call.result is None else f"{start} = {call.answer}")


def _label(call: Call) -> str:
    return f"{call.plugin} {call.name}" if call.is_callback else call.name


class Trace:
    """Tells a sink of the calls between one VM and the host."""

    def __init__(self, sink: TraceSink, vm: WasmVM) -> None:
        self._sink = sink
        self._vm = vm
        self._depth = 0

    def callback(self, row: Signature, function: GuestFunction) -> GuestFunction:
        """The guest's function, told about."""

        def traced(*args: int) -> int | None:
            return self._call(row.name, True, row, function, args)

        return traced

    def hostcall(self, name: str, row: Signature | None, function: HostFunction) -> HostFunction:
        """The host's function, told about. ``row`` is None for an import that the host does not know."""

        def traced(*args: int) -> int | None:
            return self._call(name, False, row, function, args)

        return traced

    def _call(
        self,
        name: str,
        is_callback: bool,
        row: Signature | None,
        function: Callable[..., int | None],
        args: tuple[int, ...],
    ) -> int | None:
        context = self._vm.context
        stream = None if context is None or context.stream is None else context.stream.chain
        number = 0 if context is None else context.id
        call = Call(name, is_callback, self._vm.plugin_name(), number, stream, self._depth, _arguments(row, args))
        decodes = self._sink.reads_memory and not is_callback and name.startswith("proxy_")
        if decodes:
            call.given = self._given(call)
        self._sink.begin(call)
        self._depth += 1
        try:
            call.result = function(*args)
        except Exception as error:
            call.error = str(error) or type(error).__name__
            raise
        finally:
            self._depth -= 1
            if decodes and call.result == ProxyStatus.OK:
                call.returned = self._returned(call)
            self._sink.end(call)
        return call.result

    # --- the guest's memory

    def _given(self, call: Call) -> dict[str, Value]:
        """What the arguments that are an address and a size lead to."""
        numbers = dict(call.arguments)
        found: dict[str, Value] = {}
        for name, address in call.arguments:
            part = name.removesuffix("_data")
            if part != name and not name.startswith("return_") and f"{part}_size" in numbers:
                found[part] = self._bytes(part, address, numbers[f"{part}_size"])
        return found

    def _returned(self, call: Call) -> dict[str, Value]:
        """What the host has stored where the arguments say."""
        numbers = dict(call.arguments)
        found: dict[str, Value] = {}
        for name, address in call.arguments:
            if not name.startswith("return_"):
                continue
            part = name.removeprefix("return_")
            short = part.removesuffix("data").removesuffix("_")
            size_at = numbers.get(f"return_{short}_size" if short else "return_size")
            if part.endswith("data") and size_at is not None:
                found[short or "data"] = self._bytes(short, self._number(address), self._number(size_at))
            elif not (part.endswith("size") and f"return_{part.removesuffix('size')}data" in numbers):
                wide = name in _WIDE or (call.name, name) == ("proxy_get_metric", "return_value")
                found[part] = self._number(address, 8 if wide else 4)
        return found

    def _bytes(self, part: str, address: int, size: int) -> Value:
        try:
            data = self._vm.memory.read(address, min(size, MOST_BYTES)) if size else b""
        except MemoryAccessError:
            return b""
        return wire.decode_pairs(data) if part in _PAIRS else data

    def _number(self, address: int, size: int = 4) -> int:
        try:
            return int.from_bytes(self._vm.memory.read(address, size), "little")
        except MemoryAccessError:
            return 0


def _arguments(row: Signature | None, args: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    # The old AssemblyScript SDK's gRPC calls have fewer parameters than the row.
    if row is None or len(row.params) != len(args):
        return tuple(("", value) for value in args)
    return tuple((name, value) for (name, _), value in zip(row.params, args, strict=True))


def _named(enum: type[IntEnum] | None, value: int) -> str:
    try:
        return str(value) if enum is None else enum(value).name
    except ValueError:
        return str(value)
