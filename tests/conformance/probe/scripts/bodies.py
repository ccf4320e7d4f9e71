"""Buffers: what is read from where, what may be changed, and how a body goes on after each verdict."""

from __future__ import annotations

from tests.conformance.probe.script import Request, Script, in_phase

# Envoy leaves it as it is, and then the message is broken: see "body-length-lies".
_NO_LENGTH = {
    way: f'{way}_headers: remove_header_map_value {map_type} "content-length"\n'
    for way, map_type in (("request", 0), ("response", 2))
}
_SIZES = (0, 1, 6, 7, 8, 0x7FFFFFFF, 0xFFFFFFFF)


def _reads(phase: str, buffer_type: int) -> str:
    lines = [f"get_buffer_bytes {buffer_type} {start} {size}" for start in _SIZES for size in _SIZES]
    return in_phase(phase, "\n".join([*lines, f"get_buffer_status {buffer_type}"]))


def _writes(phase: str, buffer_type: int, start: int, size: int, value: str) -> str:
    way = ("request", "response")[buffer_type]
    return _NO_LENGTH[way] + in_phase(
        phase,
        f"set_buffer_bytes {buffer_type} {start} {size} {value}\nget_buffer_bytes {buffer_type} 0 100\n"
        f"get_buffer_status {buffer_type}",
    )


_WRITES = [
    (0, 0, '"<>"'),
    (0, 7, '"<>"'),
    (0, 0xFFFFFFFF, '"<>"'),
    (0, 3, '"<>"'),
    (0, 3, '""'),
    (0, 8, '""'),
    (0, 0, '""'),
    (3, 0, '"<>"'),
    (3, 2, '"<>"'),
    (6, 1, '"<>"'),
    (7, 0, '"<>"'),
    (7, 3, '"<>"'),
    (8, 0, '"<>"'),
    (0x7FFFFFFF, 0, '"<>"'),
    (0xFFFFFFFF, 0xFFFFFFFF, '"<>"'),
]
_CHUNKS = Request("POST", "/?size=0", body=(b"one", b"two", b"three"))
_STREAMED = Request("GET", "/?body=onetwosix&chunks=3&delay=0.5")

SCRIPTS = [
    Script("body-read-request", _reads("request_body@1", 0)),
    Script("body-read-response", _reads("response_body@1", 1), [Request("GET", "/?body=7 bytes")]),
    *(
        Script(f"body-write-{start:x}-{size:x}-{len(value) - 2}", _writes("request_body@1", 0, start, size, value))
        for start, size, value in _WRITES
    ),
    Script(
        "body-write-response", _writes("response_body@1", 1, 0, 0, '"<>"'), [Request("GET", "/?body=7 bytes&chunks=1")]
    ),
    Script("body-write-twice", _writes("request_body@1", 0, 0, 0, '"<"') + _writes("request_body@1", 0, 99, 0, '">"')),
    Script("body-write-at-end", _writes("request_end@1", 0, 99, 0, '">"'), [_CHUNKS]),
    # Envoy shows whatever buffer was looked at last.
    Script(
        "body-call-data",
        in_phase("request_headers", "get_buffer_bytes 6 0 9\nget_buffer_bytes 8 0 9\nget_buffer_status 8"),
    ),
    Script("body-length-lies", in_phase("request_body@1", 'set_buffer_bytes 0 99 0 "more"')),
    Script(
        "body-write-elsewhere",
        "".join(
            in_phase(
                phase, f'set_buffer_bytes {buffer} 0 0 "x"\nget_buffer_bytes {buffer} 0 9\nget_buffer_status {buffer}'
            )
            for phase in ("request_headers", "request_body@1", "response_headers", "response_body@1", "log")
            for buffer in (0, 1, 2, 3, 4, 5, 6, 7)
            if (phase, buffer) not in (("request_body@1", 0), ("response_body@1", 1))
        ),
    ),
    Script(
        "body-bad-memory",
        in_phase(
            "request_body@1",
            """
            get_buffer_bytes 0 0 7 0xfffffff0 $1
            get_buffer_bytes 0 0 7 $0 0xfffffff0
            get_buffer_bytes 0 0 0 0xfffffff0 0xfffffff0
            get_buffer_bytes 9 0 7 0xfffffff0 $1
            get_buffer_bytes 4 0 7 0xfffffff0 $1
            get_buffer_status 0 0xfffffff0 $1
            get_buffer_status 0 $0 0xfffffff0
            get_buffer_status 4 0xfffffff0 $1
            set_buffer_bytes 0 0 0 0xfffffff0 4
            set_buffer_bytes 0 3 0 0xfffffff0 4
            set_buffer_bytes 7 0 0 0xfffffff0 4
            set_buffer_bytes 9 0 0 0xfffffff0 4
            refuse 1
            get_buffer_bytes 0 0 7
            refuse 1 0xfffffff0
            get_buffer_bytes 0 0 7
            """,
        ),
    ),
    Script(
        "body-configurations",
        in_phase("configure", "get_buffer_bytes 6 0 100\nget_buffer_bytes 7 0 5\nget_buffer_status 7")
        + in_phase("request_headers", "get_buffer_bytes 6 0 100\nget_buffer_bytes 7 0 5"),
        early="".join(
            in_phase(
                phase, "get_buffer_bytes 6 0 100\nget_buffer_bytes 6 3 2\nget_buffer_bytes 7 0 5\nget_buffer_status 6"
            )
            for phase in ("root_create", "vm_start")
        ),
    ),
    Script(
        "body-empty-vm-conf",
        "",
        early=in_phase("vm_start", "args\nget_buffer_bytes 6 0 100\nget_buffer_status 6"),
        vm_conf="",
    ),
    *(
        Script(
            f"body-verdict-{verdict}",
            in_phase("request_body", f"args\nget_buffer_bytes 0 0 100\nreturn {verdict}")
            + in_phase("request_end@1", "return 0"),
            [Request("POST", "/", body=(b"one", b"two", b"three"))],
        )
        for verdict in (0, 1, 2, 3, 4, 99, -1)
    ),
    *(
        Script(
            f"body-response-verdict-{verdict}",
            in_phase("response_body", f"get_buffer_bytes 1 0 100\nreturn {verdict}")
            + in_phase("response_end@1", "return 0"),
            [_STREAMED],
        )
        for verdict in (0, 1, 2, 3, 4)
    ),
    Script(
        "body-changed-while-buffered",
        in_phase("request_body", 'set_buffer_bytes 0 0 0 "<"\nget_buffer_bytes 0 0 100\nreturn 1')
        + in_phase("request_end@1", "return 0"),
        [_CHUNKS],
    ),
    Script(
        "body-end-keeps-paused",
        _NO_LENGTH["request"]
        + in_phase("request_body", "return 1")
        + in_phase("request_end@1", "set_tick_period_milliseconds 30")
        + in_phase(
            "tick@1",
            "set_tick_period_milliseconds 0\nget_buffer_bytes 0 0 100\nset_effective_context %stream\nget_buffer_bytes 0 0 100\n"
            'set_buffer_bytes 0 0 0 "x"\ncontinue_stream 0',
        ),
    ),
    Script(
        "body-empty-chunked",
        in_phase("request_headers", "args")
        + in_phase("request_end", "args\nget_buffer_bytes 0 0 9\nget_buffer_status 0"),
        [Request("POST", "/", headers=[("transfer-encoding", "chunked")], body=(b"",))],
    ),
]
