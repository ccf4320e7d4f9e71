"""A worker for each event loop: made at its first request, ended with it. A plugin does in each what it did before."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing, pausing
from tests.driving import answering, request, run, settled, until
from tests.guests import Guest, Wrap
from tests.worker.lives import living
from tests.worker.versions import HEADERS

THREADS = 8


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_plugins_end_with_the_loop(wrap_guests: Wrap, library: str) -> None:
    """In the loop, with every callback, however it was started."""
    run_loop = pytest.importorskip(library, reason=f"{library} has no wheel for this Python").run
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order))

    async def ask() -> None:
        assert (await request(app)).body == b"app"
        assert len(app._workers) == 1

    for _ in range(3):
        run_loop(ask())
        assert len(app._workers) == 0
    assert order == ["starts", "ends"] * 3


def test_restarts_in_one_process(wrap_guests: Wrap) -> None:
    """As a server does it that reloads, or a notebook: the lifespan of one loop after another's."""
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order))

    async def life(stops: bool) -> None:
        await app.start()
        assert (await request(app)).body == b"app"
        if stops:
            await app.stop()
            order.append("stopped")

    for stops in (True, False, True):
        run(partial(life, stops))
    assert order == ["starts", "ends", "stopped", "starts", "ends", "starts", "ends", "stopped"]


def test_loop_that_runs_again_keeps_its_worker(wrap_guests: Wrap) -> None:
    """`run_until_complete` for each request, as a test suite with one loop does; even from another thread."""
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order, on_request_headers=passing))
    loop = asyncio.new_event_loop()

    def ask() -> bytes:
        return loop.run_until_complete(request(app)).body

    assert [ask(), ask()] == [b"app"] * 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() == b"app"
    assert ask() == b"app"
    assert order == ["starts"]
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert order == ["starts", "ends"]


def test_each_loop_reads_the_settings_of_its_time(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    middleware = WasmMiddleware(answering(b"app"), settings=str(file))
    for value in ("1", "2"):
        conf = f'{{"response": {{"add": {{"x-plugin": "{value}"}}}}}}'
        file.write_text(f"plugins: [{{name: headers, file: {HEADERS}, conf: '{conf}'}}]\n")
        assert run(lambda: request(middleware)).header(b"x-plugin") == value.encode()


async def passed(app: WasmMiddleware) -> bytes:
    return (await request(app)).body


def test_ticks_in_each_loop(wrap_guests: Wrap) -> None:
    ticks: list[int] = []
    guest = Guest(
        on_configure=lambda api, *_: api.set_tick_period_milliseconds(1) or 1, on_tick=lambda *_: ticks.append(1)
    )
    app = wrap_guests(answering(b"app"), guest)

    async def main() -> None:
        ticks.clear()
        await request(app)
        await until(lambda: len(ticks) > 1)

    for _ in range(3):
        run(main)
    so_far = len(ticks)
    run(settled)
    assert len(ticks) == so_far


def test_pause_times_out_in_each_loop(wrap_guests: Wrap) -> None:
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=pausing), pause_timeout=0.01)
    assert [run(lambda: request(app)).status for _ in range(3)] == [504] * 3


def test_foreign_functions_in_each_loop(wrap_guests: Wrap) -> None:
    async def double(argument: bytes) -> bytes:
        await asyncio.sleep(0.001)
        return argument * 2

    waiting: list[int] = []

    def on_request_headers(api: Hostcalls, context: int, *_: int) -> int:
        waiting.append(context)
        api.call_foreign_function(b"double", b"ab")
        return 1

    def on_foreign_function(api: Hostcalls, *_: int) -> None:
        api.set_effective_context(waiting.pop())
        api.continue_stream(0)

    guest = Guest(on_request_headers=on_request_headers, on_foreign_function=on_foreign_function)
    app = wrap_guests(answering(b"app"), guest, foreign_functions={"double": double})
    assert [run(lambda: passed(app)) for _ in range(3)] == [b"app"] * 3
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(lambda _: run(lambda: passed(app)), range(3))) == [b"app"] * 3


def test_log_of_each_loop(wrap_guests: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    app = wrap_guests(answering(b"app"), Guest(on_response_headers=lambda api, *_: api.log(b"a word")))
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: run(lambda: request(app)), range(THREADS)))
    assert caplog.text.count("a word") == THREADS
