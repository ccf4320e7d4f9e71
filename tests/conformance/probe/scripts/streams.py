"""Pausing, resuming, resetting, answering: in every phase, in every order."""

from __future__ import annotations

from tests.conformance.probe.script import POST, Request, Script, in_phase, pairs

_REPLY = f'send_local_response 418 "my details" "body" {pairs((b"x-reply", b"1"), (b"X-Reply", b"2"))} -1'
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
_SHORT = 3.0
_STREAMED = Request("GET", "/?body=onetwosix&chunks=3&delay=0.05")
_PAUSED = Request("POST", "/", body=b"request", patience=_SHORT)


SCRIPTS = [
    *(
        Script(f"reply-in-{phase}", _WATCH + in_phase(f"{phase}@1", f"{_REPLY}\nreturn 1"))
        for phase in ("request_headers", "request_body", "request_end", "response_headers")
    ),
    *(
        Script(f"reply-in-{phase}-continue", _WATCH + in_phase(f"{phase}@1", f"{_REPLY}\nreturn 0"))
        for phase in ("request_headers", "request_body", "response_headers")
    ),
    Script(
        "reply-in-response_body",
        in_phase("response_body@1", f"{_REPLY}\nreturn 1") + 'log: get_header_map_value 2 ":status"\n',
        [_STREAMED],
    ),
    Script("reply-in-response_end", in_phase("response_end@1", f"{_REPLY}\nreturn 1"), [_STREAMED]),
    Script("reply-in-stream_create", _WATCH + in_phase("stream_create", _REPLY)),
    *(
        Script(f"reply-in-{phase}", in_phase(phase, _REPLY) + "done: args\ndelete: args\n", crashes_envoy=True)
        for phase in ("log", "done", "delete")
    ),
    Script("reply-in-root_create", "", early=in_phase("root_create", _REPLY)),
    Script("reply-in-configure", in_phase("configure", _REPLY)),
    Script(
        "reply-in-tick",
        "configure: set_tick_period_milliseconds 20\n"
        + in_phase("tick@1", f"{_REPLY}\nset_tick_period_milliseconds 0"),
    ),
    Script(
        "reply-in-request_trailers",
        'request_end@1: add_header_map_value 1 "x-t" "1"\n',
        others=[_WATCH + in_phase("request_trailers", f"{_REPLY}\nreturn 1")],
    ),
    Script(
        "reply-in-response_trailers",
        in_phase("response_trailers", f"{_REPLY}\nreturn 1"),
        others=['response_end@1: add_header_map_value 3 "x-t" "1"\n'],
    ),
    Script("reply-twice", _WATCH + in_phase("request_headers", f"{_REPLY}\n{_OTHER}\nreturn 1")),
    Script("reply-then-continue", _WATCH + in_phase("request_headers", f"{_REPLY}\ncontinue_stream 0\nreturn 1")),
    Script("continue-then-reply", _WATCH + in_phase("request_headers", f"continue_stream 0\n{_REPLY}\nreturn 1")),
    Script(
        "reply-to-own-reply",
        _WATCH
        + in_phase("request_headers", f"{_REPLY}\nreturn 1")
        + in_phase("response_headers", f"{_OTHER}\nreturn 1"),
    ),
    Script(
        "reply-then-header",
        _WATCH
        + in_phase(
            "request_headers",
            f'{_REPLY}\nadd_header_map_value 0 "x-a" "1"\nget_header_map_value 0 "x-a"\nset_property "after" "1"\nget_property "after"\nreturn 1',
        ),
    ),
    Script(
        "reply-by-tick",
        _WATCH
        + in_phase("request_headers", "set_tick_period_milliseconds 20\nreturn 1")
        + in_phase("tick@1", f"set_tick_period_milliseconds 0\nset_effective_context %stream\n{_REPLY}"),
    ),
    Script(
        "reply-by-tick-and-continue",
        _WATCH
        + in_phase("request_headers", "set_tick_period_milliseconds 20\nreturn 1")
        + in_phase(
            "tick@1", f"set_tick_period_milliseconds 0\nset_effective_context %stream\n{_REPLY}\ncontinue_stream 0"
        ),
    ),
    Script("reply-first-of-two", _WATCH + in_phase("request_headers", f"{_REPLY}\nreturn 1"), others=[_WATCH]),
    Script("reply-second-of-two", _WATCH, others=[_WATCH + in_phase("request_headers", f"{_REPLY}\nreturn 1")]),
    Script(
        "reply-second-of-two-to-response", _WATCH, others=[_WATCH + in_phase("response_headers", f"{_REPLY}\nreturn 1")]
    ),
    Script(
        "reply-first-of-two-to-response", _WATCH + in_phase("response_headers", f"{_REPLY}\nreturn 1"), others=[_WATCH]
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
    # Verdicts of the headers callbacks; what waits is resumed by a tick.
    *(
        Script(
            f"{way}-headers-verdict-{verdict}{'-allowed' if allow else ''}",
            in_phase(f"{way}_headers", f"return {verdict}\nset_tick_period_milliseconds 300")
            + in_phase(f"{way}_body@1", f"get_buffer_bytes {side} 0 100")
            + in_phase(
                "tick@1",
                f'log 2 "tick"\nset_tick_period_milliseconds 0\nset_effective_context %stream\ncontinue_stream {side}',
            ),
            allow_on_headers_stop_iteration=allow,
        )
        for side, way in enumerate(("request", "response"))
        for verdict, allow in (
            (0, False),
            (1, False),
            (2, False),
            (3, False),
            (4, False),
            (5, False),
            (99, False),
            (-1, False),
            (1, True),
            (3, True),
            (5, True),
        )
    ),
    *(
        Script(
            f"trailers-verdict-{verdict}",
            'request_end@1: add_header_map_value 1 "x-t" "1"\n',
            others=[
                in_phase("request_trailers", f"args\nreturn {verdict}\nset_tick_period_milliseconds 300")
                + in_phase("tick@1", "set_tick_period_milliseconds 0\nset_effective_context %stream\ncontinue_stream 0")
            ],
            requests=[Request("POST", "/?body=response", body=(b"request", b"body"))],
        )
        for verdict in (0, 1, 2, 99)
    ),
    *(
        Script(
            f"continue-{stream_type}-in-{phase}",
            in_phase(f"{phase}@1", f"continue_stream {stream_type}")
            + "response_headers@2: args\nrequest_body@1: get_buffer_bytes 0 0 100\ndone: args\n",
            crashes_envoy=stream_type == 1 and phase in ("stream_create", "request_headers", "request_body"),
        )
        for phase in (
            "stream_create",
            "request_headers",
            "request_body",
            "response_headers",
            "response_body",
            "log",
            "done",
            "delete",
        )
        for stream_type in (0, 1)
    ),
    Script(
        "continue-in-paused-headers",
        in_phase("request_headers", "continue_stream 0\nreturn 1")
        + in_phase("request_body@1", "get_buffer_bytes 0 0 100"),
    ),
    Script(
        "continue-in-paused-body",
        in_phase("request_body@1", "continue_stream 0\nreturn 1"),
        [Request("POST", "/", body=b"request")],
    ),
    Script(
        "continue-twice",
        in_phase("request_headers", "set_tick_period_milliseconds 20\nreturn 1")
        + in_phase(
            "tick@1",
            "set_tick_period_milliseconds 0\nset_effective_context %stream\ncontinue_stream 0\ncontinue_stream 0",
        ),
    ),
    Script(
        "continue-other-direction",
        in_phase("request_headers", "set_tick_period_milliseconds 20\nreturn 1")
        + in_phase("tick", "set_effective_context %stream\ncontinue_stream 1")
        + in_phase("tick@3", "set_tick_period_milliseconds 0\ncontinue_stream 0"),
        crashes_envoy=True,
    ),
    Script(
        "continue-response",
        in_phase("response_headers", "set_tick_period_milliseconds 20\nreturn 1")
        + in_phase(
            "tick@1",
            'set_tick_period_milliseconds 0\nset_effective_context %stream\nget_header_map_value 2 ":status"\nadd_header_map_value 2 "x-tick" "1"\ncontinue_stream 1',
        ),
    ),
    Script(
        "continue-from-root",
        in_phase(
            "configure",
            "continue_stream 0\ncontinue_stream 1\ncontinue_stream 2\ncontinue_stream 3\nclose_stream 0\nclose_stream 1\nclose_stream 2\nclose_stream 3",
        ),
    ),
    *(
        Script(
            f"close-{stream_type}-in-{phase}",
            in_phase(f"{phase}@1", f"close_stream {stream_type}\nreturn {int(stream_type < 2)}")
            + 'log: get_header_map_value 2 ":status"\ndone: args\ndelete: args\n',
            [Request("POST", "/?body=response&chunks=2&delay=0.2", body=(b"request", b"body"), patience=_SHORT)],
        )
        for phase in ("request_headers", "request_end", "response_headers", "response_end")
        for stream_type in (0, 1, 2, 3)
    ),
    Script("close-in-log", in_phase("log", "close_stream 0\nclose_stream 1"), crashes_envoy=True),
    Script("close-then-reply", in_phase("request_headers", f"close_stream 0\n{_REPLY}\nreturn 1"), [_PAUSED]),
    Script("reply-then-close", in_phase("request_headers", f"{_REPLY}\nclose_stream 0\nreturn 1"), [_PAUSED]),
    *(
        Script(
            f"trap-in-{phase}",
            in_phase(phase, "trap")
            + 'response_headers: get_header_map_value 2 ":status"\nlog: args\ndone: args\ndelete: args\n',
            failure_policy=policy,
        )
        for phase, policy in (
            ("request_headers", "fail_closed"),
            ("request_end", "fail_closed"),
            ("response_end", "fail_closed"),
            ("log", "fail_closed"),
            ("stream_create", "fail_closed"),
        )
    ),
    Script("trap-then-next", in_phase("request_headers@1", "trap"), [POST, POST]),
    *(
        Script(
            f"open-trap-in-{phase}",
            in_phase(phase, "trap") + 'response_headers: get_header_map_value 2 ":status"\nlog: args\n',
            [POST, POST],
            failure_policy="fail_open",
        )
        for phase in ("request_headers", "request_end", "response_headers", "response_end")
    ),
]
