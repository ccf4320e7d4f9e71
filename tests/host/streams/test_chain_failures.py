"""Plugins that fail in a filter chain, and on_log."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.errors import PluginLoadError
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.plugin import BrokenPlugin, Filter, Plugin, VmPool
from asgi_wasm.specs import FailurePolicy
from asgi_wasm.testing.guests.guests import Callback
from tests.host.fed import Exchange
from tests.host.guest import Calls, plugin, spec
from tests.host.streams.chains import IN_STREAM, WAYS, noting
from tests.host.world import World

CLOSED, OPEN = FailurePolicy.FAIL_CLOSED, FailurePolicy.FAIL_OPEN


def trapping(_calls: Calls, *_: int) -> int:
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("policy", FailurePolicy)
@pytest.mark.parametrize("phase", IN_STREAM)
def test_a_trap_in_each_callback(phase: str, policy: FailurePolicy) -> None:
    world, heard = World(), list[str]()
    made = plugin(world, {phase: trapping}, name="bad", failure_policy=policy)
    good = plugin(world, noting(heard, "good", "request_headers", "response_headers", "log"), name="good")
    exchange = Exchange(world, made, good)
    exchange.request(b"body", trailers=[(b"t", b"")])
    exchange.respond(b"body", trailers=[(b"t", b"")])
    exchange.chain.finish()
    if policy is OPEN:
        # As if the plugin were not there.
        assert (exchange.client.status, exchange.client.body) == (b"200", b"body")
        assert exchange.app.body == b"body"
        assert exchange.client.events[-1] == ("trailers", [(b"t", b"")])
        assert exchange.client.reason is None
    elif phase in ("proxy_on_response_body", "proxy_on_response_trailers"):
        assert exchange.client.reason == "a local response came after the response had started"
    else:
        assert exchange.client.events == [("headers", [(b":status", b"503")], True)]
        assert exchange.chain.local_details == b"wasm_fail_stream"
    # The other plugin has its callbacks, unless the request never came to it.
    if policy is OPEN or phase != "proxy_on_request_headers":
        assert heard == ["good request_headers", "good response_headers", "good log"]
    # Not the first line where the next start is told of as well.
    assert [name for name, level, text in world.log.hosts if level is LogLevel.ERROR and "on purpose" in text] == [
        "bad"
    ]


@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_plugin_that_cannot_start_or_make_a_context(policy: FailurePolicy) -> None:
    for phase in ("proxy_on_configure", "proxy_on_context_create"):
        world = World()

        def callback(_calls: Calls, context: int, *_: int, phase: str = phase) -> int:
            if phase == "proxy_on_configure" or context > 1:
                raise RuntimeError("cannot")
            return 1

        exchange = Exchange(world, plugin(world, {phase: callback}, name="bad", failure_policy=policy))
        exchange.request(b"body")
        exchange.respond(b"body")
        exchange.chain.finish()
        assert exchange.client.status == (b"200" if policy is OPEN else b"503")
        assert world.log.hosts[0][2].startswith("cannot serve a request: ")


@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_broken_plugin_has_its_policy(policy: FailurePolicy) -> None:
    world = World()
    broken = BrokenPlugin(spec("b", failure_policy=policy), PluginLoadError("b", "b.wasm", "no"))
    exchange = Exchange(world, broken)
    exchange.request()
    exchange.respond()
    assert exchange.client.status == (b"200" if policy is OPEN else b"503")
    assert world.log.hosts[0][2] == "cannot serve a request: plugin 'b' (b.wasm): no"


def shared(world: World, *given: dict[str, Callback], policy: FailurePolicy = CLOSED) -> list[Plugin]:
    pool = VmPool(world.ports)
    return [
        plugin(world, each, pool=pool, digest="same", name=f"p{index}", failure_policy=policy)
        for index, each in enumerate(given)
    ]


@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_vm_that_two_filters_of_one_chain_share(policy: FailurePolicy) -> None:
    calls: list[int] = []

    def headers(_calls: Calls, context: int, *_: int) -> int:
        calls.append(context)
        if len(calls) == 2:
            raise RuntimeError("the second filter")
        return 0

    world = World()
    given: dict[str, Callback] = {"proxy_on_request_headers": headers, "proxy_on_response_headers": lambda *_: 0}
    exchange = Exchange(world, *shared(world, given, given, policy=policy))
    exchange.request(b"body")
    exchange.respond(b"body")
    exchange.chain.finish()
    assert exchange.client.status == (b"200" if policy is OPEN else b"503")
    assert len(calls) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_stream_that_waits_for_a_vm_that_failed_elsewhere(policy: FailurePolicy, way: str) -> None:
    def headers(_calls: Calls, context: int, *_: int) -> int:
        if context == 3:
            raise RuntimeError("another stream")
        return 1

    world = World()
    made = plugin(world, {f"proxy_on_{way}_headers": headers}, failure_policy=policy)
    paused, other = Exchange(world, made), Exchange(world, made)
    for exchange in (paused, other):
        exchange.request(b"body")
        exchange.respond(b"body") if way == "response" else None
    sink = paused.app if way == "request" else paused.client
    if policy is OPEN:
        assert sink.body == b"body"
    else:
        assert paused.client.status == b"503"
    assert paused.chain.request.paused_by is None


@pytest.mark.parametrize("phase", ["proxy_on_log", "proxy_on_done", "proxy_on_delete"])
def test_a_trap_at_the_end_harms_nobody_else(phase: str) -> None:
    world, heard = World(), list[str]()
    exchange = Exchange(
        world,
        plugin(world, {phase: lambda calls, context, *_: trapping(calls)}, name="bad"),
        plugin(world, noting(heard, "good", "log", "done", "delete"), name="good"),
    )
    exchange.request()
    exchange.respond(b"body")
    exchange.chain.finish()
    assert heard == ["good log", "good done", "good delete"]
    assert (exchange.client.status, exchange.client.body, exchange.client.reason) == (b"200", b"body", None)


# --- on_log


@pytest.mark.parametrize("version_map", [(0, b":method"), (2, b":status"), (3, b"t")])
def test_on_log_reads_what_was_sent(version_map: tuple[int, bytes]) -> None:
    map_type, name = version_map
    seen: list[Any] = []
    world = World()

    def log(calls: Calls, _context: int) -> None:
        seen.append(calls("proxy_get_header_map_value", map_type, name))
        seen.append(calls("proxy_get_header_map_value", 1, b"t"))

    exchange = Exchange(world, plugin(world, {"proxy_on_log": log}))
    exchange.request(trailers=[(b"t", b"1")])
    exchange.respond(b"b", trailers=[(b"t", b"2")])
    exchange.chain.finish()
    values = {0: b"POST", 2: b"200", 3: b"2"}
    # Request trailers are not there (Envoy).
    assert seen == [(0, values[map_type]), (1,)]


def test_on_log_without_a_response() -> None:
    seen: list[Any] = []
    world = World()

    def log(calls: Calls, _context: int) -> None:
        seen.extend(calls("proxy_get_header_map_value", map_type, b":status") for map_type in (2, 3))
        seen.append(calls("proxy_get_header_map_pairs", 2))

    exchange = Exchange(world, plugin(world, {"proxy_on_log": log}))
    exchange.request()
    exchange.chain.finish()
    assert seen == [(1,), (1,), (0, b"")]


def test_a_chain_without_plugins_is_a_pipe() -> None:
    exchange = Exchange(World())
    exchange.request(b"1", trailers=[(b"t", b"")])
    exchange.respond(b"2")
    exchange.chain.finish()
    assert not exchange.chain.request.reads_body
    assert (exchange.app.body, exchange.client.body) == (b"1", b"2")


def test_filters_are_hashable_by_plugin_and_conf() -> None:
    made = plugin(World(), {})
    assert {Filter(made, b"a"), Filter(made, b"a"), Filter(made, b"b")} == {Filter(made, b"a"), Filter(made, b"b")}
