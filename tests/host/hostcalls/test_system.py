from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.errors import PluginStartError
from asgi_wasm.host.abi import AbiVersion
from asgi_wasm.host.effects import SetTickPeriod
from asgi_wasm.host.signatures import HOSTCALLS, hostcalls
from asgi_wasm.host.vm import delivery
from tests.host.fed import Exchange
from tests.host.guest import (
    BAD_ARGUMENT,
    INVALID_MEMORY_ACCESS,
    NOT_FOUND,
    OK,
    OUTSIDE,
    V010,
    V020,
    V021,
    Calls,
    in_phase,
    plugin,
    start,
)
from tests.host.world import NANOSECONDS, World


def test_which_version_knows_what() -> None:
    names = {version: {row.name for row in hostcalls(version)} for version in AbiVersion}
    old = {
        "proxy_get_configuration",
        "proxy_continue_request",
        "proxy_continue_response",
        "proxy_clear_route_cache",
    }
    streams = {"proxy_continue_stream", "proxy_close_stream"}
    assert names[V010] - names[V020] == old
    assert names[V020] - names[V010] == streams
    assert names[V021] - names[V020] == {"proxy_get_log_level"}
    assert names[V020] - names[V021] == set()
    assert names[V010] | names[V021] == {row.name for row in HOSTCALLS}


def test_the_clock() -> None:
    assert in_phase("proxy_on_tick", lambda calls: calls("proxy_get_current_time_nanoseconds")) == (OK, NANOSECONDS)


def test_the_tick_period_is_the_roots() -> None:
    def headers(calls: Calls, *_: int) -> int:
        assert calls("proxy_set_tick_period_milliseconds", 0) == (OK,)
        assert world.effects == [SetTickPeriod(root, 0xFFFF_FFFF)]
        return 0

    def configure(calls: Calls, *_: int) -> int:
        assert calls("proxy_set_tick_period_milliseconds", 0xFFFF_FFFF) == (OK,)
        assert world.effects == []  # not before the callback is over
        return 1

    world, errors = World(), list[Exception]()
    made = plugin(world, {"proxy_on_configure": configure, "proxy_on_request_headers": headers}, errors=errors)
    root = made.root(b"conf")
    Exchange(world, made).request()
    assert errors == []
    assert world.effects == [SetTickPeriod(root, 0xFFFF_FFFF), SetTickPeriod(root, 0)]


def test_the_status_of_a_callout() -> None:
    seen: list[Any] = []

    def answer(calls: Calls, *_: int) -> None:
        seen.append(calls("proxy_get_status"))

    root = start(World(), {"proxy_on_http_call_response": answer})
    delivery.deliver_http_failure(root, 4)
    assert seen == [(OK, 11, b"reset")]
    assert in_phase("proxy_on_tick", lambda calls: calls("proxy_get_status")) == (OK, 0, b"")


def test_effective_context() -> None:
    def act(calls: Calls) -> Any:
        path = b"request\0path"
        return [
            calls("proxy_get_property", path),
            # 2 is this stream, 1 its root, 0 the VM: as if there were none.
            calls("proxy_set_effective_context", 1),
            calls("proxy_get_property", path),
            calls("proxy_set_effective_context", 0),
            calls("proxy_get_property", path),
            calls("proxy_set_effective_context", 3),
            calls("proxy_set_effective_context", 0xFFFF_FFFF),
            calls("proxy_get_property", path),
        ]

    found = (OK, b"/path?query")
    bad = (BAD_ARGUMENT,)
    assert in_phase("proxy_on_request_headers", act) == [
        *[found, (OK,), (NOT_FOUND,), (OK,), found, bad, bad, found],
    ]


def test_the_effective_context_ends_with_the_callback() -> None:
    seen: list[Any] = []

    def headers(calls: Calls, *_: int) -> int:
        seen.append(calls("proxy_set_property", b"user", b"me")[0])
        seen.append(calls("proxy_set_effective_context", 1)[0])
        return 0

    world = World()
    given = {"proxy_on_request_headers": headers, "proxy_on_response_headers": headers}
    exchange = Exchange(world, plugin(world, given), attributes={(b"request", b"path"): b"/"})
    exchange.request()
    exchange.respond()
    assert seen == [OK, OK, OK, OK]


def test_a_deleted_effective_context_falls_back_to_the_running_one() -> None:
    # Only an effect could delete it, and effects come later; but then it is gone for the next callback.
    world, seen = World(), list[Any]()

    def tick(calls: Calls, _root: int) -> None:
        seen.append(calls("proxy_set_effective_context", 2))

    made = plugin(world, {"proxy_on_tick": tick})
    exchange = Exchange(world, made)
    exchange.request()
    root = made.root(b"conf")
    root.notify("proxy_on_tick")
    exchange.chain.finish()
    root.notify("proxy_on_tick")
    assert seen == [(OK,), (BAD_ARGUMENT,)]


def test_done() -> None:
    seen: list[Any] = []

    def tick(calls: Calls, root: int) -> None:
        seen.append(calls("proxy_done"))

    world = World()
    given = {
        "proxy_on_done": lambda _calls, _context: 0,
        "proxy_on_tick": tick,
        "proxy_on_delete": lambda _calls, context: seen.append(("deleted", context)),
    }
    made = plugin(world, given)
    root = made.root(b"")
    root.notify("proxy_on_tick")
    made.stop()
    made.stop()
    assert seen == [(NOT_FOUND,)]
    root.notify("proxy_on_tick")
    assert seen == [(NOT_FOUND,), (OK,), ("deleted", 1)]
    root.notify("proxy_on_tick")
    assert len(seen) == 3


def test_emscriptens_imports() -> None:
    def act(calls: Calls) -> Any:
        return [
            calls.raw("pthread_equal", 7, 7),
            calls.raw("pthread_equal", 7, 8),
            calls.raw("emscripten_notify_memory_growth", 0),
        ]

    assert in_phase("proxy_on_tick", act) == [1, 0, 0]


def test_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        inside = calls.host.allocate(4)
        return [
            calls.raw("proxy_get_current_time_nanoseconds", OUTSIDE),
            calls.raw("proxy_get_current_time_nanoseconds", calls.memory.size - 7),
            calls.raw("proxy_get_status", OUTSIDE, inside, inside),
            calls.raw("proxy_get_status", inside, OUTSIDE, inside),
            calls.raw("proxy_get_status", inside, inside, OUTSIDE),
        ]

    assert in_phase("proxy_on_tick", act) == [INVALID_MEMORY_ACCESS] * 5


# --- what may not be called while the module starts or allocates

ANYTIME = {row.name for row in HOSTCALLS if row.anytime}


def numbers(name: str) -> list[int]:
    return [0] * next(len(row.params) for row in HOSTCALLS if row.name == name)


@pytest.mark.parametrize("name", [row.name for row in HOSTCALLS if row.since <= V020 <= row.until])
@pytest.mark.parametrize("entry", ["_initialize", "_start"])
def test_restricted_while_it_starts(entry: str, name: str) -> None:
    def begin(calls: Calls) -> None:
        calls.raw(name, *numbers(name))

    made = plugin(World(), {entry: begin}, version=V020)
    if name in ANYTIME:
        made.root(b"")
        return
    with pytest.raises(PluginStartError, match=f"restricted_callback: {name} was called while"):
        made.root(b"")


@pytest.mark.parametrize("name", ["proxy_get_property", "proxy_set_effective_context", "proxy_done"])
def test_restricted_while_it_allocates(name: str) -> None:
    def malloc(calls: Calls, size: int) -> int:
        calls.raw(name, *numbers(name))
        return calls.host.allocate(size)

    def headers(calls: Calls, *_: int) -> int:
        calls("proxy_get_property", b"plugin_name")
        return 0

    world = World()
    made = plugin(world, {"malloc": malloc, "proxy_on_request_headers": headers})
    exchange = Exchange(world, made)
    exchange.request()
    assert exchange.client.status == b"503"
    assert f"restricted_callback: {name} was called while" in (made.root(b"other").vm.failure or world.log.hosts[0][2])
