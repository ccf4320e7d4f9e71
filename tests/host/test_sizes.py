"""What a guest passes to a hostcall is no larger than its limit: else it is not read, for that may take long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from asgi_wasm.engines.null import NullMemory
from asgi_wasm.host.abi import AbiVersion, MapType, ProxyStatus
from asgi_wasm.host.signatures import Signature, hostcalls
from asgi_wasm.limits import PluginLimits
from tests.host.fed import Exchange
from tests.host.guest import (
    BAD_ARGUMENT,
    INTERNAL_FAILURE,
    INVALID_MEMORY_ACCESS,
    NOT_FOUND,
    OK,
    OUTSIDE,
    Calls,
    in_phase,
    plugin,
)
from tests.host.limited import CALL, acts, counting

REQUEST = MapType.HTTP_REQUEST_HEADERS
MOST = 1024 * 1024
BOUNDED = (
    *("header_bytes", "property_bytes", "name_bytes", "value_bytes", "foreign_bytes", "body_bytes"),
    *("callback_call_bytes", "local_reply_bytes", "metric_bytes", "log_line_bytes"),
)
ROWS = [
    (row, index)
    for row in hostcalls(AbiVersion.V0_2_1)
    for index, (name, _) in enumerate(row.params)
    if name.endswith("_size") and not name.startswith(("return_", "max_"))
]


def passed(row: Signature, large: int, size: int, address: int) -> list[int]:
    """Arguments of which one range is large, all others are small and inside."""
    small = {"data": 64, "size": 1, "return": 8, "token": 4}
    numbers = [small.get(name.partition("_")[0], small.get(name.rpartition("_")[2], 0)) for name, _ in row.params]
    numbers[large - 1 : large + 1] = [address, size]
    return numbers


@pytest.mark.parametrize("phase", ["proxy_on_request_headers", "proxy_on_request_body", "proxy_on_tick"])
@pytest.mark.parametrize(("row", "index"), ROWS, ids=lambda value: getattr(value, "name", value))
def test_no_hostcall_reads_what_is_too_large(
    row: Signature, index: int, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its ranges it is. One outside of memory is told as such."""
    read, sizes = NullMemory.read, [0]

    def recorded(memory: NullMemory, address: int, size: int) -> bytes:
        sizes.append(size)
        return read(memory, address, size)

    monkeypatch.setattr(NullMemory, "read", recorded)

    def act(calls: Calls) -> Any:
        address, size = calls.host.store(bytes(4 * MOST))
        inside = calls.raw(row.name, *passed(row, index, size, address))
        return inside, calls.raw(row.name, *passed(row, index, size, OUTSIDE - 4))

    world, _, _ = counting()
    world.foreign = {"": lambda data: data}
    world.ports = replace(world.ports, can_call_grpc=lambda _: True)
    limits = PluginLimits(**dict.fromkeys(BOUNDED, MOST))
    inside, outside = in_phase(phase, act, world=world, limits=limits)
    assert max(sizes) <= MOST
    assert outside == INVALID_MEMORY_ACCESS
    # A log line is cut; too many pairs are none, and those of a map that is not there change nothing.
    assert row.name == "proxy_log" or inside != OK or row.params[index][0] in ("headers_size", "pairs_size")


@pytest.mark.parametrize(("size", "known"), [(9, True), (10, True), (11, False)])
def test_names(size: int, known: bool) -> None:
    """What is looked up by a longer name is unknown; what would be kept by one is refused."""
    name = b"n" * size

    def act(calls: Calls) -> Any:
        kept = [
            calls("proxy_set_shared_data", name, b"1", 0)[0],
            calls("proxy_register_shared_queue", name)[0],
            calls("proxy_define_metric", 0, name)[0],
            calls("proxy_set_property", name, b"1")[0],
            calls("proxy_add_header_map_value", REQUEST, name, b"1")[0],
            calls("proxy_http_call", name, CALL, b"", b"", 1000)[0],
            calls("proxy_call_foreign_function", name, b"")[0],
        ]
        looked_up = [
            calls("proxy_get_shared_data", name)[0],
            calls("proxy_resolve_shared_queue", b"", name)[0],
            calls("proxy_resolve_shared_queue", name, b"")[0],
            calls("proxy_get_property", name)[0],
            calls("proxy_get_header_map_value", REQUEST, name)[0],
        ]
        return kept, looked_up

    world, metrics, _ = counting()
    world.foreign = {name.decode(): lambda _: b""}
    world.ports = replace(world.ports, upstreams=frozenset({name.decode()}))
    kept, looked_up = in_phase("proxy_on_request_headers", act, world=world, limits=PluginLimits(name_bytes=10))
    assert kept == ([OK] * 7 if known else [INTERNAL_FAILURE] * 5 + [BAD_ARGUMENT, NOT_FOUND])
    assert looked_up == ([OK, OK, NOT_FOUND, OK, OK] if known else [NOT_FOUND] * 5)
    assert metrics.reached == [] if known else {limit for _, limit in metrics.reached} == {"name_bytes"}


@pytest.mark.parametrize(("size", "status"), [(9, OK), (10, OK), (11, INTERNAL_FAILURE)])
def test_values_that_are_stored(size: int, status: ProxyStatus) -> None:
    def act(calls: Calls) -> Any:
        token = calls("proxy_register_shared_queue", b"q")[1]
        return [
            calls("proxy_set_shared_data", b"k", bytes(size), 0)[0],
            calls("proxy_enqueue_shared_queue", token, bytes(size))[0],
        ]

    answers, reached, _ = acts("proxy_on_tick", act, value_bytes=10)
    assert answers == [status] * 2
    assert reached == ([] if status is OK else ["value_bytes"] * 2)


@pytest.mark.parametrize(("size", "status"), [(9, OK), (10, OK), (11, INTERNAL_FAILURE)])
def test_what_a_foreign_function_is_given(size: int, status: ProxyStatus) -> None:
    world, metrics, _ = counting()
    given: list[bytes] = []
    world.foreign = {"f": given.append}

    def act(calls: Calls) -> Any:
        return calls("proxy_call_foreign_function", b"f", bytes(size))[0]

    assert in_phase("proxy_on_tick", act, world=world, limits=PluginLimits(foreign_bytes=10)) == status
    assert given == ([bytes(size)] if status is OK else [])
    assert metrics.reached == ([] if status is OK else [("guest", "foreign_bytes")])


# The buffer has eight bytes; (start, size of what is replaced, size of what is put there).
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((0, 0, 1), OK),
        ((0, 0, 2), OK),
        ((0, 0, 3), INTERNAL_FAILURE),
        ((99, 0, 2), OK),
        ((99, 0, 3), INTERNAL_FAILURE),
        ((0, 99, 9), OK),
        ((0, 99, 10), OK),
        ((0, 99, 11), INTERNAL_FAILURE),
        ((0, 4, 6), OK),
        ((0, 4, 7), INTERNAL_FAILURE),
    ],
)
@pytest.mark.parametrize("phase", ["proxy_on_request_body", "proxy_on_response_body"])
def test_bytes_of_a_body(phase: str, change: tuple[int, int, int], status: ProxyStatus) -> None:
    start, size, count = change
    kind = int(phase == "proxy_on_response_body")

    def act(calls: Calls) -> Any:
        calls("proxy_set_buffer_bytes", kind, 0, 0xFFFF_FFFF, b"12345678")
        return calls("proxy_set_buffer_bytes", kind, start, size, bytes(count))[0]

    answer, reached, _ = acts(phase, act, body_bytes=10)
    assert answer == status
    assert reached == ([] if status is OK else ["body_bytes"])


def test_a_body_that_came_larger_may_be_cut() -> None:
    def act(calls: Calls) -> Any:
        return [
            calls("proxy_set_buffer_bytes", 0, 0, 8, b"12345678")[0],
            calls("proxy_set_buffer_bytes", 0, 0, 0, b"1")[0],
            calls("proxy_set_buffer_bytes", 0, 0, 8, b"1")[0],
            calls("proxy_set_buffer_bytes", 0, 0, 0, b"1")[0],
        ]

    answers, reached, _ = acts("proxy_on_request_body", act, body_bytes=3)
    assert answers == [OK, INTERNAL_FAILURE, OK, OK]
    assert reached == ["body_bytes"]


@pytest.mark.parametrize(("most", "left"), [(2, 2), (3, 3), (4, 3)])
@pytest.mark.parametrize(
    "act",
    [
        lambda calls: calls("proxy_continue_stream", 0),
        lambda calls: calls("proxy_close_stream", 0),
        lambda calls: calls("proxy_set_tick_period_milliseconds", 100),
        lambda calls: calls("proxy_send_local_response", 403, b"", b"", b"", 0xFFFF_FFFF),
        lambda calls: calls("proxy_http_call", b"known", CALL, b"", b"", 1000),
    ],
    ids=["resume", "reset", "tick period", "local response", "call"],
)
def test_what_one_callback_leaves_to_be_done(act: Callable[[Calls], Any], most: int, left: int) -> None:
    def three(calls: Calls) -> Any:
        return [act(calls)[0] for _ in range(3)]

    answers, reached, _ = acts("proxy_on_request_headers", three, callback_effects=most)
    assert answers == [OK] * left + [INTERNAL_FAILURE] * (3 - left)
    assert reached == ["callback_effects"] * (3 - left)


def test_each_callback_leaves_its_own() -> None:
    world, metrics, _ = counting()

    def answer(calls: Calls, *_: int) -> int:
        assert calls("proxy_continue_stream", 0) == (OK,)
        assert calls("proxy_send_local_response", 403, b"", b"1234", b"", 0xFFFF_FFFF) == (OK,)
        return 0

    limits = PluginLimits(callback_effects=2, callback_call_bytes=4)
    made = plugin(world, {"proxy_on_request_headers": answer}, limits=limits)
    for _ in range(2):
        Exchange(world, made).request()
    assert metrics.reached == []


@pytest.mark.parametrize(("most", "left"), [(19, 1), (20, 2), (21, 2)])
def test_bytes_of_local_responses(most: int, left: int) -> None:
    """Only one of them is sent, but all are kept until the callback is over."""

    def act(calls: Calls) -> Any:
        return [calls("proxy_send_local_response", 403, b"1", b"123456789", b"", 0xFFFF_FFFF)[0] for _ in range(2)]

    answers, reached, _ = acts("proxy_on_request_headers", act, callback_call_bytes=most)
    assert answers == [OK] * left + [INTERNAL_FAILURE] * (2 - left)
    assert reached == ["callback_call_bytes"] * (2 - left)


@pytest.mark.parametrize("name", ["fd_close", "fd_seek", "proc_exit"])
def test_lines_of_the_host_that_a_guest_can_repeat(name: str) -> None:
    """They count among the plugin's own."""
    world, metrics, _ = counting()
    arguments = {"fd_close": (1,), "fd_seek": (1, 0, 0, 8), "proc_exit": (1,)}[name]

    def act(calls: Calls) -> None:
        for _ in range(5):
            calls.wasi(name, *arguments)

    in_phase("proxy_on_tick", act, world=world, limits=PluginLimits(log_lines_per_second=2))
    lines = [sentence for _, _, sentence in world.log.hosts]
    assert [line for line in lines if "called" in line] == [lines[0]] * 2
    assert len(lines) == 3
    assert metrics.reached == [("guest", "log_lines_per_second")] * 3
