"""Local responses: in every phase, of every form, seen by every plugin; and VMs that fail before others."""

from __future__ import annotations

from tests.conformance.probe.script import POST, Request, Script, in_phase, pairs

REPLY = f'send_local_response 418 "my details" "body" {pairs((b"x-reply", b"1"), (b"X-Reply", b"2"))} -1'
_OTHER = 'send_local_response 403 "other" "other" "" -1'
_NOTHING = 'send_local_response 401 "details" "" "" -1'
# What the plugin sees of its own answer.
_WATCH = (
    "stream_create: args\n"
    'response_headers: get_header_map_value 2 ":status"\n'
    'response_headers: get_header_map_value 2 "x-reply"\n'
    'response_headers: get_header_map_value 2 "content-type"\n'
    'response_headers: get_header_map_value 2 "content-length"\n'
    "response_body@1: get_buffer_bytes 1 0 100\n"
    'log: get_header_map_value 2 ":status"\n'
    'log: get_header_map_value 2 "content-length"\n'
    "done: args\n"
    "delete: args\n"
)
_STREAMED = Request("GET", "/?body=onetwosix&chunks=3&delay=0.5")


SCRIPTS = [
    *(
        Script(f"reply-in-{phase}", _WATCH + in_phase(f"{phase}@1", f"{REPLY}\nreturn 1"))
        for phase in ("request_headers", "request_body", "request_end", "response_headers")
    ),
    *(
        Script(f"reply-in-{phase}-continue", _WATCH + in_phase(f"{phase}@1", f"{REPLY}\nreturn 0"))
        for phase in ("request_headers", "request_body", "response_headers")
    ),
    Script(
        "reply-in-response_body",
        in_phase("response_body@1", f"{REPLY}\nreturn 1") + 'log: get_header_map_value 2 ":status"\n',
        [_STREAMED],
    ),
    Script("reply-in-response_end", in_phase("response_end@1", f"{REPLY}\nreturn 1"), [_STREAMED]),
    Script("reply-in-stream_create", _WATCH + in_phase("stream_create", REPLY)),
    *(
        Script(f"reply-in-{phase}", in_phase(phase, REPLY) + "done: args\ndelete: args\n", crashes_envoy=True)
        for phase in ("log", "done", "delete")
    ),
    Script("reply-in-root_create", "", early=in_phase("root_create", REPLY)),
    Script("reply-in-configure", in_phase("configure", REPLY)),
    Script(
        "reply-in-tick",
        "configure: set_tick_period_milliseconds 20\n" + in_phase("tick@1", f"{REPLY}\nset_tick_period_milliseconds 0"),
    ),
    Script(
        "reply-in-request_trailers",
        'request_end@1: add_header_map_value 1 "x-t" "1"\n',
        others=[_WATCH + in_phase("request_trailers", f"{REPLY}\nreturn 1")],
    ),
    Script(
        "reply-in-response_trailers",
        in_phase("response_trailers", f"{REPLY}\nreturn 1"),
        others=['response_end@1: add_header_map_value 3 "x-t" "1"\n'],
    ),
    Script("reply-twice", _WATCH + in_phase("request_headers", f"{REPLY}\n{_OTHER}\nreturn 1")),
    Script("reply-then-continue", _WATCH + in_phase("request_headers", f"{REPLY}\ncontinue_stream 0\nreturn 1")),
    Script("continue-then-reply", _WATCH + in_phase("request_headers", f"continue_stream 0\n{REPLY}\nreturn 1")),
    Script(
        "reply-to-own-reply",
        _WATCH
        + in_phase("request_headers", f"{REPLY}\nreturn 1")
        + in_phase("response_headers", f"{_OTHER}\nreturn 1"),
    ),
    Script(
        "reply-then-header",
        _WATCH
        + in_phase(
            "request_headers",
            f'{REPLY}\nadd_header_map_value 0 "x-a" "1"\nget_header_map_value 0 "x-a"\nset_property "after" "1"\nget_property "after"\nreturn 1',
        ),
    ),
    Script(
        "reply-by-tick",
        _WATCH
        + in_phase("request_headers", "set_tick_period_milliseconds 20\nreturn 1")
        + in_phase("tick@1", f"set_tick_period_milliseconds 0\nset_effective_context %stream\n{REPLY}"),
    ),
    Script(
        "reply-by-tick-and-continue",
        _WATCH
        + in_phase("request_headers", "set_tick_period_milliseconds 20\nreturn 1")
        + in_phase(
            "tick@1", f"set_tick_period_milliseconds 0\nset_effective_context %stream\n{REPLY}\ncontinue_stream 0"
        ),
    ),
    Script("reply-first-of-two", _WATCH + in_phase("request_headers", f"{REPLY}\nreturn 1"), others=[_WATCH]),
    Script("reply-second-of-two", _WATCH, others=[_WATCH + in_phase("request_headers", f"{REPLY}\nreturn 1")]),
    Script(
        "reply-second-of-two-to-response", _WATCH, others=[_WATCH + in_phase("response_headers", f"{REPLY}\nreturn 1")]
    ),
    Script(
        "reply-first-of-two-to-response", _WATCH + in_phase("response_headers", f"{REPLY}\nreturn 1"), others=[_WATCH]
    ),
    *(
        Script(
            f"reply-form-{name}",
            _WATCH + in_phase("request_headers", f"send_local_response {arguments}\nreturn 1"),
            [request],
        )
        for name, arguments, request in (
            ("empty", '200 "" "" "" -1', POST),
            ("204", '204 "d" "" "" -1', POST),
            ("204-body", '204 "d" "body" "" -1', POST),
            ("304", '304 "d" "" "" -1', POST),
            ("100", '100 "d" "" "" -1', POST),
            ("0", '0 "d" "" "" -1', POST),
            ("600", '600 "d" "b" "" -1', POST),
            ("999", '999 "d" "b" "" -1', POST),
            ("1000", '1000 "d" "b" "" -1', POST),
            ("no-body-content-type", f'200 "d" "" {pairs((b"content-type", b"text/html"))} -1', POST),
            ("content-type", f'200 "d" "b" {pairs((b"content-type", b"text/html"))} -1', POST),
            ("content-length", f'200 "d" "b" {pairs((b"content-length", b"77"))} -1', POST),
            ("pseudo", f'200 "d" "b" {pairs((b":status", b"418"), (b":path", b"/x"))} -1', POST),
            ("odd-header", f'200 "d" "b" {pairs((b"x-a", b"1"), (b"", b"2"), (b"x y", b"3"))} -1', POST),
            ("bad-pairs", '200 "d" "b" "\\xff\\xff\\xff\\xff" -1', POST),
            ("grpc-status", '200 "d" "b" "" 7', POST),
            ("head", '200 "d" "body" "" -1', Request("HEAD", "/")),
            (
                "grpc",
                f'403 "d" "a b%c\\xe9" {pairs((b"x-a", b"1"))} -1',
                Request("POST", "/", [("content-type", "application/grpc")], b"request"),
            ),
            (
                "grpc-given",
                '403 "d" "body" "" 5',
                Request("POST", "/", [("content-type", "application/grpc")], b"request"),
            ),
            (
                "grpc-99",
                '403 "d" "body" "" 99',
                Request("POST", "/", [("content-type", "application/grpc")], b"request"),
            ),
            (
                "grpc-web",
                '403 "d" "body" "" -1',
                Request("POST", "/", [("content-type", "application/grpc-web")], b"request"),
            ),
            ("details-space", '200 "a b\\x0ac" "b" "" -1', POST),
        )
    ),
    # Of what the host adds for HTTP/1's sake, such as the length of nothing, plugins see nothing.
    *(
        Script(f"reply-nothing-in-{phase}", _WATCH + in_phase(f"{phase}@1", f"{_NOTHING}\nreturn 1"), others=[_WATCH])
        for phase in ("request_headers", "request_body", "request_end", "response_headers")
    ),
    *(
        Script(f"trap-in-{phase}-watched", in_phase(phase, "trap"), others=[_WATCH], others_abi="0_2_0")
        for phase in ("request_headers", "request_body", "response_headers")
    ),
    # A VM that fails is not replaced within a request, for whatever plugin.
    *(
        Script(
            f"trap-in-{phase}-of-first-{policy}".replace("_", "-"),
            in_phase(f"{phase}@1", "trap") + in_phase("request_headers", "args"),
            others=[_WATCH + in_phase("request_headers", "args")],
            failure_policy=policy,
        )
        for phase in ("stream_create", "request_headers", "response_headers", "log")
        for policy in ("fail_closed", "fail_open", "fail_reload")
    ),
    Script(
        "reply-bad-memory",
        in_phase(
            "request_headers",
            """
            send_local_response 200 0xfffffff0 4 "" "" -1
            send_local_response 200 "" 0xfffffff0 4 "" -1
            send_local_response 200 "" "" 0xfffffff0 4 -1
            """,
        ),
    ),
]
