from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.codecs.wire import Pairs, encode_pairs
from asgi_wasm.host.effects import HttpCall
from tests.host.guest import BAD_ARGUMENT, INVALID_MEMORY_ACCESS, OK, OUTSIDE, Calls, in_phase
from tests.host.world import World

HEADERS: Pairs = [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a"), (b"X-Mixed", b"1")]
PHASES = ["proxy_on_configure", "proxy_on_tick", "proxy_on_request_headers", "proxy_on_http_call_response"]


def call(calls: Calls, *, upstream: bytes = b"known", headers: Pairs = HEADERS, timeout: int = 5000) -> Any:
    trailers = encode_pairs([(b"t", b"1")])
    return calls("proxy_http_call", upstream, encode_pairs(headers), b"body", trailers, timeout)


@pytest.mark.parametrize("phase", PHASES)
def test_a_call_is_made_after_the_callback_for_the_root(phase: str) -> None:
    world = World()

    def act(calls: Calls) -> Any:
        answers = [call(calls), call(calls, timeout=0)]
        assert world.effects == []
        return answers

    # Envoy's tokens: the low two bits tell HTTP calls from gRPC's.
    assert in_phase(phase, act, world=world) == [(OK, 4), (OK, 8)]
    effect = world.effects[0]
    assert isinstance(effect, HttpCall)
    assert (effect.root.id, effect.token, effect.upstream, effect.body) == (1, 4, "known", b"body")
    assert effect.headers == [*HEADERS[:3], (b"x-mixed", b"1")]
    assert effect.trailers == [(b"t", b"1")]
    assert effect.timeout_milliseconds == 5000


def without(name: bytes) -> Pairs:
    return [pair for pair in HEADERS if pair[0] != name]


@pytest.mark.parametrize(
    "arguments",
    [
        {"upstream": b"unknown"},
        {"upstream": b""},
        {"upstream": b"\xff"},
        {"headers": []},
        *({"headers": without(name)} for name in (b":method", b":path", b":authority")),
        {"timeout": 0x8000_0000},
        {"timeout": 0xFFFF_FFFF},
    ],
)
def test_bad_arguments(arguments: Any) -> None:
    world = World()
    assert in_phase("proxy_on_tick", lambda calls: call(calls, **arguments), world=world) == (BAD_ARGUMENT,)
    assert world.effects == []


def test_addresses_outside_memory() -> None:
    world = World()

    def act(calls: Calls) -> Any:
        good = [*calls.host.store(b"known"), *calls.host.store(encode_pairs(HEADERS)), 0, 0, 0, 0, 1000, 64]
        statuses = []
        for position in (0, 1, 2, 3, 4, 5, 6, 7, 9):
            numbers = list(good)
            numbers[position] = OUTSIDE
            if position in (4, 6):
                numbers[position + 1] = 1
            statuses.append(calls.raw("proxy_http_call", *numbers))
        return statuses

    assert in_phase("proxy_on_tick", act, world=world) == [INVALID_MEMORY_ACCESS] * 9
    assert world.effects == []
