"""Each callback and each hostcall of a VM as a record, with its arguments by name, and what it answered.

What makes the records is `host.vm.tracing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from asgi_wasm.host.abi import BufferType, LogLevel, MapType, MetricType, ProxyStatus, StreamType
from asgi_wasm.host.codecs import wire

# Parameters whose numbers have names.
_ENUMS: dict[str, type[IntEnum]] = {
    "buffer_type": BufferType,
    "level": LogLevel,
    "map_type": MapType,
    "metric_type": MetricType,
    "stream_type": StreamType,
}
# As `proxy_action_t`.
_ACTIONS = {0: "CONTINUE", 1: "PAUSE"}
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
    # Between whom and the host: tokens of callouts are each VM's own.
    vm: object = None
    # Of a plugin that only observes: nothing comes of its verdict.
    observed: bool = False

    @property
    def answer(self) -> str:
        """The result in words: a hostcall's status, a callback's number, "" for none."""
        if self.result is None:
            return ""
        # The results of WASI, of emscripten's imports and of unknown ones are no statuses.
        is_status = not self.is_callback and self.name.startswith("proxy_")
        return _named(ProxyStatus, self.result) if is_status else str(self.result)

    @property
    def action(self) -> str:
        """What a callback of a stream says of it, CONTINUE or PAUSE; "" for any other call or number."""
        return _ACTIONS.get(self.result, "") if self.decides and self.result is not None else ""

    @property
    def decides(self) -> bool:
        """Whether it is a callback that says whether its stream goes on."""
        return self.is_callback and self.name.endswith(("_headers", "_body", "_trailers"))

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


class SeveralSinks:
    """A `TraceSink` of several."""

    def __init__(self, sinks: Sequence[TraceSink]) -> None:
        self._sinks = sinks
        self.reads_memory = any(sink.reads_memory for sink in sinks)

    def begin(self, call: Call) -> None:
        """Tell each."""
        for sink in self._sinks:
            sink.begin(call)

    def end(self, call: Call) -> None:
        """Tell each."""
        for sink in self._sinks:
            sink.end(call)


def joined(sinks: Sequence[TraceSink]) -> TraceSink | None:
    """One for all of them; None where there is none."""
    return SeveralSinks(sinks) if len(sinks) > 1 else sinks[0] if sinks else None


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


def _named(enum: type[IntEnum] | None, value: int) -> str:
    try:
        return str(value) if enum is None else enum(value).name
    except ValueError:
        return str(value)
