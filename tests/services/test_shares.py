"""What one plugin has under way outside is bounded, and others are not kept from theirs by it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from asgi_wasm.foreign.calls import ForeignCalls
from asgi_wasm.host.effects import ForeignCall, HttpCall
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.grpc_tokens import GrpcState
from asgi_wasm.host.vm.vm import vm_of
from asgi_wasm.limits import PluginLimits
from asgi_wasm.services.callouts import messages
from asgi_wasm.services.callouts.http_calls import HttpCalls
from asgi_wasm.services.callouts.messages import Answer, Request
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.services.callouts.upstreams import Upstream
from asgi_wasm.specs import UpstreamSpec
from tests.driving import until
from tests.host.guest import Calls, start
from tests.host.limited import CountingMetrics
from tests.host.world import RecordingLog, World

OVERFLOW = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
HEADERS = [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")]


class Mute:
    """`Carrier` whose answers wait."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def exchange(self, request: Request, answer: Answer) -> None:
        self.asked += 1
        await self.go.wait()
        answer.begin(200, [])

    async def close(self) -> None:
        pass


def plugin(**limits: int) -> tuple[RootContext, list[Any], CountingMetrics]:
    """A root context; what it is answered: bodies of HTTP calls, statuses of foreign ones."""
    world, metrics, answers = World(), CountingMetrics(), []
    world.ports = replace(world.ports, host_metrics=metrics)

    def on_http_call_response(calls: Calls, *_: int) -> None:
        # A failure has none.
        answers.append((*calls("proxy_get_buffer_bytes", 4, 0, 1000), None)[1])

    def on_foreign_function(calls: Calls, *_: int) -> None:
        answers.append(calls("proxy_get_status")[1:])

    callbacks = {
        "proxy_on_http_call_response": on_http_call_response,
        "proxy_on_foreign_function": on_foreign_function,
    }
    return start(world, callbacks, limits=PluginLimits(**limits)), answers, metrics


def http_call(root: RootContext, token: int, body: bytes = b"") -> HttpCall:
    return HttpCall(root, token, "mute", HEADERS, body, [], 0)


@pytest.mark.parametrize(("most", "overflowing"), [(2, 1), (3, 0), (4, 0)])
async def test_http_calls(most: int, overflowing: int) -> None:
    carrier, calls = Mute(), HttpCalls([])
    calls.add(Upstream(UpstreamSpec("mute", "http://127.0.0.1:1"), Turns(), carrier))
    root, answers, metrics = plugin(calls_under_way=most)
    other, other_answers, _ = plugin(calls_under_way=most)
    for token in (4, 8, 12):
        calls.start(http_call(root, token))
    calls.start(http_call(other, 4))
    await until(lambda: carrier.asked == 4 - overflowing and len(answers) == overflowing)
    assert answers == [OVERFLOW] * overflowing
    assert metrics.reached == [("guest", "calls_under_way")] * overflowing
    carrier.go.set()
    await until(lambda: len(answers) == 3 and len(other_answers) == 1)
    # There is room again.
    calls.start(http_call(root, 16))
    await until(lambda: len(answers) == 4)
    assert answers[overflowing:] == [b""] * (4 - overflowing)
    assert other_answers == [b""]
    await calls.close()


@pytest.mark.parametrize(("most", "overflowing"), [(2, 1), (3, 0)])
async def test_calls_of_every_kind_have_one_limit(most: int, overflowing: int) -> None:
    """A gRPC call or stream counts from the hostcall on that asks for it."""

    carrier, calls, foreign, go = Mute(), HttpCalls([]), ForeignCalls(), asyncio.Event()
    calls.add(Upstream(UpstreamSpec("mute", "http://127.0.0.1:1"), Turns(), carrier))
    root, answers, metrics = plugin(calls_under_way=most)

    async def wait(_: bytes) -> bytes:
        await go.wait()
        return b""

    root.grpc_tokens.begin(6, GrpcState.OPEN)
    foreign.start(ForeignCall(root, 1, "wait", wait, b""))
    await asyncio.sleep(0)
    calls.start(http_call(root, 4))
    await until(lambda: carrier.asked == 1 - overflowing and len(answers) == overflowing)
    assert metrics.reached == [("guest", "calls_under_way")] * overflowing
    go.set()
    carrier.go.set()
    await until(lambda: len(answers) == 2)
    assert (root.calls_under_way, root.other_call_bytes) == (1, 0)
    await calls.close()
    await foreign.close()


@pytest.mark.parametrize(("size", "overflowing"), [(4, 0), (5, 0), (6, 1)])
async def test_bytes_of_http_calls(size: int, overflowing: int) -> None:
    """One alone may have as many as a callback may ask for."""

    carrier, calls = Mute(), HttpCalls([])
    calls.add(Upstream(UpstreamSpec("mute", "http://127.0.0.1:1"), Turns(), carrier))
    root, answers, metrics = plugin(callback_call_bytes=10)
    calls.start(http_call(root, 4, b"12345"))
    calls.start(http_call(root, 8, bytes(size)))
    await until(lambda: carrier.asked == 2 - overflowing and len(answers) == overflowing)
    assert metrics.reached == [("guest", "callback_call_bytes")] * overflowing
    carrier.go.set()
    await until(lambda: len(answers) == 2)
    await calls.close()


class Telling(Mute):
    """`Carrier` whose answers have the body of their request, and wait with it."""

    async def exchange(self, request: Request, answer: Answer) -> None:
        answer.begin(200, [])
        for at in range(0, len(request.body), 2):
            answer.append(request.body[at : at + 2])
        self.asked += 1
        await self.go.wait()


@pytest.mark.parametrize(("size", "failing"), [(4, 0), (5, 0), (6, 1)])
async def test_bytes_of_answers(size: int, failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all plugins together, until each has been handed over; what fails makes room as well."""
    monkeypatch.setattr(messages, "MAX_HELD_BYTES", 10)

    carrier, calls = Telling(), HttpCalls([], max_response=10)
    calls.add(Upstream(UpstreamSpec("mute", "http://127.0.0.1:1"), Turns(), carrier))
    (root, answers, metrics), (other, other_answers, other_metrics) = plugin(), plugin()
    calls.start(http_call(other, 4, b"12345"))
    await until(lambda: carrier.asked == 1)
    calls.start(http_call(root, 4, bytes(size)))
    await until(lambda: carrier.asked == 2 - failing and len(answers) == failing)
    assert metrics.reached == [("guest", "call_responses")] * failing
    assert answers == [None] * failing
    assert calls._memory.held == 5 + size * (not failing)
    carrier.go.set()
    await until(lambda: len(answers) == len(other_answers) == 1)
    await until(lambda: not calls.under_way)
    # There is room again.
    calls.start(http_call(root, 8, bytes(10)))
    await until(lambda: len(answers) == 2)
    assert (answers[-1], other_answers, other_metrics.reached) == (bytes(10), [b"12345"], [])
    await calls.close()
    assert calls._memory.held == 0
    told = "the answers of all HTTP calls under way in this worker are over 10 bytes"
    log = vm_of(root).ports.log
    assert isinstance(log, RecordingLog)
    assert [told in line for _, _, line in log.hosts] == [True] * failing


@pytest.mark.parametrize(("most", "overflowing"), [(2, 1), (3, 0), (4, 0)])
async def test_asynchronous_foreign_calls(most: int, overflowing: int) -> None:
    go, asked, calls = asyncio.Event(), [], ForeignCalls()

    async def wait(arguments: bytes) -> bytes:
        asked.append(arguments)
        await go.wait()
        return b""

    root, answers, metrics = plugin(calls_under_way=most)
    for number in (1, 2, 3):
        calls.start(ForeignCall(root, number, "wait", wait, b""))
    await until(lambda: len(asked) == 3 - overflowing and len(answers) == overflowing)
    assert answers == [(10, b"overflow")] * overflowing
    assert metrics.reached == [("guest", "calls_under_way")] * overflowing
    go.set()
    await until(lambda: len(answers) == 3)
    calls.start(ForeignCall(root, 4, "wait", wait, b""))
    await until(lambda: len(answers) == 4)
    assert answers[overflowing:] == [(0, b"")] * (4 - overflowing)
    await calls.close()
