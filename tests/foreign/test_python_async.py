"""Functions in Python that are coroutines: they answer later."""

from __future__ import annotations

import asyncio
import functools
import logging

import pytest

from asgi_wasm import ForeignFunctionError, ProxyStatus, foreign_function
from tests.driving import request, until
from tests.foreign.calling import OK, answers, results, upper
from tests.plugins.callouts import conf, foreign, http, plugged, said
from tests.upstreams import raw


@foreign_function("later")
async def later(arguments: bytes) -> bytes:
    await asyncio.sleep(0)
    return arguments[::-1]


async def test_async_function_answers_later(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(configure=[foreign("later", b"ab"), foreign("later"), foreign("later", b"cd")])
    async with plugged(script, foreign_functions=[later, upper]):
        # The ids are known, and nothing was answered while the callback ran.
        assert results(caplog) == [(OK, b"\1\0\0\0"), (OK, b"\2\0\0\0"), (OK, b"\3\0\0\0")]
        assert answers(caplog) == []
        await until(lambda: len(answers(caplog)) == 6)
    assert answers(caplog) == [
        "foreign_function 1 2 = 0 6261",
        "foreign_function status 0 ",
        "foreign_function 2 0 = 0 ",
        "foreign_function status 0 ",
        "foreign_function 3 2 = 0 6463",
        "foreign_function status 0 ",
    ]


async def test_async_functions_of_all_kinds(caplog: pytest.LogCaptureFixture) -> None:
    class Callable:
        async def __call__(self, arguments: bytes) -> None:
            return None

    async def add(prefix: bytes, arguments: bytes) -> bytes:
        return prefix + arguments

    functions = {"object": Callable(), "partial": functools.partial(add, b"p")}
    script = conf(configure=[foreign("object", b"x"), foreign("partial", b"x")])
    async with plugged(script, foreign_functions=functions):
        await until(lambda: len(answers(caplog)) == 4)
    assert answers(caplog)[::2] == ["foreign_function 1 0 = 0 ", "foreign_function 2 2 = 0 7078"]


async def test_failure_of_an_async_function_can_be_told_from_an_empty_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(arguments: bytes) -> bytes:
        raise ValueError("the shelf is empty")

    async def text(arguments: bytes) -> bytes:
        return arguments.decode()  # type: ignore[return-value]

    async def refusing(arguments: bytes) -> bytes:
        raise ForeignFunctionError(ProxyStatus.NOT_FOUND, "no such key")

    functions = {"broken": broken, "text": text, "refusing": refusing, "later": later}
    async with plugged(conf(configure=[foreign(name) for name in functions]), foreign_functions=functions):
        await until(lambda: len(answers(caplog)) == 8)
    assert sorted(answers(caplog)[:-2]) + answers(caplog)[-2:] == [
        "foreign_function 1 0 = 0 ",
        "foreign_function 2 0 = 0 ",
        "foreign_function 3 0 = 0 ",
        "foreign_function status 1 no such key",
        "foreign_function status 10 ",
        "foreign_function status 10 ",
        "foreign_function 4 0 = 0 ",
        "foreign_function status 0 ",
    ]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == [
        "plugin 'callouts': foreign function 'broken' raised ValueError: the shelf is empty",
        "plugin 'callouts': foreign function 'text' raised TypeError: it returned str, not bytes or None",
    ]


async def test_status_of_a_callout_outlives_a_foreign_answer(caplog: pytest.LogCaptureFixture) -> None:
    def answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes:
        cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
        return cut if b"/cut" in line else b"HTTP/1.1 204 OK\r\n\r\n"

    script = conf(configure=[http(b"/cut")], answer=[foreign("later")], foreign_function=[http(b"/ok")])
    async with raw(answer, closes=True) as (port, _), plugged(script, port, foreign_functions=[later]):
        await until(lambda: len(said(caplog, "^answer status")) >= 2)
    assert said(caplog, "^answer status")[:2] == ["answer status 11 reset", "answer status 11 "]
    assert "foreign_function status 0 " in answers(caplog)


async def test_paused_stream_is_resumed_by_the_answer_and_nobody_else_waits(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()

    async def wait(arguments: bytes) -> bytes:
        await gate.wait()
        return b"go"

    script = conf(request_headers=[foreign("wait"), "pause"], foreign_function=["stream", "resume 0"])
    async with plugged([script, ""], foreign_functions={"wait": wait}) as middleware:
        waiting = asyncio.ensure_future(request(middleware))
        await until(lambda: results(caplog, "request_headers"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        gate.set()
        assert (await waiting).body == b"app"


async def test_pending_functions_are_cancelled_and_awaited_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bytes] = []

    begun: list[bytes] = []

    async def endless(arguments: bytes) -> bytes:
        begun.append(arguments)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            ended.append(arguments)
        raise AssertionError("it was not cancelled")

    script = conf(configure=[foreign("endless", b"1"), foreign("endless", b"2")], root_done=[foreign("endless", b"3")])
    async with plugged(script, foreign_functions={"endless": endless}):
        await until(lambda: len(begun) == 2)
    assert sorted(ended) == [b"1", b"2"]
    assert answers(caplog) == []
    # Asked for while the plugin was told of its end: it got an id, and that was all.
    assert results(caplog, "root_done") == [(OK, b"\3\0\0\0")]


async def test_function_that_does_not_let_itself_be_cancelled(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.services.tasks.STOP_SECONDS", 0.05)
    begun, release = asyncio.Event(), asyncio.Event()

    async def stubborn(arguments: bytes) -> bytes:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return b""

    async with plugged(conf(configure=[foreign("stubborn")]), foreign_functions={"stubborn": stubborn}):
        await begun.wait()
    release.set()
    await asyncio.sleep(0.02)
    assert "1 calls of plugins went on for 0.05 s after they were cancelled" in caplog.text
    assert answers(caplog) == []


async def test_answer_to_a_failed_vm_is_dropped_and_ids_begin_anew_in_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = asyncio.Event()

    async def wait(arguments: bytes) -> bytes:
        await gate.wait()
        return b"late"

    script = conf(configure=[foreign("wait")], request_headers=["trap"])
    async with plugged(script, foreign_functions={"wait": wait}) as middleware:
        for _ in range(2):
            assert (await request(middleware)).status == 503
        gate.set()
        await asyncio.sleep(0.05)
    # Both VMs failed before the answers came.
    assert results(caplog) == [(OK, b"\1\0\0\0")] * 2
    assert answers(caplog) == []


async def test_functions_of_a_failed_vm_are_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is there to answer; else a plugin that fails and fails again would have any number of them."""
    began, cancelled = 0, 0

    async def endless(_: bytes) -> bytes:
        nonlocal began, cancelled
        began += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return b""

    script = conf(configure=[foreign("endless")], request_headers=["trap"])
    async with plugged(script, foreign_functions={"endless": endless}) as middleware:
        await until(lambda: began == 1)
        assert (await request(middleware)).status == 503
        await until(lambda: cancelled == 1)
    assert answers(caplog) == []
