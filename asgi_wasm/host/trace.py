"""A call log: each callback and each hostcall of a VM, with its arguments by name.

    ==> fault_injection proxy_on_request_headers(context_id=2, num_headers=7, end_of_stream=1)
      --> proxy_get_buffer_status(buffer_type=PLUGIN_CONFIGURATION, return_size=1024, return_flags=1028)
      <-- proxy_get_buffer_status = NOT_FOUND
    <== fault_injection proxy_on_request_headers = 0

Functions are wrapped once, when a VM is linked: without a trace nothing is, and a call costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from asgi_wasm.engines.base import GuestFunction, HostFunction
from asgi_wasm.host.abi import BufferType, LogLevel, MapType, MetricType, ProxyStatus, Signature, StreamType

# Parameters whose numbers have names.
_ENUMS: dict[str, type[IntEnum]] = {
    "buffer_type": BufferType,
    "level": LogLevel,
    "map_type": MapType,
    "metric_type": MetricType,
    "stream_type": StreamType,
}


class Trace:
    """Writes the calls between one VM and the host. ``plugin`` says on whose behalf a callback runs."""

    def __init__(self, write: Callable[[str], None], plugin: Callable[[], str]) -> None:
        self._write = write
        self._plugin = plugin
        self._depth = 0

    def callback(self, row: Signature, function: GuestFunction) -> GuestFunction:
        """The guest's function, told about."""

        def traced(*args: int) -> int | None:
            return self._call(("==>", "<=="), f"{self._plugin()} {row.name}", row, function, args, str)

        return traced

    def hostcall(self, name: str, row: Signature | None, function: HostFunction) -> HostFunction:
        """The host's function, told about. ``row`` is None for an import that the host does not know."""
        # The results of WASI, of emscripten's imports and of unknown ones are no statuses.
        show = _status if name.startswith("proxy_") else str

        def traced(*args: int) -> int | None:
            return self._call(("-->", "<--"), name, row, function, args, show)

        return traced

    def _call(
        self,
        arrows: tuple[str, str],
        label: str,
        row: Signature | None,
        function: Callable[..., int | None],
        args: tuple[int, ...],
        show: Callable[[int], str],
    ) -> int | None:
        indent, (begin, end) = "  " * self._depth, arrows
        self._write(f"{indent}{begin} {label}({_arguments(row, args)})")
        self._depth += 1
        try:
            result = function(*args)
        except Exception as error:
            self._write(f"{indent}{end} {label} failed: {error}")
            raise
        finally:
            self._depth -= 1
        self._write(f"{indent}{end} {label}" if result is None else f"{indent}{end} {label} = {show(result)}")
        return result


def _arguments(row: Signature | None, args: tuple[int, ...]) -> str:
    # The old AssemblyScript SDK's gRPC calls have fewer parameters than the row.
    if row is None or len(row.params) != len(args):
        return ", ".join(map(str, args))
    return ", ".join(
        f"{name}={_named(_ENUMS.get(name), value)}" for (name, _), value in zip(row.params, args, strict=True)
    )


def _named(enum: type[IntEnum] | None, value: int) -> str:
    try:
        return str(value) if enum is None else enum(value).name
    except ValueError:
        return str(value)


def _status(value: int) -> str:
    return _named(ProxyStatus, value)
