"""Limits that hostcalls keep: a plugin that makes the same call, which is refused, again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.testing import Hostcalls
from tests.guests import INFO, REQUEST_HEADERS
from tests.soak.limits.case import Case, Seen, status_of

OK, NOT_FOUND, BAD_ARGUMENT, INTERNAL_FAILURE = 0, 1, 2, 10
# Calls of one request.
CALLS = 10
# Where hostcalls may write what they give back.
OUT = 16
LONG, NO_PAIRS = bytes(300), encode_pairs([])
HEAD = encode_pairs([(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")])
# What one hostcall is given: bytes become address and size.
Given = tuple[bytes | int, ...]


def hostcall(
    name: str,
    limit: Mapping[str, int],
    call: str,
    given: Callable[[int], Given],
    *,
    status: int = INTERNAL_FAILURE,
    callback: str = "on_request_headers",
    first: Sequence[tuple[str, Given]] = (),
) -> Case:
    """``given(NUMBER)`` are the arguments of the next call, and ``status`` is what it is answered over the limit."""
    seen, numbers = Seen(), count()

    def start(api: Hostcalls, *_given: int) -> int:
        for name, arguments in first:
            assert api.raw(name, *_addresses(api, arguments)) == OK
        return 1

    def act(api: Hostcalls, *_given: int) -> int:
        api.host.allocate(64)
        for _ in range(CALLS):
            room = api.host._free
            seen.times += api.raw(call, *_addresses(api, given(next(numbers)))) == status
            api.host._free = room
        return 0

    callbacks: dict[str, Any] = {"on_configure": start, callback: act}
    return Case(name, limit, callbacks, _asked, seen)


async def _asked(app: WasmMiddleware, seen: Seen) -> None:
    before = seen.times
    assert await status_of(app, b"body") == 200
    assert seen.times >= before + CALLS - 1, "a call was not refused"


def _addresses(api: Hostcalls, given: Given) -> list[int]:
    numbers: list[int] = []
    for each in given:
        numbers += api.host.store(each) if isinstance(each, bytes) else [each]
    return numbers


def _name(number: int) -> bytes:
    return b"name-%d" % number


# Of which the first is counted, and is all that may be.
TWO_METRICS = [
    ("define_metric", (0, b"one", OUT)),
    ("define_metric", (0, b"another", OUT)),
    ("increment_metric", (4, 1)),
]
CASES = [
    hostcall("header_bytes", {"header_bytes": 200}, "add_header_map_value", lambda _: (REQUEST_HEADERS, b"x", LONG)),
    hostcall("header_count", {"header_count": 1}, "add_header_map_value", lambda n: (REQUEST_HEADERS, _name(n), b"y")),
    hostcall(
        "header_count, of a whole map",
        {"header_count": 1},
        "set_header_map_pairs",
        lambda n: (REQUEST_HEADERS, encode_pairs([(_name(n), b"1"), (b"x", b"2")])),
    ),
    hostcall("property_bytes", {"property_bytes": 200}, "set_property", lambda n: (_name(n), LONG)),
    hostcall(
        "name_bytes, of what is looked up",
        {"name_bytes": 200},
        "get_property",
        lambda n: (_name(n) + LONG, OUT, OUT + 4),
        status=NOT_FOUND,
    ),
    hostcall("name_bytes, of what is kept", {"name_bytes": 200}, "set_property", lambda n: (_name(n) + LONG, b"")),
    hostcall("name_bytes, of a key", {"name_bytes": 200}, "set_shared_data", lambda n: (_name(n) + LONG, b"value", 0)),
    hostcall("value_bytes, of shared data", {"value_bytes": 200}, "set_shared_data", lambda n: (_name(n), LONG, 0)),
    hostcall(
        "value_bytes, of a queue",
        {"value_bytes": 200},
        "enqueue_shared_queue",
        lambda _: (1, LONG),
        first=[("register_shared_queue", (b"q", OUT))],
    ),
    hostcall(
        "foreign_bytes",
        {"foreign_bytes": 200},
        "call_foreign_function",
        lambda _: (b"compress", LONG, OUT, OUT + 4),
    ),
    hostcall(
        "body_bytes",
        {"body_bytes": 200},
        "set_buffer_bytes",
        lambda _: (0, 0, 0xFFFFFFFF, LONG),
        callback="on_request_body",
    ),
    hostcall("metrics", {"metrics": 1}, "define_metric", lambda n: (0, _name(n), OUT)),
    hostcall("metric_bytes", {"metric_bytes": 200}, "define_metric", lambda n: (0, _name(n) + LONG, OUT)),
    hostcall("callback_effects", {"callback_effects": 1}, "continue_stream", lambda _: (0,)),
    hostcall(
        "callback_calls",
        {"callback_calls": 1},
        "http_call",
        lambda _: (b"upstream", HEAD, b"", NO_PAIRS, 1000, OUT),
    ),
    hostcall(
        "callback_call_bytes",
        {"callback_call_bytes": 200},
        "http_call",
        lambda _: (b"upstream", HEAD, LONG, NO_PAIRS, 1000, OUT),
    ),
    hostcall(
        "local_reply_bytes",
        {"local_reply_bytes": 200},
        "send_local_response",
        lambda _: (403, b"", LONG, NO_PAIRS, 0xFFFFFFFF),
    ),
    hostcall("log_line_bytes", {"log_line_bytes": 10}, "log", lambda _: (INFO, LONG), status=OK),
    hostcall("log_lines_per_second", {"log_lines_per_second": 1}, "log", lambda _: (INFO, b"line"), status=OK),
    hostcall("tick_ms", {"tick_ms": 10**9}, "set_tick_period_milliseconds", lambda n: (n + 1,), status=OK),
    hostcall("shared_data_keys", {"shared_data_keys": 1}, "set_shared_data", lambda n: (_name(n), b"v", 0)),
    hostcall("shared_data_bytes", {"shared_data_bytes": 200}, "set_shared_data", lambda n: (_name(n), LONG, 0)),
    *(
        hostcall(name, {name: most}, "increment_metric", lambda _: (8, 1), first=TWO_METRICS)
        for name, most in (("stored_metrics", 1), ("stored_metric_bytes", 5))
    ),
    hostcall("queues", {"queues": 1}, "register_shared_queue", lambda n: (_name(n), OUT)),
    hostcall(
        "queue_length",
        {"queue_length": 1},
        "enqueue_shared_queue",
        lambda _: (1, b"v"),
        first=[("register_shared_queue", (b"q", OUT))],
    ),
    hostcall(
        "queue_bytes",
        {"queue_bytes": 200},
        "enqueue_shared_queue",
        lambda _: (1, LONG),
        first=[("register_shared_queue", (b"q", OUT))],
    ),
]
