"""Header maps: reading, changing, odd names and values, pairs that are none."""

from __future__ import annotations

from tests.conformance.probe.script import Request, Script, in_phase, pairs

# A known map to work on: what the hosts and the app put there differs.
_KNOWN = pairs((b":status", b"200"), (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"))
_DUPLICATES = (("x-two", "1"), ("x-one", "2"), ("x-two", "3"))


def _response(commands: str) -> str:
    return in_phase("response_headers", f"set_header_map_pairs 2 {_KNOWN}\n{commands}\nget_header_map_pairs 2")


def _odd(direction: str, map_type: int) -> str:
    """Names and values that no header should have."""
    names = ('"x-e"', '""', '"X-Upper"', '"x y"', '"x\\x00y"', '"x:y"', '"x\\xe9"', '"x\\x0ay"', '"x-\\x01"')
    values = ('"v"', '""', '"a\\x0d\\x0ab"', '"a\\x00b"', '"\\xe9\\xff"', '"  v  "', '"a\\x01b"', '"\\x7f"', '"\\x09"')
    lines = []
    for number, name in enumerate(names):
        lines += [f'add_header_map_value {map_type} {name} "n{number}"', f"get_header_map_value {map_type} {name}"]
    for number, value in enumerate(values):
        lines += [
            f'replace_header_map_value {map_type} "x-v{number}" {value}',
            f'get_header_map_value {map_type} "x-v{number}"',
        ]
    return in_phase(direction, "\n".join(lines))


def _each_odd(direction: str, map_type: int, prefix: str) -> list[Script]:
    """One a script, since one of them may end the stream."""
    odd = {
        "empty-name": '"" "v"',
        "upper-name": '"X-Upper" "v"',
        "space-in-name": '"x y" "v"',
        "nul-in-name": '"x\\x00y" "v"',
        "colon-in-name": '"x:y" "v"',
        "latin-1-name": '"x\\xe9" "v"',
        "newline-in-name": '"x\\x0ay" "v"',
        "empty-value": '"x-v" ""',
        "newline-in-value": '"x-v" "a\\x0d\\x0ax-w: b"',
        "nul-in-value": '"x-v" "a\\x00b"',
        "latin-1-value": '"x-v" "\\xe9\\xff"',
        "spaces-around-value": '"x-v" "  v  "',
        "control-in-value": '"x-v" "a\\x01b"',
    }
    return [
        Script(
            f"{prefix}-{name}",
            in_phase(
                direction,
                f"add_header_map_value {map_type} {pair}\n"
                f"get_header_map_value {map_type} {pair.split(' ')[0] if name != 'space-in-name' else _SPACED}",
            ),
        )
        for name, pair in odd.items()
    ]


_SPACED = '"x y"'

SCRIPTS = [
    Script(
        "header-get",
        in_phase(
            "request_headers",
            """
            get_header_map_value 0 "x-two"
            get_header_map_value 0 "X-TWO"
            get_header_map_value 0 "x-none"
            get_header_map_value 0 ""
            get_header_map_value 0 ":method"
            get_header_map_value 0 ":path"
            get_header_map_value 0 ":scheme"
            get_header_map_value 0 ":authority" $2 $3
            get_header_map_value 0 "host"
            get_header_map_value 0 ":status"
            get_header_map_value 0 "x-empty"
            """,
        ),
        [Request("POST", "/a%20b?c=d", [*_DUPLICATES, ("x-empty", "")], b"request")],
    ),
    Script(
        "header-add-replace-remove",
        in_phase(
            "request_headers",
            """
            add_header_map_value 0 "x-two" "4"
            get_header_map_value 0 "x-two"
            add_header_map_value 0 "X-New" "New"
            get_header_map_value 0 "x-new"
            replace_header_map_value 0 "x-one" "5"
            replace_header_map_value 0 "x-made" "6"
            remove_header_map_value 0 "x-none"
            remove_header_map_value 0 ""
            """,
        ),
        [Request("POST", "/", _DUPLICATES, b"request")],
    ),
    Script(
        "header-replace-duplicates",
        in_phase("request_headers", 'replace_header_map_value 0 "x-two" "5"\nget_header_map_value 0 "x-two"'),
        [Request("POST", "/", _DUPLICATES, b"request")],
    ),
    Script(
        "header-remove-duplicates",
        in_phase("request_headers", 'remove_header_map_value 0 "X-Two"\nget_header_map_value 0 "x-two"'),
        [Request("POST", "/", _DUPLICATES, b"request")],
    ),
    Script("pairs-known", _response("get_header_map_size 2")),
    Script("pairs-add", _response('add_header_map_value 2 "x-a" "4"\nget_header_map_size 2')),
    Script("pairs-replace", _response('replace_header_map_value 2 "x-a" "4"\nget_header_map_value 2 "x-a"')),
    Script("pairs-replace-first", _response('replace_header_map_value 2 "x-b" "4"')),
    Script("pairs-remove", _response('remove_header_map_value 2 "x-a"')),
    Script("pairs-add-upper", _response('add_header_map_value 2 "X-C" "4"')),
    Script(
        "pairs-add-known-twice", _response('add_header_map_value 2 "server" "a"\nadd_header_map_value 2 "server" "b"')
    ),
    Script(
        "pairs-set-known-twice",
        in_phase(
            "response_headers",
            f"set_header_map_pairs 2 {pairs((b':status', b'200'), (b'server', b'a'), (b'Server', b'b'), (b'via', b'c'))}"
            "\nget_header_map_pairs 2",
        ),
    ),
    Script(
        "pairs-add-cookies",
        _response('add_header_map_value 2 "set-cookie" "a"\nadd_header_map_value 2 "set-cookie" "b"'),
    ),
    Script("pairs-add-pseudo", _response('add_header_map_value 2 ":status" "201"')),
    Script("pairs-replace-pseudo", _response('replace_header_map_value 2 ":status" "201"')),
    Script("pairs-other-pseudo", _response('add_header_map_value 2 ":other" "1"\nadd_header_map_value 2 ":other" "2"')),
    Script("pairs-request-pseudo", _response('replace_header_map_value 2 ":path" "/x"')),
    Script("pairs-bad-status", _response('replace_header_map_value 2 ":status" "abc"')),
    Script("pairs-remove-status", _response('remove_header_map_value 2 ":status"')),
    Script("pairs-status-999", _response('replace_header_map_value 2 ":status" "999"')),
    Script("pairs-status-100", _response('replace_header_map_value 2 ":status" "100"')),
    Script("pairs-status-20", _response('replace_header_map_value 2 ":status" "20"')),
    Script("pairs-host-in-response", _response('add_header_map_value 2 "host" "h"')),
    Script(
        "pairs-set-odd",
        in_phase(
            "response_headers",
            f"""
            set_header_map_pairs 2 {pairs((b"x-a", b"1"), (b":status", b"201"), (b"", b"e"), (b"X-B", b""), (b"x-a", b"2"))}
            get_header_map_pairs 2
            """,
        ),
    ),
    Script(
        "pairs-set-1024",
        in_phase(
            "response_headers",
            f"""
            set_header_map_pairs 2 {pairs((b":status", b"200"), *[(b"x", b"y")] * 1023)}
            get_header_map_size 2
            set_header_map_pairs 2 {pairs((b":status", b"200"))}
            """,
        ),
    ),
    Script(
        "pairs-set-1025",
        in_phase(
            "response_headers",
            f"""
            set_header_map_pairs 2 {pairs((b":status", b"200"), *[(b"x", b"y")] * 1024)}
            get_header_map_size 2
            set_header_map_pairs 2 {pairs((b":status", b"200"))}
            """,
        ),
    ),
    *(
        Script(
            f"pairs-malformed-{name}",
            in_phase(
                "response_headers",
                f"""
                set_header_map_pairs 2 {_KNOWN}
                set_header_map_pairs 2 {text}
                get_header_map_size 2
                get_header_map_pairs 2
                set_header_map_pairs 2 {pairs((b":status", b"200"))}
                """,
            ),
        )
        for name, text in {
            "empty": '""',
            "one-byte": '"\\x00"',
            "three-bytes": '"\\x00\\x00\\x00"',
            "count-only": '"\\x00\\x00\\x00\\x00"',
            "count-too-large": '"\\x02\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x00a\\x00b\\x00"',
            "size-too-large": '"\\x01\\x00\\x00\\x00\\x09\\x00\\x00\\x00\\x01\\x00\\x00\\x00a\\x00b\\x00"',
            "no-last-nul": '"\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x00a\\x00b"',
            "no-nul-between": '"\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x00aXb\\x00"',
            "more-behind": '"\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x01\\x00\\x00\\x00a\\x00b\\x00more"',
            "over-1-mib": '"\\x00\\x00\\x00\\x00"*262145',
        }.items()
    ),
    *_each_odd("request_headers", 0, "request-odd"),
    *_each_odd("response_headers", 2, "response-odd"),
    *(
        Script(f"request-pseudo-{name}", in_phase("request_headers", commands))
        for name, commands in {
            "add-path": 'add_header_map_value 0 ":path" "/added"\nget_header_map_value 0 ":path"',
            "replace-path": 'replace_header_map_value 0 ":path" "/new?q=1"\nget_header_map_value 0 ":path"',
            "replace-method": 'replace_header_map_value 0 ":method" "PUT"\nget_header_map_value 0 ":method"',
            "lower-method": 'replace_header_map_value 0 ":method" "put"\nget_header_map_value 0 ":method"',
            "remove-path": 'remove_header_map_value 0 ":path"\nget_header_map_value 0 ":path"',
            "remove-method": 'remove_header_map_value 0 ":method"\nget_header_map_value 0 ":method"',
            "remove-authority": 'remove_header_map_value 0 ":authority"\nget_header_map_value 0 ":authority"',
            "remove-scheme": 'remove_header_map_value 0 ":scheme"\nget_header_map_value 0 ":scheme"',
            "empty-path": 'replace_header_map_value 0 ":path" ""\nget_header_map_value 0 ":path"',
            "other": 'add_header_map_value 0 ":other" "1"\nget_header_map_value 0 ":other"',
            "host": 'add_header_map_value 0 "host" "h"\nget_header_map_value 0 "host"\nget_header_map_value 0 ":authority" $2 $3',
            "replace-host": 'replace_header_map_value 0 "host" "h"\nget_header_map_value 0 "host"\nget_header_map_value 0 ":authority"',
        }.items()
    ),
    *(
        Script(f"request-framing-{name}", in_phase("request_headers", command))
        for name, command in {
            "chunked": 'add_header_map_value 0 "transfer-encoding" "chunked"',
            "length-too-short": 'replace_header_map_value 0 "content-length" "3"',
            "length-too-long": 'replace_header_map_value 0 "content-length" "9999"',
            "length-odd": 'replace_header_map_value 0 "content-length" "x"',
        }.items()
    ),
    *(
        Script(
            f"request-authority-{name}",
            in_phase("request_headers", f'replace_header_map_value 0 ":authority" "{text}"'),
        )
        for name, text in {
            "empty": "",
            "space": "h st",
            "newline": "h\\x0ax",
            "nul": "h\\x00",
            "control": "h\\x01",
            "latin-1": "\\xe9",
            "path": "h/p",
            "user": "user@h",
        }.items()
    ),
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
