"""Tells a `host.vm.trace.TraceSink` of what one VM calls and is called by.

Functions are wrapped once, when a VM is linked: without a sink nothing is, and a call costs nothing more. Where there
is one, a VM has no kernel beside it (`host.resident`), so that every hostcall is seen.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.engines.base import GuestFunction, HostFunction
from asgi_wasm.errors import MemoryAccessError
from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.codecs import wire
from asgi_wasm.host.signatures import Signature
from asgi_wasm.host.vm.memory import GuestMemory
from asgi_wasm.host.vm.trace import Call, TraceSink, Value
from asgi_wasm.specs import Mode

if TYPE_CHECKING:
    from asgi_wasm.host.vm.contexts import Context

# Of one argument or result that lies in the guest's memory.
MOST_BYTES = 1024 * 1024
# Of one write; WASI refuses more.
MOST_PIECES = 1024
# Parameters whose bytes are a list of pairs.
_PAIRS = frozenset({"headers", "trailers", "metadata", "pairs"})
_WRITES = frozenset({"fd_write", "fd_pwrite"})
_WIDE = frozenset({"return_time"})


class Traced(Protocol):
    """What a trace asks of its VM."""

    memory: GuestMemory

    @property
    def context(self) -> Context | None:
        """Whom a hostcall acts for."""
        ...

    def plugin_name(self) -> str:
        """Whose words a log line is."""
        ...


class Trace:
    """Tells a sink of the calls between one VM and the host."""

    def __init__(self, sink: TraceSink, vm: Traced) -> None:
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
        # A request has one, whichever chain carries it on.
        stream = None if context is None or context.stream is None else context.stream.chain.attributes
        number = 0 if context is None else context.id
        call = Call(name, is_callback, self._vm.plugin_name(), number, stream, self._depth, _arguments(row, args))
        call.vm = self._vm
        call.observed = is_callback and context is not None and context.root.spec.mode is Mode.OBSERVE
        decodes = self._sink.reads_memory and not is_callback and name.startswith("proxy_")
        if decodes:
            call.given = self._given(call)
        elif self._sink.reads_memory and name in _WRITES and row is not None:
            call.given = {"text": self._written(call)}
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

    def _written(self, call: Call) -> bytes:
        """What WASI is given to write, in whatever pieces it lies."""
        numbers = dict(call.arguments)
        try:
            if numbers["iovs_count"] > MOST_PIECES:
                return b""
            pairs = [*struct.iter_unpack("<2I", self._vm.memory.read(numbers["iovs"], 8 * numbers["iovs_count"]))]
            if sum(size for _, size in pairs) <= MOST_BYTES:
                return b"".join(self._vm.memory.read(address, size) for address, size in pairs if size)
        except (KeyError, MemoryAccessError):
            pass
        return b""

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
