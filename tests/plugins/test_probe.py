"""What the probe's scripts settled, without Envoy: its lines as Envoy had them (`tests/conformance/test_probe.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm import PluginStartError
from asgi_wasm.testing import Exchange, WasmHost
from tests.conformance.probe.script import in_phase, pairs
from tests.plugins.conftest import PLUGINS, Make

_REPLY = 'send_local_response 418 "my  details" "body" "" -1'
_OTHER = 'send_local_response 403 "other" "other" "" -1'


async def probe(
    plugin: Make, text: str, *, early: str = "", abi: str = "0_2_1", **asked: Any
) -> tuple[list[str], Exchange]:
    """The lines of one request through one probe, from its start to its end, and what the client got."""
    made = plugin(f"probe/abi_{abi}", text, env={"PROBE": early} if early else {})
    # The kit plays it, and no script calls it.
    made.upstream("up")
    made.app.respond(body=[b"response"])
    exchange = await made.post(body=b"request", **asked)
    await made.stop()
    return [line.text for line in made.logs if not line.by_host], exchange


def results(lines: list[str]) -> list[str]:
    """What stands after the equals signs."""
    return [line.rpartition(" = ")[2] for line in lines if " = " in line]


@pytest.mark.parametrize(
    ("phase", "commands", "expected"),
    [
        (
            "request_headers",
            'get_header_map_value 0 "host"\nget_header_map_value 0 "x-none"',
            ['0 -> "example.test"', "1"],
        ),
        (
            "request_headers",
            'add_header_map_value 0 "accept" "a"\nadd_header_map_value 0 "Accept" "b"\nget_header_map_value 0 "accept"',
            ["0", "0", '0 -> "a,b"'],
        ),
        (
            "request_headers",
            'add_header_map_value 0 ":other" "1"\nadd_header_map_value 0 ":other" "2"\nget_header_map_value 0 ":other"',
            ["0", "0", '0 -> "1"'],
        ),
        (
            "request_headers",
            'replace_header_map_value 0 "host" "h"\nget_header_map_value 0 ":authority"',
            ["0", '0 -> "h"'],
        ),
        ("log", 'get_header_map_value 1 "x"\nget_header_map_value 9 "x"\nget_header_map_size 0', ["1", "2", "2"]),
        ("request_end", "get_header_map_size 1\nget_header_map_size 3", ["0 -> 0", "2"]),
        (
            "request_headers",
            'get_buffer_bytes 5 0 9\nget_buffer_bytes 4 0 9\nset_buffer_bytes 8 0 0 "x"',
            ['0 -> ""', "1", "2"],
        ),
        ("request_headers", 'define_metric 9 0xfffffff0 4\ncall_foreign_function "none" 0xfffffff0 4', ["6", "6"]),
        ("request_headers", f'http_call "none" {pairs((b":method", b"GET"))} "" "" 9', ["2 -> 0"]),
        (
            "request_headers",
            'set_effective_context %root\nget_header_map_value 0 ":method"\nset_effective_context 0\n'
            'get_header_map_value 0 ":method"\nset_effective_context 99',
            ["0", "2", "0", '0 -> "POST"', "2"],
        ),
        ("request_headers", 'continue_stream 1\nget_header_map_value 0 ":method"', ["0", "2"]),
        ("request_headers", "close_stream 2\nclose_stream 3\nclose_stream 4", ["0", "0", "2"]),
        ("request_headers", "fd_renumber 1 2\nfd_renumber 1 9\nfd_readdir 1 0 0 0", ["58", "8", "20 -> 0"]),
        ("request_headers", "random_get 0xfffffff0 0\nrandom_get 0xfffffff0 4", ["0", "21"]),
        (
            "request_headers",
            'get_property "request"\nget_property ""\nget_property "metadata"\nget_property "request\\x00size"\n'
            'get_property "request\\x00headers\\x00host"\nget_property "request\\x00headers\\x00x-none"',
            ["3", "3", '0 -> ""', '0 -> "\\x07\\x00\\x00\\x00\\x00\\x00\\x00\\x00"', '0 -> "example.test"', "1"],
        ),
        (
            "response_headers",
            'get_property "request\\x00method"\nget_property "request\\x00headers"\nget_property "response\\x00size"\n'
            'get_property "response\\x00grpc_status"\nreplace_header_map_value 2 ":status" "201"\n'
            'get_property "response\\x00code"',
            [
                "1",
                '0 -> "\\x00\\x00\\x00\\x00"',
                '0 -> "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00"',
                '0 -> "\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00"',
                "0",
                '0 -> "\\xc8\\x00\\x00\\x00\\x00\\x00\\x00\\x00"',
            ],
        ),
        (
            "request_headers",
            'set_property "a\\x00b" "1"\nget_property "a\\x00b"\nset_property "c" "2"\nget_property "c"\n'
            'get_property "filter_state\\x00wasm.c"\nget_property "filter_state\\x00c"',
            ["0", "1", "0", '0 -> "2"', '0 -> "2"', "1"],
        ),
    ],
)
async def test_answers(plugin: Make, phase: str, commands: str, expected: list[str]) -> None:
    lines, response = await probe(plugin, in_phase(f"{phase}@1", commands))
    assert results(lines) == expected
    assert not response.was_reset


async def test_a_map_that_is_not_there_in_the_log_of_0_1_0(plugin: Make) -> None:
    lines, _ = await probe(plugin, in_phase("log", 'get_header_map_value 1 "x"'), abi="0_1_0")
    assert results(lines) == ['0 -> ""']


async def test_pairs_with_more_behind_them_are_none(plugin: Make) -> None:
    good = pairs((b":status", b"201"))
    commands = f'set_header_map_pairs 2 {good[:-1]}more"\nget_header_map_size 2\nset_header_map_pairs 2 {good}'
    lines, response = await probe(plugin, in_phase("response_headers", commands))
    assert results(lines) == ["0", "0 -> 0", "0"]
    assert response.status == 201


async def test_the_configuration_is_not_there_in_vm_start(plugin: Make) -> None:
    early = "".join(in_phase(phase, "get_buffer_bytes 7 0 4") for phase in ("root_create", "vm_start", "configure"))
    lines, _ = await probe(plugin, "conf", early=early)
    assert results(lines) == ['0 -> "conf"', "1", '0 -> "conf"']


async def test_the_first_of_two_replies_counts(plugin: Make) -> None:
    watch = in_phase("log", 'get_property "response\\x00code_details"\nget_property "response\\x00size"')
    lines, response = await probe(plugin, in_phase("request_headers", f"{_REPLY}\n{_OTHER}\nreturn 1") + watch)
    assert (response.status, response.body) == (418, b"body")
    assert results(lines)[2:] == ['0 -> "my_details"', '0 -> "\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00"']


async def test_a_reply_to_ones_own_reply_replaces_it(plugin: Make) -> None:
    text = in_phase("request_headers", f"{_REPLY}\nreturn 1") + in_phase("response_headers", f"{_OTHER}\nreturn 1")
    _, response = await probe(plugin, text)
    assert (response.status, response.body) == (403, b"other")


@pytest.mark.parametrize(("content_type", "status"), [(b"application/grpc", 200), (b"application/grpc-web", 403)])
async def test_a_reply_to_grpc(plugin: Make, content_type: bytes, status: int) -> None:
    text = in_phase("request_headers", f'send_local_response 403 "" "" {pairs((b":status", b"418"))} -1\nreturn 1')
    _, response = await probe(plugin, text, headers=[(b"content-type", content_type)])
    assert response.status == status


async def test_a_held_body_can_be_changed_later(plugin: Make) -> None:
    text = (
        in_phase("request_end", "return 1\nset_tick_period_milliseconds 10")
        + in_phase("tick@1", "set_tick_period_milliseconds 0\nset_effective_context %stream\nget_buffer_bytes 0 0 99")
        + in_phase("tick@1", 'set_buffer_bytes 0 0 7 "changed"\ncontinue_stream 0')
    )
    made = plugin("probe/abi_0_2_1", text)
    request = made.begin("POST", body=b"request")
    await made.advance(0.01)
    exchange = await request
    assert results([line.text for line in made.logs if not line.by_host])[2:] == ["0", '0 -> "request"', "0", "0"]
    assert exchange.app is not None and exchange.app.body == b"changed"


async def test_all_log_before_any_is_done_also_those_that_were_not_reached(
    wasm_host: Callable[..., WasmHost],
) -> None:
    watch = "".join(in_phase(phase, "args") for phase in ("stream_create", "log", "done", "delete"))
    texts = [watch + in_phase("request_headers", f"{_REPLY}\nreturn 1"), watch]
    plugins = [
        {"name": f"probe-{number}", "file": PLUGINS / "probe" / "abi_0_2_1.wasm", "conf": text, "priority": -number}
        for number, text in enumerate(texts)
    ]

    exchange = await wasm_host({"plugins": plugins}).get()
    assert [line.text for line in exchange.logs if "args" in line.text] == [
        "stream_create: args = 3 1",
        "log: args = 3",
        "stream_create: args = 4 2",
        "log: args = 4",
        "done: args = 3",
        "delete: args = 3",
        "done: args = 4",
        "delete: args = 4",
    ]


async def test_hostcalls_that_no_starting_module_may_make(plugin: Make) -> None:
    made = plugin("probe/abi_0_2_1", env={"PROBE": "initialize: get_current_time_nanoseconds $3\n"})
    with pytest.raises(PluginStartError, match="restricted_callback"):
        await made.start()
