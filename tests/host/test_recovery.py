"""When a plugin that failed is started again, by each policy; and what each phase's failure means for requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asgi_wasm.errors import PluginAwayError
from asgi_wasm.host.host_metrics import NoHostMetrics
from asgi_wasm.host.ports import Ports
from asgi_wasm.host.recovery import Recovery
from asgi_wasm.specs import FailurePolicy, PluginSpec
from tests.host.world import World

SECOND = 1_000_000_000
FAIL_CLOSED, FAIL_OPEN, FAIL_RELOAD = FailurePolicy.FAIL_CLOSED, FailurePolicy.FAIL_OPEN, FailurePolicy.FAIL_RELOAD


class Clock:
    def __init__(self) -> None:
        self.now = SECOND

    def monotonic(self) -> int:
        return self.now

    def realtime(self) -> int:
        return self.now


class Away(NoHostMetrics):
    def __init__(self) -> None:
        self.heard: list[bool] = []

    def plugin_away(self, plugin: str, away: bool) -> None:
        self.heard.append(away)


class Case:
    """One plugin's recovery; ``chance`` is what the jitter is made from."""

    def __init__(self, policy: FailurePolicy, interval: float = 1.0, chance: int = 0) -> None:
        self.world, self.clock, self.metrics = World(), Clock(), Away()
        ports: Ports = replace(
            self.world.ports,
            clock=self.clock,
            host_metrics=self.metrics,
            random=lambda size: chance.to_bytes(size, "big"),
        )
        spec = PluginSpec("p", Path("p.wasm"), failure_policy=policy, reload_interval=interval)
        self.recovery = Recovery(spec, ports)
        self.recovery.starts()

    def waits(self, refused: float | None = None) -> float:
        """Seconds from a failure now until a start is allowed, found by trying.

        A store refused it something so many seconds before.
        """
        begun = self.clock.now
        self.recovery.failed("it trapped", 0 if refused is None else int(begun - refused * SECOND))
        while True:
            try:
                self.recovery.check()
            except PluginAwayError:
                self.clock.now += SECOND // 10
                continue
            self.recovery.starts()
            return (self.clock.now - begun) / SECOND

    def lives(self, seconds: float) -> None:
        self.clock.now += int(seconds * SECOND)


@pytest.mark.parametrize("policy", [FAIL_CLOSED, FAIL_OPEN])
def test_what_goes_on_failing_is_started_less_and_less(policy: FailurePolicy) -> None:
    case = Case(policy)
    assert [case.waits() for _ in range(11)] == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("policy", [FAIL_CLOSED, FAIL_OPEN])
def test_what_fails_over_a_store_is_started_as_often_as_the_store_is_tried(policy: FailurePolicy) -> None:
    case = Case(policy)
    case.lives(10)
    assert [case.waits(refused=0.5) for _ in range(9)] == [0, 0, 0, 1, 2, 4, 5, 5, 5]
    # Once, and again when something else is the reason.
    assert len(case.world.log.hosts) == 1
    assert case.waits(refused=5) == 60
    assert len(case.world.log.hosts) == 2


@pytest.mark.parametrize("policy", [FAIL_CLOSED, FAIL_OPEN])
def test_a_long_life_is_a_new_beginning(policy: FailurePolicy) -> None:
    case = Case(policy)
    assert [case.waits() for _ in range(5)] == [0, 0, 0, 1, 2]
    case.lives(61)
    assert [case.waits() for _ in range(4)] == [0, 0, 0, 1]


def test_fail_reload_is_envoys() -> None:
    """One interval after the last start, whatever came before; nothing after a longer life."""
    case = Case(FAIL_RELOAD, interval=2.0)
    assert [case.waits() for _ in range(5)] == [2] * 5
    case.lives(1.5)
    assert case.waits() == 0.5
    case.lives(3)
    assert case.waits() == 0


@pytest.mark.parametrize(("tenths", "waits"), [(0, 2.0), (5, 2.5), (9, 2.9), (10, 2.0)])
def test_jitter_is_up_to_half_an_interval(tenths: int, waits: float) -> None:
    assert Case(FAIL_RELOAD, interval=2.0, chance=tenths * SECOND // 10).waits() == waits


def test_it_is_told_once_and_counted() -> None:
    case = Case(FAIL_RELOAD)
    case.waits()
    assert [line for _, _, line in case.world.log.hosts] == [
        "it is started again in 1.0 s at the earliest; until then its requests get fail_reload"
    ]
    assert case.metrics.heard == [True, False]
    case.recovery.failed("it trapped again")
    case.recovery.failed("and this is not heard")
    assert (case.recovery.failures, case.recovery.last_failure) == (2, "it trapped again")
    with pytest.raises(PluginAwayError, match=r"plugin 'p' \(p\.wasm\): it failed, and is started again in 1\.0 s"):
        case.recovery.check()
