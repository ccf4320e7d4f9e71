"""Contexts: their ids, the effective one, several roots in one VM, the end."""

from __future__ import annotations

from tests.conformance.probe.script import POST, Request, Script, in_phase

SCRIPTS = [
    Script(
        "context-ids",
        in_phase("configure", "args")
        + "".join(in_phase(phase, "args") for phase in ("stream_create", "log", "done", "delete")),
        [POST, POST],
        early="root_create: args\nvm_start: args\n",
        others=[in_phase("configure", "args") + in_phase("stream_create", "args")],
    ),
    Script(
        "context-effective-root",
        in_phase(
            "request_headers",
            """
            set_effective_context %root
            get_header_map_value 0 ":method"
            get_property "request\\x00method"
            set_property "k" "v"
            get_property "plugin_name"
            continue_stream 0
            close_stream 0
            set_effective_context %self
            get_header_map_value 0 ":method"
            set_effective_context 0
            get_header_map_value 0 ":method"
            set_effective_context 99
            get_header_map_value 0 ":method"
            set_effective_context -1
            """,
        )
        + in_phase(
            "request_body@1",
            'get_buffer_bytes 0 0 100\nset_effective_context %root\nget_buffer_bytes 0 0 100\nset_buffer_bytes 0 0 0 "x"',
        )
        + in_phase("log", 'set_effective_context %root\nget_header_map_value 0 ":method"'),
    ),
    Script(
        "context-reply-through-root",
        in_phase("request_headers", 'set_effective_context %root\nsend_local_response 418 "d" "b" "" -1'),
        [Request("POST", "/?body=response", body=b"request", patience=5.0)],
    ),
    Script(
        "context-effective-other-stream",
        in_phase("request_headers@1", "keep a 0\nset_tick_period_milliseconds 20\nreturn 1")
        + in_phase(
            "tick@1",
            """
            set_tick_period_milliseconds 0
            set_effective_context %stream
            get_header_map_value 0 ":method"
            add_header_map_value 0 "x-tick" "1"
            get_property "request\\x00method"
            set_property "tick" "1"
            get_property "tick"
            continue_stream 0
            get_header_map_value 0 ":method"
            """,
        )
        + in_phase("response_headers", 'get_property "tick"'),
    ),
    Script(
        "context-effective-dead",
        in_phase("request_headers@1", "set_effective_context %self")
        + in_phase("request_headers@2", 'set_effective_context 2\nget_header_map_value 0 ":method"')
        + in_phase("delete@1", "set_effective_context %self\nset_effective_context %root")
        + in_phase("done@1", "set_effective_context %self"),
        [POST, POST],
    ),
    Script(
        "context-effective-before-create",
        in_phase("stream_create", "set_effective_context %self\nset_effective_context %root\nset_effective_context 3"),
    ),
    Script(
        "context-second-root",
        in_phase(
            "request_headers",
            'set_effective_context 2\nget_property "plugin_name"\nset_effective_context 1\nget_property "plugin_name"\nset_effective_context %self\nget_property "plugin_name"',
        )
        + in_phase("tick", 'log 2 "tick of the first"'),
        others=[
            in_phase(
                "request_headers",
                'get_property "plugin_name"\nset_effective_context 1\nlog 2 "as the first"\nset_tick_period_milliseconds 0',
            )
        ],
    ),
    Script("context-done-later", in_phase("done", "return 0") + in_phase("delete", "args\ndone")),
    Script(
        "context-done-anywhere",
        "".join(
            in_phase(phase, "done")
            for phase in ("configure", "stream_create", "request_headers", "log", "done", "delete")
        ),
        early=in_phase("vm_start", "done"),
    ),
    Script(
        "context-status",
        "".join(in_phase(phase, "get_status") for phase in ("configure", "request_headers", "log", "delete")),
    ),
    Script(
        "context-vm_start-false",
        in_phase("configure", "args"),
        early=in_phase("vm_start", "args\nreturn 0"),
        starts=False,
    ),
    Script("context-configure-false", in_phase("configure", "args\nreturn 0"), starts=False),
    Script("context-configure-99", in_phase("configure", "return 99") + in_phase("request_headers", 'log 2 "served"')),
    Script("context-vm_start-trap", "", early=in_phase("vm_start", "trap"), starts=False),
]
