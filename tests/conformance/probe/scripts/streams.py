"""Pausing, resuming, resetting, failing: in every phase, in every order."""

from __future__ import annotations

from tests.conformance.probe.script import POST, Request, Script, in_phase
from tests.conformance.probe.scripts.replies import REPLY

_SHORT = 6.0
_PAUSED = Request("POST", "/", body=b"request", patience=_SHORT)

SCRIPTS = [
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
            [Request("POST", "/?body=response&chunks=2&delay=0.5", body=(b"request", b"body"), patience=_SHORT)],
        )
        for phase in ("request_headers", "request_end", "response_headers", "response_end")
        for stream_type in (0, 1, 2, 3)
    ),
    Script("close-in-log", in_phase("log", "close_stream 0\nclose_stream 1"), crashes_envoy=True),
    Script("close-then-reply", in_phase("request_headers", f"close_stream 0\n{REPLY}\nreturn 1"), [_PAUSED]),
    Script("reply-then-close", in_phase("request_headers", f"{REPLY}\nclose_stream 0\nreturn 1"), [_PAUSED]),
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
