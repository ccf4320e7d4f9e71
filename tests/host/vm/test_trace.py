from __future__ import annotations

import logging

import pytest

from asgi_wasm.engines.base import FuncType, Import
from asgi_wasm.host.abi import BufferType, LogLevel
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.vm.trace import Call
from asgi_wasm.host.vm.tracing import Trace
from asgi_wasm.services.log import StandardLog
from tests.host.fed import Exchange
from tests.host.guest import OUTSIDE, V010, Calls, env_imports, plugin, start, vm_of
from tests.host.world import NANOSECONDS, RecordingLog, World


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
        sink = StandardLog().trace()
        assert (sink is not None) is on
        if sink is not None:
            sink.begin(Call("%s", is_callback=False, plugin="p", context=1, stream=None, depth=0, arguments=()))
            assert caplog.record_tuples == [("asgi_wasm.trace", 5, "--> %s()")]


class Kept:
    """A sink that keeps every call, with what lies in memory."""

    reads_memory = True

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def begin(self, call: Call) -> None:
        self.calls.append(call)

    def end(self, call: Call) -> None:
        call.ended = 1


def test_what_the_addresses_lead_to() -> None:
    kept = Kept()
    world = World(log=RecordingLog(sink=kept))
    pairs = [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")]

    def configure(calls: Calls, *_: int) -> int:
        store = calls.host.store
        calls.raw("proxy_set_shared_data", *store(b"key"), *store(b"value"), 0)
        calls.raw("proxy_get_shared_data", *store(b"key"), 64, 68, 72)
        calls.raw("proxy_get_shared_data", *store(b"none"), 64, 68, 72)
        calls.raw("proxy_http_call", *store(b"known"), *store(encode_pairs(pairs)), *store(b"body"), 0, 0, 9, 64)
        calls.raw("proxy_get_current_time_nanoseconds", 64)
        calls.raw("proxy_get_buffer_bytes", BufferType.PLUGIN_CONFIGURATION, 0, 9, 64, 68)
        calls.raw("proxy_get_buffer_status", BufferType.PLUGIN_CONFIGURATION, 64, 68)
        calls.raw("proxy_log", LogLevel.WARN, OUTSIDE, 1)
        return 1

    start(world, {"proxy_on_configure": configure}, conf=b"conf")
    hostcalls = [call for call in kept.calls if not call.is_callback]
    assert [(call.given, call.returned, call.answer) for call in hostcalls] == [
        ({"key": b"key", "value": b"value"}, {}, "OK"),
        ({"key": b"key"}, {"value": b"value", "cas": 1}, "OK"),
        ({"key": b"none"}, {}, "NOT_FOUND"),
        ({"upstream": b"known", "headers": pairs, "body": b"body", "trailers": []}, {"token": 4}, "OK"),
        ({}, {"time": NANOSECONDS}, "OK"),
        ({}, {"data": b"conf"}, "OK"),
        ({}, {"size": 4, "flags": 0}, "OK"),
        ({"message": b""}, {}, "INVALID_MEMORY_ACCESS"),
    ]
    assert {call.context for call in hostcalls} == {1}
    assert all(call.ended for call in kept.calls)
