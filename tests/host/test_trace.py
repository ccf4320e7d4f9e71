from __future__ import annotations

import logging

import pytest

from asgi_wasm.engines.base import FuncType, Import
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.trace import Trace
from asgi_wasm.services.log import StandardLog
from tests.host.guest import (
    OUTSIDE,
    V010,
    Calls,
    Exchange,
    RecordingLog,
    World,
    env_imports,
    plugin,
    start,
    vm_of,
)


def traced() -> tuple[World, list[str]]:
    lines: list[str] = []
    return World(log=RecordingLog(lines=lines)), lines


def test_callbacks_and_hostcalls_with_their_arguments_by_name() -> None:
    world, lines = traced()

    def configure(calls: Calls, *_: int) -> int:
        calls.raw("proxy_get_property", *calls.host.store(b"plugin_name"), 64, 68)
        calls.raw("proxy_log", LogLevel.WARN, OUTSIDE, 1)
        calls.raw("proxy_get_buffer_status", 77, 64, 68)
        return 1

    start(world, {"proxy_on_configure": configure}, name="named")
    assert lines == [
        "==> named proxy_on_configure(root_context_id=1, plugin_configuration_size=4)",
        "  --> proxy_get_property(path_data=16, path_size=11, return_value_data=64, return_value_size=68)",
        "    ==> named malloc(size=5)",
        "    <== named malloc = 32",
        "  <-- proxy_get_property = OK",
        f"  --> proxy_log(level=WARN, message_data={OUTSIDE}, message_size=1)",
        "  <-- proxy_log = INVALID_MEMORY_ACCESS",
        "  --> proxy_get_buffer_status(buffer_type=77, return_size=64, return_flags=68)",
        "  <-- proxy_get_buffer_status = BAD_ARGUMENT",
        "<== named proxy_on_configure = 1",
    ]


def test_start_wasi_emscripten_and_what_has_no_result() -> None:
    world, lines = traced()

    def initialize(calls: Calls) -> None:
        calls.wasi("clock_time_get", 7, 1 << 40, 64)
        calls.wasi("proc_exit", 1)
        calls.raw("emscripten_notify_memory_growth", 0)

    vm_of(plugin(world, {"_initialize": initialize}))
    assert lines == [
        "==> guest _initialize()",
        f"  --> clock_time_get(clock_id=7, precision={1 << 40}, return_time=64)",
        "  <-- clock_time_get = 58",
        "  --> proc_exit(code=1)",
        "  <-- proc_exit",
        "  --> emscripten_notify_memory_growth(memory_index=0)",
        "  <-- emscripten_notify_memory_growth",
        "<== guest _initialize",
    ]


def test_a_trap_and_what_comes_after_it() -> None:
    world, lines = traced()

    def headers(calls: Calls, *_: int) -> int:
        raise RuntimeError("on purpose")

    given = {"proxy_on_request_headers": headers, "proxy_on_response_headers": lambda *_: 0}
    Exchange(world, plugin(world, given, version=V010)).request()
    assert lines == [
        "==> guest proxy_on_request_headers(context_id=2, num_headers=7)",
        "<== guest proxy_on_request_headers failed: guest trap: RuntimeError: on purpose",
    ]


def test_the_depth_is_right_after_a_hostcall_that_traps() -> None:
    world, lines = traced()

    def initialize(calls: Calls) -> None:
        calls.raw("proxy_done")

    made = plugin(world, {"_initialize": initialize})
    with pytest.raises(Exception, match="restricted_callback"):
        made.root(b"")
    assert lines[:2] == ["==> guest _initialize()", "  --> proxy_done()"]
    assert lines[2].startswith("  <-- proxy_done failed: restricted_callback")
    assert lines[3].startswith("<== guest _initialize failed: ")


def test_unknown_imports_and_short_grpc_types_have_numbers_only() -> None:
    world, lines = traced()
    short = Import("env", "proxy_grpc_stream", "func", FuncType(("i32",) * 7, ("i32",)))
    unknown = Import("env", "vendor_call", "func", FuncType(("i32",), ("i32",)))

    def configure(calls: Calls, *_: int) -> int:
        calls.raw("vendor_call", 9)
        calls.raw("proxy_grpc_stream", *range(7))
        return 1

    start(world, {"proxy_on_configure": configure}, imports=[short, unknown])
    assert lines[1:5] == [
        "  --> vendor_call(9)",
        "  <-- vendor_call = 12",
        "  --> proxy_grpc_stream(0, 1, 2, 3, 4, 5, 6)",
        "  <-- proxy_grpc_stream = PARSE_FAILURE",
    ]


def test_it_costs_nothing_when_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("wrapped")

    monkeypatch.setattr(Trace, "callback", never)
    monkeypatch.setattr(Trace, "hostcall", never)
    world = World()
    vm = vm_of(plugin(world, {"proxy_on_log": lambda *_: None}, imports=env_imports(V010)))
    assert vm.trace is None
    world, _ = traced()
    with pytest.raises(AssertionError):
        vm_of(plugin(world, {"proxy_on_log": lambda *_: None}, imports=[]))


@pytest.mark.parametrize(("level", "on"), [(logging.NOTSET + 1, True), (5, True), (logging.DEBUG, False)])
def test_the_logger(caplog: pytest.LogCaptureFixture, level: int, on: bool) -> None:
    with caplog.at_level(level, logger="asgi_wasm.trace"):
        write = StandardLog().trace()
        assert (write is not None) is on
        if write is not None:
            write("a %s line")
            assert caplog.record_tuples == [("asgi_wasm.trace", 5, "a %s line")]
