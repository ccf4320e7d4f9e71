"""What differs between the versions of the ABI."""

from __future__ import annotations

from tests.conformance.probe.script import Script, in_phase

_MISSING = in_phase("request_headers", 'get_header_map_value 0 "x-none"\nget_header_map_value 0 ""')
_MISSING += in_phase(
    "response_headers",
    'get_header_map_value 2 "x-none"\nget_header_map_value 0 "x-none"\nget_header_map_value 3 "x-none"',
)
_MISSING += in_phase(
    "log", 'get_header_map_value 0 "x-none"\nget_header_map_value 2 "x-none"\nget_header_map_value 3 "x-none"'
)

SCRIPTS = [
    *(Script(f"missing-header-{abi}", _MISSING, abi=abi) for abi in ("0_1_0", "0_2_0", "0_2_1")),
    Script(
        "configuration-0_1_0",
        in_phase("vm_start", "get_configuration")
        + in_phase("configure", "get_buffer_bytes 7 0 9\nget_buffer_bytes 6 0 9")
        + in_phase("request_headers", "get_configuration\nget_configuration 0xfffffff0 $1")
        + in_phase("log", "get_configuration"),
        abi="0_1_0",
        early="root_create: get_configuration\n",
    ),
    Script(
        "continue-0_1_0",
        in_phase("request_headers", "clear_route_cache\nset_tick_period_milliseconds 20\nreturn 1")
        + in_phase(
            "tick@1",
            "set_tick_period_milliseconds 0\ncontinue_request\ncontinue_response\nset_effective_context %stream\ncontinue_request",
        )
        + in_phase("response_headers", "return 1\nset_tick_period_milliseconds 20")
        + in_phase(
            "tick@2",
            "set_tick_period_milliseconds 0\nset_effective_context %stream\ncontinue_response\nclear_route_cache",
        ),
        abi="0_1_0",
    ),
]
