"""Properties: every attribute of Envoy's that can be the same here, and what plugins set."""

from __future__ import annotations

from collections.abc import Iterable

from tests.conformance.probe.script import Request, Script, in_phase
from tests.conformance.probe.scripts.attributes import ODD, SAME, THERE

_TARGET = "/path%20x/y?q=1&body=seven77&chunks=1"
_REQUEST = Request(
    "POST",
    _TARGET,
    [
        ("referer", "http://r/"),
        ("user-agent", "probe"),
        ("x-request-id", "id-1"),
        ("x-two", "1"),
        ("x-two", "2"),
        ("x-one", "3"),
        ("host", "h.test"),
    ],
    b"request",
)


def _path(dotted: str) -> str:
    return dotted.replace(".", "\\x00")


def _reads(phase: str, same: Iterable[str] = (*SAME, *ODD), there: Iterable[str] = THERE) -> str:
    lines = [f'get_property "{_path(path)}"' for path in same]
    lines += [f'get_property "{_path(path)}" $2 $3' for path in there]
    return in_phase(phase, "\n".join(lines))


SCRIPTS = [
    *(
        Script(f"property-in-{phase.replace('@1', '')}", _reads(phase), [_REQUEST])
        for phase in (
            "stream_create",
            "request_headers",
            "request_end@1",
            "response_headers",
            "response_end@1",
            "log",
            "done",
        )
    ),
    Script("property-in-root_create", "", early=_reads("root_create")),
    Script("property-in-configure", _reads("configure")),
    Script(
        "property-in-tick",
        "configure: set_tick_period_milliseconds 20\n" + _reads("tick@1") + "tick@1: set_tick_period_milliseconds 0\n",
    ),
    Script(
        "property-of-get",
        _reads(
            "request_headers",
            ("request.size", "request.query", "request.referer", "request.useragent", "request.id"),
            (),
        )
        + _reads("log", ("request.size", "response.size", "response.code"), ()),
        [Request("GET", "/")],
    ),
    Script(
        "property-of-local-response",
        in_phase("request_headers", 'send_local_response 418 "my details" "body" "" -1\nreturn 1')
        + _reads(
            "log",
            ("response.code", "response.code_details", "response.flags", "response.size", "request.size"),
            ("response.headers",),
        ),
    ),
    Script(
        "property-grpc-status",
        _reads("log", ("response.grpc_status",), ()),
        [Request("GET", "/?header=grpc-status:7&header=content-type:application/grpc")],
    ),
    Script(
        "property-trailing-nul",
        in_phase(
            "request_headers",
            """
            get_property "request\\x00method\\x00"
            get_property "plugin_name\\x00"
            get_property "\\x00request\\x00method"
            get_property "request\\x00\\x00method"
            get_property "request\\x00method\\x00\\x00"
            get_property "request.method"
            """,
        ),
    ),
    Script(
        "property-set",
        in_phase(
            "request_headers",
            """
            set_property "user" "me"
            get_property "user"
            get_property "user\\x00"
            get_property "wasm.user"
            get_property "wasm\\x00user"
            get_property "filter_state\\x00wasm.user"
            get_property "filter_state\\x00user"
            set_property "user" "you"
            get_property "user"
            set_property "a\\x00b" "two parts"
            get_property "a\\x00b"
            get_property "a"
            get_property "a.b"
            set_property "c.d" "dotted"
            get_property "c.d"
            get_property "c\\x00d"
            set_property "end\\x00" "nul"
            get_property "end"
            get_property "end\\x00"
            set_property "" "nothing"
            get_property ""
            set_property "empty" ""
            get_property "empty"
            set_property "bytes" "\\x00\\xff"
            get_property "bytes"
            set_property "request\\x00method" "PUT"
            get_property "request\\x00method"
            set_property "plugin_name" "other"
            get_property "plugin_name"
            set_property "wasm.x" "prefixed"
            get_property "wasm.x"
            get_property "x"
            """,
        )
        + in_phase("response_headers", 'get_property "user"\nset_property "late" "1"')
        + in_phase("log", 'get_property "late"\nset_property "log" "1"\nget_property "log"'),
        others=[
            in_phase("request_headers", 'get_property "user"\nget_property "bytes"\nset_property "user" "second"')
            + in_phase("log", 'get_property "user"')
        ],
    ),
    Script(
        "property-set-in-create",
        in_phase("stream_create", 'set_property "made" "1"\nget_property "made"')
        + in_phase("request_headers", 'get_property "made"'),
    ),
    Script(
        "property-of-changed-headers",
        in_phase(
            "request_headers",
            """
            replace_header_map_value 0 ":path" "/new?a=b"
            get_property "request\\x00path"
            get_property "request\\x00url_path"
            get_property "request\\x00query"
            add_header_map_value 0 "x-added" "1"
            get_property "request\\x00headers\\x00x-added"
            replace_header_map_value 0 ":method" "PUT"
            get_property "request\\x00method"
            """,
        )
        + in_phase(
            "response_headers",
            'get_property "request\\x00headers\\x00x-added"\nreplace_header_map_value 2 ":status" "201"\nget_property "response\\x00code"',
        )
        + in_phase("log", 'get_property "request\\x00path"\nget_property "response\\x00code"'),
        [_REQUEST],
    ),
    Script(
        "property-bad-memory",
        in_phase(
            "request_headers",
            """
            get_property 0xfffffff0 4
            get_property "request\\x00method" 0xfffffff0 $1
            get_property "request\\x00method" $0 0xfffffff0
            get_property "none" 0xfffffff0 0xfffffff0
            set_property 0xfffffff0 4 "v"
            set_property "k" 0xfffffff0 4
            refuse 1
            get_property "request\\x00method"
            """,
        ),
    ),
]
