"""What a plan says of a chain of filters: of each plugin what its VM would call."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from asgi_wasm.errors import PluginError
from asgi_wasm.host.directions import HEADERS_MAPS, NAMES, REQUEST, RESPONSE, TRAILERS_MAPS, InBoth
from asgi_wasm.host.plan import Plan
from asgi_wasm.host.plugin import BrokenPlugin, Filter
from asgi_wasm.specs import PluginSpec
from tests.host.guest import plugin
from tests.host.world import World

CALLBACKS = [f"proxy_on_{way}_{part}" for way, part in product(NAMES, ("headers", "body", "trailers"))]
NOWHERE = InBoth(False, False)


def filter_with(*callbacks: str, allowed: frozenset[str] = frozenset()) -> Filter:
    made = plugin(World(), dict.fromkeys(callbacks, lambda *_: 0), allowed_capabilities=allowed)
    return Filter(made, b"")


def test_nobody_sees_anything_where_nobody_is() -> None:
    plan = Plan.of([])
    assert (plan.sees_body, plan.changes_body, plan.sees_response, plan.is_straight) == (NOWHERE, NOWHERE, False, True)


@pytest.mark.parametrize("callback", CALLBACKS)
def test_one_callback_of_one_plugin_is_enough(callback: str) -> None:
    _, _, way, part = callback.split("_")
    plan = Plan.of([filter_with(), filter_with(callback)])
    here = InBoth(way == "request", way == "response")
    assert plan.changes_body == (here if part == "body" else NOWHERE)
    assert plan.sees_body == (here if part in ("body", "trailers") else NOWHERE)
    assert plan.sees_response == (callback == "proxy_on_response_headers")


@pytest.mark.parametrize("callback", CALLBACKS)
def test_what_a_plugin_may_not_be_called_by_is_not_there(callback: str) -> None:
    allowed = frozenset(CALLBACKS) - {callback}
    denied = Plan.of([filter_with(callback, allowed=allowed)])
    assert (denied.sees_body, denied.changes_body, denied.sees_response) == (NOWHERE, NOWHERE, False)
    assert Plan.of([filter_with(callback, allowed=frozenset(CALLBACKS))]) != denied


def test_a_plugin_that_could_not_be_loaded_sees_nothing_and_bends_the_way() -> None:
    broken = BrokenPlugin(PluginSpec("p", Path("p.wasm")), PluginError("p", "p.wasm", "it is broken"))
    plan = Plan.of([Filter(broken, b"")])
    assert (plan.sees_body, plan.is_straight) == (NOWHERE, False)


def test_the_plan_says_what_a_vm_resolves() -> None:
    for callbacks in (CALLBACKS[:1], CALLBACKS[1:3], CALLBACKS[3:5], CALLBACKS[5:]):
        found = filter_with(*callbacks)
        plan, vm = Plan.of([found]), found.root().vm
        for way in (REQUEST, RESPONSE):
            assert plan.changes_body[way] == (vm.on_body[way] is not None)
            assert (
                plan.sees_body[way]
                == vm.sees_body[way]
                == (vm.on_body[way] is not None or vm.on_trailers[way] is not None)
            )


def test_maps_are_found_by_direction() -> None:
    assert [HEADERS_MAPS[REQUEST], TRAILERS_MAPS[REQUEST], HEADERS_MAPS[RESPONSE], TRAILERS_MAPS[RESPONSE]] == [
        *range(4)
    ]
