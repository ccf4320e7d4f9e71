"""Stream contexts"""

from __future__ import annotations

import pytest

from asgi_wasm.errors import PluginStartError
from asgi_wasm.specs import FailurePolicy
from asgi_wasm.testing.guests.guests import Callback
from tests.host.fed import Exchange
from tests.host.guest import V021, Calls, plugin
from tests.host.vm.living import diary
from tests.host.world import World


def test_the_life_of_a_stream() -> None:
    heard: list[str] = []
    names = ("on_context_create", "on_request_headers", "on_log", "on_done", "on_delete")
    world = World()
    made = plugin(world, diary(heard, *names, answer=0))
    exchange = Exchange(world, made, conf=b"")
    exchange.request()
    exchange.chain.finish()
    exchange.chain.finish()
    # Envoy's order; the answer of on_done is not looked at.
    assert heard[1:] == [
        *["on_context_create(2, 1)", "on_request_headers(2, 7, 1)"],
        *["on_log(2,)", "on_done(2,)", "on_delete(2,)"],
    ]


def test_ids_are_never_used_again() -> None:
    created: list[int] = []
    world = World()
    made = plugin(world, {"proxy_on_context_create": lambda _calls, context, _parent: created.append(context)})
    for _ in range(20):
        exchange = Exchange(world, made)
        exchange.request()
        exchange.chain.finish()
    made.root(b"another")
    assert created == list(range(1, 23))


@pytest.mark.parametrize("phase", ["proxy_on_log", "proxy_on_done", "proxy_on_delete", "proxy_on_context_create"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_a_trap_at_one_stream_ends_the_pause_of_another(phase: str, policy: str) -> None:
    def trap(_calls: Calls, context: int, *_: int) -> int:
        if context == 3:
            raise RuntimeError("third context")
        return 1

    world = World()
    given: dict[str, Callback] = {
        "proxy_on_request_headers": lambda _calls, context, *_: int(context == 2),
        phase: trap,
    }
    made = plugin(world, given, failure_policy=FailurePolicy(policy))
    paused, other = Exchange(world, made), Exchange(world, made)
    paused.request()
    assert paused.app.events == []
    other.request()
    other.respond()
    other.chain.finish()
    assert made.code.version is V021 and "third context" in str(world.log.hosts)
    if policy == "fail_closed":
        assert paused.client.status == b"503"
    else:
        assert [event[0] for event in paused.app.events] == ["headers"]


def test_a_trap_while_another_root_starts_ends_pauses_too() -> None:
    def configure(_calls: Calls, root: int, *_: int) -> int:
        if root == 3:
            raise RuntimeError("second root")
        return 1

    world = World()
    made = plugin(world, {"proxy_on_configure": configure, "proxy_on_request_headers": lambda *_: 1})
    paused = Exchange(world, made)
    paused.request()
    with pytest.raises(PluginStartError):
        made.root(b"second")
    assert paused.client.status == b"503"


def test_a_trap_while_a_root_is_stopped() -> None:
    def done(_calls: Calls, _context: int) -> int:
        raise RuntimeError("at the end")

    world, heard = World(), list[str]()
    made = plugin(world, {"proxy_on_done": done, **diary(heard, "on_delete")})
    made.root(b"")
    made.stop()
    made.stop()
    assert heard == []
    level, line = world.log.hosts[0][1:]
    assert (level, line.startswith("its VM failed while it was stopped, which touches no request: ")) == (3, True)
