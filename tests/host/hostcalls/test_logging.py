from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import AbiVersion, LogLevel
from asgi_wasm.host.plugin import VmPool
from asgi_wasm.host.signatures import hostcalls
from tests.host.guest import (
    BAD_ARGUMENT,
    INVALID_MEMORY_ACCESS,
    MARKER,
    OK,
    OUTSIDE,
    ROOT_PHASES,
    STREAM_PHASES,
    V021,
    Calls,
    in_phase,
    plugin,
    start,
)
from tests.host.world import RecordingLog, World


@pytest.mark.parametrize("level", LogLevel)
def test_each_level(level: LogLevel) -> None:
    world = World()
    assert in_phase("proxy_on_tick", lambda calls: calls("proxy_log", level, b"w\xffrds"), world=world) == (OK,)
    assert world.log.words == [("guest", level, b"w\xffrds")]


@pytest.mark.parametrize("level", [6, 0xFFFF_FFFF])
def test_an_unknown_level_is_refused_before_memory_is_read(level: int) -> None:
    assert in_phase("proxy_on_tick", lambda calls: calls.raw("proxy_log", level, OUTSIDE, 1)) == BAD_ARGUMENT


@pytest.mark.parametrize(
    "phase", ["_initialize", "_start", "proxy_on_context_create", *ROOT_PHASES, *STREAM_PHASES, "proxy_on_delete"]
)
def test_it_may_be_called_at_all_times(phase: str) -> None:
    world = World()
    assert in_phase(phase, lambda calls: calls("proxy_log", 2, b"here"), world=world, name="who") == (OK,)
    assert world.log.words == [("who", LogLevel.INFO, b"here")]


def test_in_the_allocator() -> None:
    def malloc(calls: Calls, size: int) -> int:
        calls.raw("proxy_log", 3, 64, size)
        return calls.host.allocate(size)

    world = World()
    answer = in_phase(
        "proxy_on_tick",
        lambda calls: calls("proxy_get_property", b"plugin_name"),
        world=world,
        others={"malloc": malloc},
    )
    assert answer == (OK, b"guest")
    assert world.log.words == [("guest", LogLevel.WARN, MARKER * 5)]


def test_a_line_belongs_to_the_effective_context() -> None:
    def tick(calls: Calls, root: int) -> None:
        assert calls("proxy_set_effective_context", 3 - root) == (OK,)
        calls("proxy_log", 2, b"words")

    world = World()
    pool = VmPool(world.ports)
    given = {"proxy_on_tick": tick}
    one = plugin(world, given, pool=pool, name="one", digest="same").root(b"")
    plugin(world, given, pool=pool, name="two", digest="same").root(b"")
    one.notify("proxy_on_tick")
    assert world.log.words == [("two", LogLevel.INFO, b"words")]


def test_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        inside = calls.host.allocate(4)
        return [
            calls.raw("proxy_log", 2, OUTSIDE, 1),
            calls.raw("proxy_log", 2, inside, OUTSIDE),
            calls.raw("proxy_get_log_level", OUTSIDE),
        ]

    assert in_phase("proxy_on_tick", act) == [INVALID_MEMORY_ACCESS] * 3


@pytest.mark.parametrize("level", LogLevel)
def test_the_level_of_the_log(level: LogLevel) -> None:
    world = World(log=RecordingLog(lowest=level))
    assert in_phase("proxy_on_tick", lambda calls: calls("proxy_get_log_level"), world=world) == (OK, level)


def test_the_level_is_of_the_last_version_only() -> None:
    knowing = [version for version in AbiVersion if "proxy_get_log_level" in {row.name for row in hostcalls(version)}]
    assert knowing == [V021]


def test_nothing_is_logged_by_a_quiet_guest() -> None:
    world = World()
    start(world, {"proxy_on_configure": lambda *_: 1})
    assert (world.log.words, world.log.hosts) == ([], [])
