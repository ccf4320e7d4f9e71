"""Header maps: names and values that no header should have, and what only the host may say."""

from __future__ import annotations

from tests.conformance.probe.script import Script, in_phase

_SPACED = '"x y"'


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


SCRIPTS = [
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
]
