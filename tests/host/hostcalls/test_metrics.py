from __future__ import annotations

from typing import Any

import pytest

from tests.host.guest import BAD_ARGUMENT, INVALID_MEMORY_ACCESS, NOT_FOUND, OK, OUTSIDE, Calls, in_phase
from tests.host.world import World

COUNTER, GAUGE, HISTOGRAM = range(3)


def run(act: Any, world: World | None = None) -> Any:
    return in_phase("proxy_on_configure", act, world=world)


def test_ids_are_envoys() -> None:
    def act(calls: Calls) -> Any:
        kinds = (COUNTER, GAUGE, HISTOGRAM, COUNTER, COUNTER, GAUGE)
        return [calls("proxy_define_metric", kind, b"same") for kind in kinds]

    # Each definition has its own id, also of a name that is defined already.
    assert run(act) == [(OK, 4), (OK, 5), (OK, 6), (OK, 8), (OK, 12), (OK, 9)]


@pytest.mark.parametrize("kind", [3, 4, 0xFFFF_FFFF])
def test_an_unknown_type(kind: int) -> None:
    assert run(lambda calls: calls("proxy_define_metric", kind, b"m")) == (BAD_ARGUMENT,)


def test_a_counter() -> None:
    def act(calls: Calls) -> Any:
        metric = calls("proxy_define_metric", COUNTER, b"c")[1]
        return [
            calls("proxy_get_metric", metric),
            calls("proxy_increment_metric", metric, 3),
            calls("proxy_increment_metric", metric, 0),
            calls("proxy_increment_metric", metric, -1),
            calls("proxy_record_metric", metric, 1 << 40),
            calls("proxy_get_metric", metric),
        ]

    bad = (BAD_ARGUMENT,)
    assert run(act) == [(OK, 0), (OK,), bad, bad, (OK,), (OK, (1 << 40) + 3)]


def test_a_gauge() -> None:
    def act(calls: Calls) -> Any:
        metric = calls("proxy_define_metric", GAUGE, b"g")[1]
        return [
            calls("proxy_increment_metric", metric, 5),
            calls("proxy_increment_metric", metric, -2),
            calls("proxy_increment_metric", metric, 0),
            calls("proxy_get_metric", metric),
            calls("proxy_increment_metric", metric, -4),
            calls("proxy_get_metric", metric),
            calls("proxy_record_metric", metric, 0xFFFF_FFFF_FFFF_FFFF),
            calls("proxy_get_metric", metric),
        ]

    top = 0xFFFF_FFFF_FFFF_FFFF
    assert run(act) == [(OK,), (OK,), (OK,), (OK, 3), (OK,), (OK, top), (OK,), (OK, top)]


def test_a_histogram() -> None:
    def act(calls: Calls) -> Any:
        metric = calls("proxy_define_metric", HISTOGRAM, b"h")[1]
        return [
            calls("proxy_record_metric", metric, 7),
            calls("proxy_record_metric", metric, 1),
            calls("proxy_increment_metric", metric, 1),
            calls("proxy_get_metric", metric),
        ]

    world = World()
    assert run(act, world) == [(OK,), (OK,), (BAD_ARGUMENT,), (BAD_ARGUMENT,)]
    assert world.metrics.histograms["guest", "h"] == (2, 8)


@pytest.mark.parametrize(
    ("metric", "record", "increment"),
    [
        (4, NOT_FOUND, NOT_FOUND),
        (5, NOT_FOUND, NOT_FOUND),
        (6, NOT_FOUND, BAD_ARGUMENT),
        (7, NOT_FOUND, BAD_ARGUMENT),
        (0, NOT_FOUND, NOT_FOUND),
    ],
)
def test_an_unknown_id(metric: int, record: int, increment: int) -> None:
    def act(calls: Calls) -> Any:
        return [
            calls("proxy_record_metric", metric, 1),
            calls("proxy_increment_metric", metric, 1),
            calls("proxy_get_metric", metric),
        ]

    assert run(act) == [(record,), (increment,), (increment,)]


def test_two_ids_of_one_name_are_one_metric() -> None:
    def act(calls: Calls) -> Any:
        first, second = (calls("proxy_define_metric", COUNTER, b"c")[1] for _ in range(2))
        calls("proxy_increment_metric", first, 1)
        return calls("proxy_get_metric", second)

    assert run(act) == (OK, 1)


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        name, size = calls.host.store(b"m")
        calls("proxy_define_metric", COUNTER, b"c")
        return [
            calls.raw("proxy_define_metric", COUNTER, OUTSIDE, 1, name),
            calls.raw("proxy_define_metric", COUNTER, name, size, OUTSIDE),
            calls.raw("proxy_get_metric", 4, OUTSIDE),
        ]

    assert run(act) == [INVALID_MEMORY_ACCESS] * 3
