"""Every hostcall as a method, for guests in Python: the names of the ABI without ``proxy_``, bytes and numbers.

What each does, and which statuses it answers: `asgi_wasm.host.hostcalls`, whose docstrings name the spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.host.abi import LogLevel, ProxyStatus
from asgi_wasm.host.codecs.wire import Pairs, decode_pairs, encode_pairs
from asgi_wasm.testing.guests.calling import Calling

GivenPairs = Sequence[tuple[bytes, bytes]]
# More than any body has.
_ALL = 0xFFFF_FFFF
_NO_GRPC_STATUS = -1


class HostcallRefusedError(GuestTrap):
    """Raised where a hostcall answers anything but OK. Nobody need catch it: the guest traps, as Rust's SDK panics."""

    def __init__(self, name: str, status: ProxyStatus) -> None:
        super().__init__(f"proxy_{name} answered {status.name}")
        self.status = status


class Hostcalls(Calling):
    """What each callback of a `Guest` gets first. A method raises `HostcallRefusedError` for every status but OK.

    Those that look something up give None for NOT_FOUND. `call` and `raw` give the status instead.
    """

    def _ask(self, name: str, *given: bytes | int) -> list[Any]:
        status, *results = self.call(name, *given)
        if status is not ProxyStatus.OK:
            raise HostcallRefusedError(name, status)
        return results

    def _find(self, name: str, *given: bytes | int, nothing: ProxyStatus = ProxyStatus.NOT_FOUND) -> list[Any] | None:
        status, *results = self.call(name, *given)
        if status is nothing:
            return None
        if status is not ProxyStatus.OK:
            raise HostcallRefusedError(name, status)
        return results

    def _find_bytes(self, name: str, *given: bytes | int) -> bytes | None:
        found = self._find(name, *given)
        return None if found is None else found[0]

    # --- log, status, time, contexts

    def log(self, message: bytes, level: int = LogLevel.INFO) -> None:
        """Write a line to the plugin's log."""
        self._ask("log", level, message)

    def get_log_level(self) -> LogLevel:
        """The lowest level that is logged."""
        return LogLevel(self._ask("get_log_level")[0])

    def get_status(self) -> tuple[int, bytes]:
        """Of the last callout: code and message."""
        code, message = self._ask("get_status")
        return code, message

    def get_current_time_nanoseconds(self) -> int:
        """Since the Unix epoch."""
        return int(self._ask("get_current_time_nanoseconds")[0])

    def set_tick_period_milliseconds(self, period: int) -> None:
        """Call `on_tick` so often; 0 is never."""
        self._ask("set_tick_period_milliseconds", period)

    def set_effective_context(self, context_id: int) -> None:
        """Make the following hostcalls those of another context."""
        self._ask("set_effective_context", context_id)

    def done(self) -> None:
        """End a context whose `on_done` has answered False."""
        self._ask("done")

    # --- header maps

    def get_header_map_value(self, map_type: int, key: bytes) -> bytes | None:
        """A header's first value."""
        return self._find_bytes("get_header_map_value", map_type, key)

    def get_header_map_pairs(self, map_type: int) -> Pairs:
        """All of them; none where there is no such map."""
        return decode_pairs(self._find_bytes("get_header_map_pairs", map_type) or b"")

    def get_header_map_size(self, map_type: int) -> int:
        """Bytes of all names and values."""
        return int(self._ask("get_header_map_size", map_type)[0])

    def set_header_map_pairs(self, map_type: int, pairs: GivenPairs) -> None:
        """Replace the whole map."""
        self._ask("set_header_map_pairs", map_type, encode_pairs(pairs))

    def add_header_map_value(self, map_type: int, key: bytes, value: bytes) -> None:
        """Add a value to those of a header."""
        self._ask("add_header_map_value", map_type, key, value)

    def replace_header_map_value(self, map_type: int, key: bytes, value: bytes) -> None:
        """Put a value in place of those of a header."""
        self._ask("replace_header_map_value", map_type, key, value)

    def remove_header_map_value(self, map_type: int, key: bytes) -> None:
        """Remove a header."""
        self._ask("remove_header_map_value", map_type, key)

    # --- buffers

    def get_buffer_bytes(self, buffer_type: int, start: int = 0, max_size: int = _ALL) -> bytes:
        """What is held of a body, an answer or a configuration; nothing where there is none."""
        return self._find_bytes("get_buffer_bytes", buffer_type, start, max_size) or b""

    def get_buffer_status(self, buffer_type: int) -> tuple[int, int]:
        """Its size in bytes, and flags."""
        size, flags = self._ask("get_buffer_status", buffer_type)
        return size, flags

    def set_buffer_bytes(self, buffer_type: int, value: bytes, start: int = 0, size: int = _ALL) -> None:
        """Put a value in place of that part of it: of the whole, if nothing else is said."""
        self._ask("set_buffer_bytes", buffer_type, start, size, value)

    # --- streams

    def send_local_response(
        self,
        status_code: int,
        body: bytes = b"",
        headers: GivenPairs = (),
        *,
        details: bytes = b"",
        grpc_status: int = _NO_GRPC_STATUS,
    ) -> None:
        """Answer in place of the app."""
        self._ask("send_local_response", status_code, details, body, encode_pairs(headers), grpc_status)

    def continue_stream(self, stream_type: int) -> None:
        """Resume what a callback has paused."""
        self._ask("continue_stream", stream_type)

    def close_stream(self, stream_type: int) -> None:
        """Cut the stream off."""
        self._ask("close_stream", stream_type)

    # --- properties

    def get_property(self, path: bytes | str) -> bytes | None:
        """By its path: parts with dots between them as a str, with NULs as bytes."""
        return self._find_bytes("get_property", _path(path))

    def set_property(self, path: bytes | str, value: bytes) -> None:
        """One of the plugin's own. The path is as for `get_property`."""
        self._ask("set_property", _path(path), value)

    # --- shared data and queues

    def get_shared_data(self, key: bytes) -> tuple[bytes, int] | None:
        """The value, and the number that `set_shared_data` takes to compare."""
        found = self._find("get_shared_data", key)
        return None if found is None else (found[0], found[1])

    def set_shared_data(self, key: bytes, value: bytes, cas: int = 0) -> None:
        """Keep a value. With ``cas``: unless it was set meanwhile, which is CAS_MISMATCH."""
        self._ask("set_shared_data", key, value, cas)

    def register_shared_queue(self, name: bytes) -> int:
        """The token of the plugin's queue, which is made if need be."""
        return int(self._ask("register_shared_queue", name)[0])

    def resolve_shared_queue(self, vm_id: bytes, name: bytes) -> int | None:
        """The token of a queue of any plugin's."""
        found = self._find("resolve_shared_queue", vm_id, name)
        return None if found is None else int(found[0])

    def enqueue_shared_queue(self, token: int, value: bytes) -> None:
        """Put a value at a queue's end."""
        self._ask("enqueue_shared_queue", token, value)

    def dequeue_shared_queue(self, token: int) -> bytes | None:
        """Take a queue's first value; None where it is empty."""
        found = self._find("dequeue_shared_queue", token, nothing=ProxyStatus.EMPTY)
        return None if found is None else found[0]

    # --- callouts

    def http_call(
        self,
        upstream: bytes,
        headers: GivenPairs,
        body: bytes = b"",
        trailers: GivenPairs = (),
        timeout_milliseconds: int = 1000,
    ) -> int:
        """Send a request; its token, by which `on_http_call_response` tells of the answer."""
        pairs, ends = encode_pairs(headers), encode_pairs(trailers)
        return int(self._ask("http_call", upstream, pairs, body, ends, timeout_milliseconds)[0])

    def grpc_call(
        self,
        upstream: bytes,
        service: bytes,
        method: bytes,
        message: bytes,
        metadata: GivenPairs = (),
        timeout_milliseconds: int = 1000,
    ) -> int:
        """Make a unary call; its token."""
        pairs = encode_pairs(metadata)
        return int(self._ask("grpc_call", upstream, service, method, pairs, message, timeout_milliseconds)[0])

    def grpc_stream(self, upstream: bytes, service: bytes, method: bytes, metadata: GivenPairs = ()) -> int:
        """Open a stream; its token."""
        return int(self._ask("grpc_stream", upstream, service, method, encode_pairs(metadata))[0])

    def grpc_send(self, token: int, message: bytes, *, end_stream: bool = False) -> None:
        """Send a message on a stream."""
        self._ask("grpc_send", token, message, int(end_stream))

    def grpc_cancel(self, token: int) -> None:
        """Give up a call or a stream."""
        self._ask("grpc_cancel", token)

    def grpc_close(self, token: int) -> None:
        """End a stream, or give up a call."""
        self._ask("grpc_close", token)

    # --- metrics, foreign functions

    def define_metric(self, metric_type: int, name: bytes) -> int:
        """The metric's id."""
        return int(self._ask("define_metric", metric_type, name)[0])

    def increment_metric(self, metric_id: int, offset: int) -> None:
        """Add to a counter or a gauge."""
        self._ask("increment_metric", metric_id, offset)

    def record_metric(self, metric_id: int, value: int) -> None:
        """Set a gauge, or tell a histogram of a value."""
        self._ask("record_metric", metric_id, value)

    def get_metric(self, metric_id: int) -> int:
        """What a counter or a gauge has come to."""
        return int(self._ask("get_metric", metric_id)[0])

    def call_foreign_function(self, name: bytes, arguments: bytes = b"") -> bytes:
        """What a foreign function gives back."""
        return bytes(self._ask("call_foreign_function", name, arguments)[0])

    # --- ABI 0.1.0 only

    def get_configuration(self) -> bytes:
        """The configuration of the VM or the plugin, while it starts."""
        return bytes(self._ask("get_configuration")[0])

    def continue_request(self) -> None:
        """Resume the request."""
        self._ask("continue_request")

    def continue_response(self) -> None:
        """Resume the response."""
        self._ask("continue_response")

    def clear_route_cache(self) -> None:
        """What changed headers mean for the route is to be looked up anew."""
        self._ask("clear_route_cache")


def _path(path: bytes | str) -> bytes:
    return path if isinstance(path, bytes) else path.encode().replace(b".", b"\0")
