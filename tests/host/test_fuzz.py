"""Whatever numbers a guest passes: always a status, never an exception, and the process lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_wasm.engines.base import FuncType
from asgi_wasm.host.abi import AbiVersion, ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.signatures import Signature, hostcalls
from asgi_wasm.host.wasi import preview1 as wasi
from tests.host.fed import Exchange
from tests.host.guest import MARKER, STREAM_PHASES, Calls, plugin
from tests.host.world import World

PAGE = 65536
# Enumerations, small sizes, addresses inside memory, at its end, and outside; and anything.
NUMBERS = st.one_of(
    st.integers(0, 12),
    st.integers(0, PAGE + 8),
    st.integers(PAGE - 8, PAGE + 8),
    st.sampled_from([0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]),
    st.integers(0, 0xFFFF_FFFF),
)
WIDE = st.one_of(NUMBERS, st.integers(0, (1 << 64) - 1))


def numbers_of(type_: FuncType) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(WIDE if kind == "i64" else NUMBERS for kind in type_.params))


def call_of(module: str, row: Signature) -> st.SearchStrategy[tuple[str, str, tuple[int, ...]]]:
    return st.tuples(st.just(module), st.just(row.name), numbers_of(row.type))


def calls_of(version: AbiVersion) -> st.SearchStrategy[list[tuple[str, str, tuple[int, ...]]]]:
    rows = [call_of("env", row) for row in hostcalls(version)]
    rows += [call_of("wasi_snapshot_preview1", row) for row in wasi.SIGNATURES.values()]
    return st.lists(st.one_of(rows), min_size=1, max_size=12)


def check(name: str, module: str, answer: int) -> None:
    if module == "env" and name.startswith("proxy_"):
        ProxyStatus(answer)  # raises for a number that is none
    else:
        assert 0 <= answer <= wasi.ENOTCAPABLE or name == "pthread_equal"


def fuzz(version: AbiVersion, phase: str, wanted: list[tuple[str, str, tuple[int, ...]]], memory: bytes) -> World:
    world = World(foreign={"": lambda data: data})
    answers: list[Any] = []
    errors: list[Exception] = []

    def callback(calls: Calls, *_: int) -> int:
        calls.memory.write(0, memory)
        for module, name, numbers in wanted:
            answer = calls.host.call(module, name, *numbers)
            check(name, module, answer)
            answers.append(answer)
        return 0

    made = plugin(world, {phase: callback}, version=version, errors=errors)
    exchange = Exchange(world, made)
    exchange.request(b"body", trailers=[(b"t", b"")])
    exchange.respond(b"body", trailers=[(b"t", b"")])
    exchange.chain.finish()
    world.post()
    made.stop()
    assert errors == []
    assert answers, "the callback did not come"
    # A bug of ours would have been reported: a value of the fuzz may only be refused.
    assert [line for _, _, line in world.log.hosts if " failed: " in line] == []
    assert made.root(b"conf").vm.failure is None
    return world


MEMORY = st.one_of(
    st.just(MARKER * 64),
    st.binary(max_size=64),
    st.just(encode_pairs([(b":status", b"200"), (b"a", b"b")])),
    st.just(b"plugin_name\0request\0path"),
)


@pytest.mark.parametrize("version", AbiVersion, ids=str)
@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_random_numbers_for_every_hostcall_and_wasi_function(version: AbiVersion, data: st.DataObject) -> None:
    phase = data.draw(st.sampled_from([*STREAM_PHASES[:1], *STREAM_PHASES[1:3], "proxy_on_log", "proxy_on_done"]))
    fuzz(version, phase, data.draw(calls_of(version)), data.draw(MEMORY))


EACH: list[tuple[str, Signature]] = [("env", row) for row in hostcalls(AbiVersion.V0_2_1)]
EACH += [("env", row) for row in hostcalls(AbiVersion.V0_1_0) if row.until is AbiVersion.V0_1_0]
EACH += [("wasi_snapshot_preview1", row) for row in wasi.SIGNATURES.values()]


@pytest.mark.parametrize(("module", "row"), EACH, ids=lambda value: getattr(value, "name", None))
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_each_one_by_itself(module: str, row: Signature, data: st.DataObject) -> None:
    wanted = [
        (module, row.name, numbers) for numbers in data.draw(st.lists(numbers_of(row.type), min_size=1, max_size=30))
    ]
    fuzz(row.until, "proxy_on_request_body", wanted, data.draw(MEMORY))


VERDICTS = st.one_of(st.integers(0, 5), st.integers(0, 0xFFFF_FFFF))


@settings(deadline=None, max_examples=100)
@given(verdicts=st.lists(VERDICTS, min_size=10, max_size=10), allowed=st.booleans())
def test_whatever_a_callback_answers(verdicts: list[int], allowed: bool) -> None:
    world, errors = World(), list[Exception]()
    names = (*STREAM_PHASES, "proxy_on_done", "proxy_on_delete")

    def answering(verdict: int) -> Callable[..., int]:
        return lambda *_: verdict

    given_: dict[str, Callable[..., Any]] = {
        name: answering(verdict) for name, verdict in zip(names, verdicts, strict=False)
    }
    made = plugin(world, given_, errors=errors, allow_on_headers_stop_iteration=allowed)
    exchange = Exchange(world, made)
    exchange.request(b"a", b"b", trailers=[(b"t", b"")])
    exchange.respond(b"a", b"b", trailers=[(b"t", b"")])
    for direction in (exchange.chain.request, exchange.chain.response):
        for _ in range(10):
            if direction is not None and direction.paused_by is not None:
                direction.resume(direction.paused_by)
    exchange.chain.finish()
    assert errors == []
    assert made.root(b"conf").vm.failure is None
    assert next(event[0] for event in exchange.app.events) == "headers"
    assert exchange.client.status == b"200"


@settings(deadline=None, max_examples=60)
@given(answer=st.integers(0, 0xFFFF_FFFF))
def test_whatever_the_allocator_answers(answer: int) -> None:
    statuses: list[int] = []

    def headers(calls: Calls, *_: int) -> int:
        statuses.append(calls.raw("proxy_get_header_map_pairs", 0, PAGE - 64, PAGE - 60))
        return 0

    world = World()
    made = plugin(world, {"malloc": lambda _calls, _size: answer, "proxy_on_request_headers": headers})
    exchange = Exchange(world, made)
    exchange.request()
    (status,) = statuses
    pairs = encode_pairs(exchange.app.events[0][1])
    fits = 0 < answer <= PAGE - len(pairs)
    assert status == (ProxyStatus.OK if fits else ProxyStatus.INVALID_MEMORY_ACCESS)
