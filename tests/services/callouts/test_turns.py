"""Turns: a few pieces of work in each iteration of the event loop, and a flood does not keep from the others."""

from __future__ import annotations

import asyncio

import pytest

from asgi_wasm.services.callouts import turns as module
from asgi_wasm.services.callouts.deadline import Deadline
from asgi_wasm.services.callouts.turns import Turns
from tests.driving import until


async def test_few_at_a_time_and_in_order() -> None:
    turns, done = Turns(), []
    for number in range(100):
        turns.soon(lambda number=number: done.append(number))  # type: ignore[misc]
    iterations = 0
    while len(done) < 100:
        await asyncio.sleep(0)
        iterations += 1
    assert done == list(range(100))
    assert iterations >= 100 // module._SLICE_PIECES


async def test_what_goes_on_and_on_has_one_turn_while_others_wait() -> None:
    turns, order = Turns(), []

    def flood() -> None:
        order.append("flood")
        turns.soon(flood, again=True)

    for _ in range(20):
        turns.soon(flood, again=True)
    await asyncio.sleep(0)
    order.clear()
    for _ in range(5 * module._SLICE_PIECES):
        turns.soon(lambda: order.append("call"))
    while order.count("call") < 5 * module._SLICE_PIECES:  # noqa: ASYNC110  # iterations are what is looked at
        await asyncio.sleep(0)
    # One of a flood an iteration, however many there are; on a busy machine an iteration does less than it may.
    assert order.count("flood") <= 2 + order.count("call")
    turns._continued.clear()


async def test_a_piece_that_raises_keeps_nobody_from_theirs() -> None:
    turns, done, told = Turns(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

    def broken() -> None:
        raise RuntimeError("a bug")

    turns.soon(broken)
    turns.soon(lambda: done.append(1))
    await until(lambda: done and told)
    assert done == [1]
    assert [str(error) for error in told] == ["a bug"]


async def test_deadline() -> None:
    with Deadline(None):
        await asyncio.sleep(0)
    with pytest.raises(asyncio.TimeoutError), Deadline(0.01):
        await asyncio.sleep(60)
    # Ended from outside, before and after it began.
    early = Deadline(None)
    early.end(ValueError("early"))
    with pytest.raises(ValueError, match="early"), early:
        raise AssertionError("it ran")
    late = Deadline(60)
    asyncio.get_running_loop().call_later(0.01, late.end, ValueError("late"))
    with pytest.raises(ValueError, match="late"), late:
        await asyncio.sleep(60)
    # Whoever cancels the task is not taken for the time limit.
    task = asyncio.ensure_future(asyncio.sleep(60))

    async def limited() -> None:
        with Deadline(60):
            await task

    waiting = asyncio.ensure_future(limited())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
