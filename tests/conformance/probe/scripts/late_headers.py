"""Header maps when it is late, in bodies and in the log; trailers that a plugin makes; memory that is none."""

from __future__ import annotations

from tests.conformance.probe.script import Script, in_phase, pairs

SCRIPTS = [
    Script(
        "late-headers",
        in_phase("request_body@1", 'get_header_map_value 0 ":method"\nadd_header_map_value 0 "x-late" "1"')
        + in_phase("response_headers", 'get_header_map_value 0 ":method"\nadd_header_map_value 0 "x-late" "1"')
        + in_phase("response_body@1", 'get_header_map_value 2 ":status"\nadd_header_map_value 2 "x-late" "1"'),
    ),
    Script(
        "late-headers-paused",
        in_phase("request_headers", "return 1")
        + in_phase("request_body", "return 1")
        + in_phase("request_end@1", 'get_header_map_value 0 ":method"\nadd_header_map_value 0 "x-late" "1"\nreturn 0')
        + in_phase("response_headers", "return 1")
        + in_phase("response_body", "return 1")
        + in_phase("response_end@1", 'get_header_map_value 2 ":status"\nadd_header_map_value 2 "x-late" "2"\nreturn 0'),
        allow_on_headers_stop_iteration=True,
    ),
    Script(
        "maps-in-log",
        in_phase("request_headers", 'add_header_map_value 0 "x-q" "1"')
        + in_phase("response_headers", 'add_header_map_value 2 "x-s" "1"')
        + in_phase(
            "log",
            """
            get_header_map_value 0 "x-q"
            get_header_map_value 2 "x-s"
            get_header_map_value 1 "x-q"
            get_header_map_value 3 "x-s"
            add_header_map_value 2 "x-late" "1"
            get_header_map_value 2 "x-late"
            set_header_map_pairs 2 ""
            remove_header_map_value 2 "x-s"
            get_header_map_value 2 "x-s"
            """,
        ),
    ),
    Script(
        "made-trailers",
        in_phase(
            "request_end@1",
            'get_header_map_value 1 "x-t"\nget_header_map_size 1\nadd_header_map_value 1 "X-T" "1"\nget_header_map_value 1 "x-t"\nget_header_map_pairs 1',
        )
        + in_phase(
            "response_end@1", 'get_header_map_pairs 3\nreplace_header_map_value 3 "x-t" "1"\nget_header_map_pairs 3'
        ),
    ),
    Script(
        "made-trailers-by-set",
        in_phase("request_end@1", f"set_header_map_pairs 1 {pairs((b'x-t', b'1'))}\nget_header_map_pairs 1")
        + in_phase("response_end@1", 'remove_header_map_value 3 "x-t"\nget_header_map_pairs 3\nget_header_map_size 3'),
    ),
    Script(
        "seen-trailers",
        in_phase("request_end@1", 'add_header_map_value 1 "x-t" "1"')
        + in_phase(
            "response_trailers", 'args\nget_header_map_pairs 3\nset_header_map_pairs 3 ""\nget_header_map_pairs 3'
        ),
        others=[
            in_phase(
                "request_trailers",
                'args\nget_header_map_pairs 1\nremove_header_map_value 1 "x-t"\nget_header_map_pairs 1',
            )
            + in_phase("response_end@1", 'add_header_map_value 3 "x-u" "1"')
        ],
    ),
    Script(
        "header-bad-memory",
        in_phase(
            "request_headers",
            """
            get_header_map_value 0 0xfffffff0 4
            get_header_map_value 0 0x7fffffff 4
            get_header_map_value 0 0 0xffffffff
            get_header_map_value 0 0 0
            get_header_map_value 0 ":method" 0xfffffff0 $1
            get_header_map_value 0 ":method" $0 0xfffffff0
            get_header_map_value 0 ":method" 0 $1
            get_header_map_value 9 0xfffffff0 4
            get_header_map_value 2 0xfffffff0 4
            get_header_map_value 2 ":method" 0xfffffff0 0xfffffff0
            get_header_map_size 0 0xfffffff0
            get_header_map_size 9 0xfffffff0
            get_header_map_pairs 0 0xfffffff0 $1
            get_header_map_pairs 2 0xfffffff0 $1
            add_header_map_value 0 0xfffffff0 4 "v"
            add_header_map_value 0 "x-n" 0xfffffff0 4
            add_header_map_value 9 "x-n" 0xfffffff0 4
            add_header_map_value 2 "x-n" 0xfffffff0 4
            replace_header_map_value 0 "x-n" 0xfffffff0 4
            remove_header_map_value 0 0xfffffff0 4
            remove_header_map_value 9 0xfffffff0 4
            set_header_map_pairs 0 0xfffffff0 4
            set_header_map_pairs 9 0xfffffff0 4
            refuse 1
            get_header_map_value 0 ":method"
            refuse 1 0xfffffff0
            get_header_map_value 0 ":method"
            refuse 1
            get_header_map_pairs 0
            """,
        ),
    ),
]
