"""Header maps: reading, changing, setting whole, pairs that are none."""

from __future__ import annotations

from tests.conformance.probe.script import Request, Script, in_phase, pairs

# A known map to work on: what the hosts and the app put there differs.
_KNOWN = pairs((b":status", b"200"), (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"))
_DUPLICATES = (("x-two", "1"), ("x-one", "2"), ("x-two", "3"))


def _response(commands: str) -> str:
    return in_phase("response_headers", f"set_header_map_pairs 2 {_KNOWN}\n{commands}\nget_header_map_pairs 2")


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
]
