"""Every hostcall that does no harm, in every phase."""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.probe.script import Request, Script, in_phase, pairs

_REQUEST = pairs((b":method", b"GET"), (b":path", b"/"), (b":authority", b"a"))


# What a plugin asks of its host and of its own stream.
_OF_THE_STREAM = (
    *('log 2 "line"', 'log 6 "line"', "get_status"),
    *(
        f'get_property "{path}"'
        for path in ("plugin_name", "request\\x00method", "response\\x00code", "source", "none")
    ),
    *('set_property "kept" "value"', 'get_property "kept"'),
)
# Of what plugins share.
_OF_THE_STORE = (
    *('get_shared_data "none"', 'resolve_shared_queue "" "none"'),
    *("dequeue_shared_queue 99", 'enqueue_shared_queue 99 "x"'),
    *('define_metric 1 "gauge" ', "keep m 0", "record_metric %m 7", "increment_metric %m -2", "get_metric %m"),
    *("set_tick_period_milliseconds 0", "get_current_time_nanoseconds $3"),
)
_ENDS = ("set_effective_context 99", "set_effective_context 0", "done", 'call_foreign_function "none" "x"')
_STREAMS = ("continue_stream 2", "continue_stream 3", "continue_stream 4", "close_stream 4", "close_stream -1")


def _maps_and_buffers() -> Iterator[str]:
    """A result that the hosts' own headers make differ goes to an address where it is not logged."""
    for map_type in (*range(9), -1):
        yield f'get_header_map_value {map_type} "x-none"'
        yield f"get_header_map_size {map_type} $3"
        yield f"get_header_map_pairs {map_type} $2 $3"
        yield f'add_header_map_value {map_type} "x-added" "1"'
        yield f'get_header_map_value {map_type} "x-added"'
        yield f'replace_header_map_value {map_type} "x-added" "2"'
        yield f'remove_header_map_value {map_type} "x-added"'
    for map_type in (*range(4, 9), -1):
        yield f'set_header_map_pairs {map_type} ""'
    # Not 8: see "body-call-data".
    for buffer_type in (*range(8), 9, -1):
        yield f"get_buffer_status {buffer_type}"
        yield f"get_buffer_bytes {buffer_type} 0 5"
        yield f'set_buffer_bytes {buffer_type} 0 0 ""'


def _callouts() -> Iterator[str]:
    yield f'http_call "none" {_REQUEST} "" "" 100'
    yield 'http_call "upstream" "" "" "" 100'
    yield 'grpc_call "none" "service" "method" "" "message" 100'
    yield 'grpc_stream "none" "service" "method" ""'
    for token in (0, 1, 2, 3):
        yield f'grpc_send {token} "message" 0'
        yield f"grpc_cancel {token}"
        yield f"grpc_close {token}"


def _everything(abi: str) -> Iterator[str]:
    logs, rest = _OF_THE_STREAM[:2], _OF_THE_STREAM[2:]
    yield from (*logs, *(["get_log_level"] if abi == "0_2_1" else []), *rest)
    yield from _maps_and_buffers()
    yield from _OF_THE_STORE
    yield from _callouts()
    yield from _ENDS
    if abi != "0_1_0":
        yield from _STREAMS
    yield from ("pthread_equal 1 1", "emscripten_notify_memory_growth 0")


def everything(phase: str, abi: str = "0_2_1") -> str:
    """A text that tries all of it in one phase."""
    return in_phase(phase, "\n".join(_everything(abi)))


# The end of both bodies comes on its own, so that all servers agree on which call tells of it.
_IN_PIECES = [Request("POST", "/?body=response&chunks=2&delay=0.5", body=(b"request", b"body"))]
_STREAM_PHASES = (
    "stream_create",
    "request_headers",
    "request_body@1",
    "request_end@1",
    "response_headers",
    "response_body@1",
    "response_end@1",
    "log",
    "done",
    "delete",
)
_TICKING = "configure: set_tick_period_milliseconds 20\n"
_MAKES_REQUEST_TRAILERS = 'request_end: add_header_map_value 1 "x-trailer" "1"\n'
_MAKES_RESPONSE_TRAILERS = 'response_end: add_header_map_value 3 "x-trailer" "1"\n'

SCRIPTS = [
    *(Script(f"all-{phase.replace('@1', '')}", everything(phase), _IN_PIECES) for phase in _STREAM_PHASES),
    Script("all-root_create", "", early=everything("root_create")),
    Script("all-vm_start", "", early=everything("vm_start")),
    Script("all-configure", everything("configure")),
    Script("all-root_done", everything("root_done")),
    Script("all-root_delete", everything("root_delete")),
    Script("all-tick", _TICKING + everything("tick@1") + "tick@1: set_tick_period_milliseconds 0\n"),
    Script(
        "all-queue_ready",
        'configure: register_shared_queue "q"\nconfigure: keep q 0\n'
        'request_headers: enqueue_shared_queue %q "item"\n' + everything("queue_ready"),
    ),
    Script("all-request_trailers", _MAKES_REQUEST_TRAILERS, others=[everything("request_trailers")]),
    Script("all-response_trailers", everything("response_trailers"), others=[_MAKES_RESPONSE_TRAILERS]),
    Script(
        "all-http_call_response",
        f'request_headers: http_call "upstream" {_REQUEST} "" "" 5000\nrequest_headers: return 1\n'
        + everything("http_call_response")
        + "http_call_response: set_effective_context %stream\nhttp_call_response: continue_stream 0\n",
    ),
    # As SDKs do in the answers to a root context.
    Script(
        "all-effective_stream",
        "request_headers: set_tick_period_milliseconds 20\nrequest_headers: return 1\n"
        "tick@1: set_effective_context %stream\n"
        + everything("tick@1")
        + "tick@1: set_effective_context %stream\ntick@1: continue_stream 0\n",
    ),
    Script("all-request_headers-0_1_0", everything("request_headers", "0_1_0"), abi="0_1_0"),
    Script("all-request_headers-0_2_0", everything("request_headers", "0_2_0"), abi="0_2_0"),
    Script("all-log-0_1_0", everything("log", "0_1_0"), abi="0_1_0"),
]
