"""Every hostcall that does no harm, in every phase."""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.probe.script import Request, Script, in_phase, pairs

_REQUEST = pairs((b":method", b"GET"), (b":path", b"/"), (b":authority", b"a"))


def _everything(abi: str) -> Iterator[str]:
    """A result that the hosts' own headers or the time make differ goes to an address where it is not logged."""
    yield 'log 2 "line"'
    yield 'log 6 "line"'
    if abi == "0_2_1":
        yield "get_log_level"
    yield "get_status"
    for path in ("plugin_name", "request\\x00method", "response\\x00code", "source", "none"):
        yield f'get_property "{path}"'
    yield 'set_property "kept" "value"'
    yield 'get_property "kept"'
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
    yield 'get_shared_data "none"'
    yield 'resolve_shared_queue "" "none"'
    yield "dequeue_shared_queue 99"
    yield 'enqueue_shared_queue 99 "x"'
    yield 'define_metric 1 "gauge" '
    yield "keep m 0"
    yield "record_metric %m 7"
    yield "increment_metric %m -2"
    yield "get_metric %m"
    yield "set_tick_period_milliseconds 0"
    yield "get_current_time_nanoseconds $3"
    yield f'http_call "none" {_REQUEST} "" "" 100'
    yield 'http_call "upstream" "" "" "" 100'
    yield 'grpc_call "none" "service" "method" "" "message" 100'
    yield 'grpc_stream "none" "service" "method" ""'
    for token in (0, 1, 2, 3):
        yield f'grpc_send {token} "message" 0'
        yield f"grpc_cancel {token}"
        yield f"grpc_close {token}"
    yield "set_effective_context 99"
    yield "set_effective_context 0"
    yield "done"
    yield 'call_foreign_function "none" "x"'
    if abi != "0_1_0":
        yield from ("continue_stream 2", "continue_stream 3", "continue_stream 4", "close_stream 4", "close_stream -1")
    yield "pthread_equal 1 1"
    yield "emscripten_notify_memory_growth 0"


def everything(phase: str, abi: str = "0_2_1") -> str:
    """A text that tries all of it in one phase."""
    return in_phase(phase, "\n".join(_everything(abi)))


# The end of both bodies comes on its own, so that all servers agree on which call tells of it.
_IN_PIECES = [Request("POST", "/?body=response&chunks=2&delay=0.05", body=(b"request", b"body"))]
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
