"""The bytes of all properties of a request, which its plugins share: all count, and one more costs one more."""

from __future__ import annotations

from collections.abc import ValuesView
from typing import Any

from asgi_wasm.foreign.envoy import ENVOY_FUNCTIONS
from asgi_wasm.host.codecs.protobuf import encode
from asgi_wasm.host.plugin import VmPool
from asgi_wasm.limits import PluginLimits
from tests.host.fed import Exchange
from tests.host.guest import OK, Calls, plugin, start
from tests.host.limited import INTERNAL_FAILURE
from tests.host.world import World


class _Counted(dict[bytes, bytes]):
    """Properties that know how often all of them were looked at."""

    looks = 0

    def values(self) -> ValuesView[bytes]:  # type: ignore[override]
        self.looks += 1
        return super().values()


def _setting(room: int, *paths: bytes) -> tuple[Exchange, list[Any]]:
    """A request to a plugin that sets each of these, to a value of one byte, when its headers come."""
    statuses: list[Any] = []

    def act(calls: Calls, *_: int) -> int:
        statuses.extend(calls("proxy_set_property", path, b"v")[0] for path in paths)
        return 0

    world = World()
    limits = PluginLimits(property_bytes=room)
    return Exchange(world, plugin(world, {"proxy_on_request_headers": act}, limits=limits)), statuses


def test_one_more_of_many_costs_no_look_at_all() -> None:
    exchange, statuses = _setting(1 << 20, *(b"%d" % number for number in range(1000)))
    exchange.chain.properties = kept = _Counted()
    exchange.request()
    assert (statuses, len(kept)) == ([OK] * 1000, 1000)
    assert kept.looks <= 1


def test_what_another_middleware_set_meanwhile_counts() -> None:
    outer, in_outer = _setting(10, b"one")
    inner, in_inner = _setting(10, b"two")
    inner.chain.properties = outer.chain.properties
    outer.request()
    inner.request()
    # Of 10 bytes, 8 are kept: by a further one here, and by the next there, it would be too much.
    again, in_again = _setting(10, b"two", b"six")
    again.chain.properties, again.chain.properties_kept = outer.chain.properties, outer.chain.properties_kept
    again.request()
    assert (in_outer, in_inner, in_again) == ([OK], [OK], [OK, INTERNAL_FAILURE])


def test_names_that_are_declared_count_for_each_context() -> None:
    def act(calls: Calls, *_: int) -> int:
        given = [encode([(1, name)]) for name in (b"four", b"also", b"a")]
        statuses.append([calls("proxy_call_foreign_function", b"declare_property", each)[0] for each in given])
        return 1

    statuses: list[Any] = []
    world = World()
    pool = VmPool(world.ports, ENVOY_FUNCTIONS)
    start(world, {"proxy_on_configure": act}, pool=pool, limits=PluginLimits(property_bytes=8))
    assert statuses == [[OK, OK, INTERNAL_FAILURE]]
