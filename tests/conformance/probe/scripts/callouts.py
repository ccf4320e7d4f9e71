"""HTTP calls, gRPC calls, foreign functions: what is refused, and how an answer is read."""

from __future__ import annotations

from tests.conformance.probe.script import Script, in_phase, pairs

_M, _P, _A = (b":method", b"POST"), (b":path", b"/?status=201&header=x-answer:1"), (b":authority", b"up")
_GOOD = pairs(_M, _P, _A)
_RESUME = "http_call_response: set_effective_context %stream\nhttp_call_response: continue_stream 0\n"

SCRIPTS = [
    Script(
        "call-refused",
        in_phase(
            "request_headers",
            f"""
            http_call "none" {_GOOD} "" "" 100
            http_call "" {_GOOD} "" "" 100
            http_call "upstream" "" "" "" 100
            http_call "upstream" {pairs(_P, _A)} "" "" 100
            http_call "upstream" {pairs(_M, _A)} "" "" 100
            http_call "upstream" {pairs(_M, _P)} "" "" 100
            http_call "upstream" {pairs(_M, _P, (b"host", b"up"))} "" "" 100
            http_call "upstream" {pairs((b":method", b""), _P, _A)} "" "" 100
            http_call "upstream" {_GOOD} "" "" -1
            http_call "upstream" {_GOOD} "" "" 0x80000000
            http_call "upstream\\x00" {_GOOD} "" "" 100
            http_call 0xfffffff0 4 {_GOOD} "" "" 100
            http_call "upstream" 0xfffffff0 4 "" "" 100
            http_call "upstream" {_GOOD} 0xfffffff0 4 "" 100
            http_call "upstream" {_GOOD} "" 0xfffffff0 4 100
            """,
        ),
    ),
    Script(
        "call-answer",
        in_phase("request_headers", f'http_call "upstream" {_GOOD} "body" "" 5000\nreturn 1')
        + in_phase(
            "http_call_response@1",
            """
            get_status
            get_header_map_value 6 ":status"
            get_header_map_value 6 "x-answer"
            get_header_map_value 6 "X-Answer"
            get_header_map_value 6 "x-none"
            get_header_map_value 7 "x-none"
            get_header_map_size 7
            get_header_map_pairs 7
            add_header_map_value 6 "x-n" "1"
            replace_header_map_value 6 "x-n" "1"
            remove_header_map_value 6 "x-answer"
            set_header_map_pairs 6 ""
            get_header_map_value 6 "x-answer"
            add_header_map_value 7 "x-n" "1"
            get_buffer_bytes 4 0 100
            get_buffer_bytes 4 1 2
            get_buffer_bytes 4 9 2
            get_buffer_status 4
            set_buffer_bytes 4 0 0 "x"
            get_buffer_bytes 0 0 100
            get_header_map_value 0 ":method"
            get_property "plugin_name"
            get_property "request\\x00method"
            """
            + f'http_call "upstream" {_GOOD} "two" "" 0',
        )
        + in_phase(
            "http_call_response@2",
            'get_buffer_bytes 4 0 100\nset_effective_context %stream\nget_buffer_bytes 4 0 100\nget_header_map_value 6 ":status"\nget_header_map_value 0 ":method"\ncontinue_stream 0\nget_header_map_value 0 ":method"',
        )
        + in_phase("response_headers", 'get_header_map_value 6 ":status"\nget_buffer_bytes 4 0 100\nget_status'),
    ),
    Script(
        "call-tokens",
        in_phase(
            "request_headers",
            f'http_call "upstream" {_GOOD} "" "" 5000\nhttp_call "none" {_GOOD} "" "" 5000\nhttp_call "upstream" {_GOOD} "" "" 5000\nreturn 1',
        )
        + in_phase("http_call_response@2", "set_effective_context %stream\ncontinue_stream 0"),
    ),
    *(
        Script(
            f"call-in-{phase.removesuffix('@1')}",
            in_phase(phase, f'http_call "upstream" {_GOOD} "" "" 5000')
            + in_phase("http_call_response", 'get_header_map_value 6 ":status"'),
        )
        for phase in ("stream_create", "response_headers", "response_end@1", "log", "done", "delete")
    ),
    Script(
        "call-refused-connection",
        in_phase("request_headers", f'http_call "closed" {_GOOD} "" "" 5000\nreturn 1')
        + in_phase("http_call_response", 'args\nget_status\nget_header_map_value 6 ":status"\nget_buffer_bytes 4 0 300')
        + _RESUME,
    ),
    Script(
        "call-timeout",
        in_phase("request_headers", f'http_call "upstream" {pairs(_M, (b":path", b"/never"), _A)} "" "" 100\nreturn 1')
        + in_phase("http_call_response", 'args\nget_status\nget_header_map_value 6 ":status"\nget_buffer_bytes 4 0 300')
        + _RESUME,
    ),
    Script(
        "call-reset",
        in_phase("request_headers", f'http_call "upstream" {pairs(_M, (b":path", b"/cut"), _A)} "" "" 5000\nreturn 1')
        + in_phase(
            "http_call_response",
            'args\nget_status\nget_header_map_value 6 ":status"\nget_header_map_size 6\nget_header_map_pairs 6\nget_buffer_bytes 4 0 300\nget_buffer_status 4',
        )
        + _RESUME
        + in_phase("log", "get_status"),
    ),
    Script(
        "call-bad-token-address",
        in_phase("request_headers", f'http_call "upstream" {_GOOD} "" "" 5000 0xfffffff0')
        + in_phase("http_call_response", "args"),
    ),
    Script(
        "grpc-refused",
        in_phase(
            "request_headers",
            """
            grpc_call "none" "service" "method" "" "message" 100
            grpc_call "\\xff\\xff" "service" "method" "" "message" 100
            grpc_call 0xfffffff0 4 "service" "method" "" "message" 100
            grpc_call "none" 0xfffffff0 4 "method" "" "message" 100
            grpc_call "none" "service" 0xfffffff0 4 "" "message" 100
            grpc_call "none" "service" "method" 0xfffffff0 4 "message" 100
            grpc_call "none" "service" "method" "" 0xfffffff0 4 100
            grpc_stream "none" "service" "method" ""
            grpc_stream 0xfffffff0 4 "service" "method" ""
            grpc_send 1 "m" 0
            grpc_send 2 "m" 1
            grpc_send 4 "m" 0
            grpc_send 5 "m" 0
            grpc_send 6 "m" 0
            grpc_send 7 "m" 0
            grpc_send 6 0xfffffff0 4 0
            grpc_cancel 4
            grpc_cancel 5
            grpc_cancel 6
            grpc_cancel 7
            grpc_close 4
            grpc_close 5
            grpc_close 6
            grpc_close 7
            """,
        ),
    ),
    *(
        Script(
            f"grpc-{call}-empty-service",
            in_phase("request_headers", f'grpc_{call} "" "service" "method" {more}'),
            crashes_envoy=True,
        )
        for call, more in (("call", '"" "message" 100'), ("stream", '""'))
    ),
    Script(
        "foreign-refused",
        in_phase(
            "request_headers",
            """
            call_foreign_function "none" "x"
            call_foreign_function "" ""
            call_foreign_function "none" "x" 0 0
            call_foreign_function 0xfffffff0 4 "x"
            call_foreign_function "none" 0xfffffff0 4
            call_foreign_function "none" "x" 0xfffffff0 0xfffffff0
            """,
        ),
    ),
]
