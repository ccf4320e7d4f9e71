"""Limits of calls, their answers, ticks and requests."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.effects import HttpCall, SetTickPeriod
from asgi_wasm.limits import PluginLimits
from tests.host.fed import Exchange
from tests.host.guest import OK, Calls, plugin
from tests.host.limited import CALL, INTERNAL_FAILURE, acts, counting


@pytest.mark.parametrize(("most", "made"), [(1, 1), (2, 2), (3, 3)])
def test_calls_of_one_callback(most: int, made: int) -> None:
    def act(calls: Calls) -> Any:
        return [calls("proxy_http_call", b"known", CALL, b"", b"", 1000)[0] for _ in range(3)]

    answers, reached, world = acts("proxy_on_tick", act, callback_calls=most)
    assert answers == [OK] * made + [INTERNAL_FAILURE] * (3 - made)
    assert reached == ["callback_calls"] * (3 - made)
    assert len([effect for effect in world.effects if isinstance(effect, HttpCall)]) == made


def test_bytes_of_the_calls_of_one_callback() -> None:
    def act(calls: Calls) -> Any:
        body = bytes(100 - len(CALL))
        return [calls("proxy_http_call", b"known", CALL, sent, b"", 1000)[0] for sent in (body, body, b"")]

    answers, reached, _ = acts("proxy_on_tick", act, callback_call_bytes=200)
    assert (answers, reached) == ([OK, OK, INTERNAL_FAILURE], ["callback_call_bytes"])


def test_each_callback_has_its_calls() -> None:
    world, metrics, _ = counting()
    answers = []

    def call(calls: Calls, *_: int) -> int:
        answers.append(calls("proxy_http_call", b"known", CALL, b"", b"", 1000)[0])
        return 0

    limits = PluginLimits(callback_calls=1)
    made = plugin(world, {"proxy_on_request_headers": call, "proxy_on_response_headers": call}, limits=limits)
    exchange = Exchange(world, made)
    exchange.request()
    exchange.respond()
    assert (answers, metrics.reached) == ([OK, OK], [])


# --- answers, ticks, requests


@pytest.mark.parametrize(("size", "status"), [(9, OK), (10, OK), (11, INTERNAL_FAILURE)])
def test_a_local_response(size: int, status: ProxyStatus) -> None:
    world, metrics, _ = counting()
    answers = []

    def reply(calls: Calls, *_: int) -> int:
        answers.append(calls("proxy_send_local_response", 403, b"", bytes(size), b"", 0xFFFF_FFFF)[0])
        return 0

    made = plugin(world, {"proxy_on_request_headers": reply}, limits=PluginLimits(local_reply_bytes=10))
    exchange = Exchange(world, made)
    exchange.request()
    assert answers == [status]
    assert exchange.chain.answered_locally == (status is OK)
    assert metrics.reached == ([] if status is OK else [("guest", "local_reply_bytes")])


@pytest.mark.parametrize(("asked", "period"), [(0, 0), (1, 20), (19, 20), (20, 20), (21, 21)])
def test_the_period_of_ticks(asked: int, period: int) -> None:
    def act(calls: Calls) -> Any:
        return calls("proxy_set_tick_period_milliseconds", asked)

    answer, reached, world = acts("proxy_on_configure", act, tick_ms=20)
    assert answer == (OK,)
    assert [effect.milliseconds for effect in world.effects if isinstance(effect, SetTickPeriod)] == [period]
    assert reached == (["tick_ms"] if 0 < asked < 20 else [])


def test_requests_at_once() -> None:
    world, metrics, _ = counting()
    # The root context counts as well.
    made = plugin(world, {"proxy_on_request_headers": lambda *_: 1}, limits=PluginLimits(contexts=3))
    exchanges = [Exchange(world, made) for _ in range(3)]
    for exchange in exchanges:
        exchange.request()
    assert [exchange.client.status for exchange in exchanges] == [None, None, b"503"]
    assert metrics.reached == [("guest", "contexts")]
    for exchange in exchanges:
        exchange.chain.finish()
    again = Exchange(world, made)
    again.request()
    assert again.client.status is None
