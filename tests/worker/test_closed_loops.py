"""Event loops that end without a word, and middlewares that nobody has any more: nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from tests.asgi.acting import passing, pausing
from tests.driving import Connection, answering, request, run, until
from tests.guests import Guest, Wrap
from tests.plugins.conftest import PLUGINS
from tests.worker.lives import living


@pytest.mark.parametrize("where", ["here", "in another thread"])
def test_loop_closed_without_a_word(wrap_guests: Wrap, where: str) -> None:
    """Its plugins are freed when the next loop comes, and hear nothing: they may not be entered outside of it."""
    order: list[str] = []
    app = wrap_guests(answering(b"app"), living(order))

    def ask() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(request(app))
        loop.close()

    for _ in range(5):
        if where == "here":
            ask()
        else:
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        assert len(app._workers) == 1
    run(lambda: request(app))
    assert len(app._workers) == 0
    assert order == ["starts"] * 6 + ["ends"]


# Nothing can be awaited where Python throws away what was never finished.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("tidily", [True, False])
def test_loop_closed_while_a_request_is_paused(wrap_guests: Wrap, tidily: bool) -> None:
    guest = Guest(on_request_headers=pausing)
    app = wrap_guests(answering(b"app"), guest)

    async def pause() -> None:
        connection = Connection(app)
        await until(lambda: guest.created)
        connections.append(connection)

    connections: list[Connection] = []
    for _ in range(3):
        if tidily:
            asyncio.run(pause())
            assert guest.deleted == guest.created
        else:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(pause())
            loop.close()
            # What Python says of a task that never ended is its owner's affair.
            loop.call_exception_handler = lambda context: None  # type: ignore[method-assign]
        guest.created.clear()
        guest.deleted.clear()
    connections.clear()

    async def serve() -> None:
        connection = Connection(app)
        await until(lambda: guest.created)
        await app.stop()
        assert (await connection.over()).status == 503

    run(serve)
    gc.collect()


def test_middleware_that_nobody_has_any_more_ends_in_its_loop(wrap_guests: Wrap) -> None:
    """As in a test suite with one loop for all tests, whose clients are not entered."""
    order: list[str] = []
    ticks: list[int] = []

    async def main() -> None:
        guest = living(
            order,
            on_tick=lambda *_: ticks.append(1),
            on_vm_start=lambda api, *_: api.set_tick_period_milliseconds(1) or 1,
        )
        app = wrap_guests(answering(b"app"), guest)
        await request(app)
        await until(lambda: ticks)
        gone = weakref.ref(app)
        del app
        # Newer Pythons clear a weak reference after what finalizers do, which here is the event loop's to do.
        await until(lambda: gc.collect() >= 0 and gone() is None)
        await until(lambda: "ends" in order)
        ticks.clear()
        await asyncio.sleep(0.02)
        assert ticks == []

    run(main)
    assert order == ["starts", "ends"]


def test_many_loops_leave_nothing(wrap_guests: Wrap) -> None:
    """As many as a large test suite has."""
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=passing))
    seen: list[weakref.ref[Any]] = []

    async def ask() -> None:
        await request(app)
        seen.append(weakref.ref(app._worker))

    for _ in range(300):
        run(ask)
    gc.collect()
    assert [worker for worker in seen if worker() is not None] == []
    assert app._workers._places == {}


def test_a_closed_loop_is_let_go(wrap_guests: Wrap) -> None:
    app = wrap_guests(answering(b"app"), Guest())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(request(app))
    gone = weakref.ref(loop)
    loop.close()
    del loop
    run(lambda: request(app))
    gc.collect()
    assert gone() is None
    assert app._workers._places == {}


def test_a_middleware_that_the_garbage_collector_takes_enters_no_freed_vm() -> None:
    """Finalizers of a whole cycle run before what one of them lets live again: the stores are gone by then."""

    async def main() -> None:
        for _ in range(3):
            plugin = {"name": "p", "file": PLUGINS / "lifecycle" / "abi_0_2_1.wasm"}
            middleware = WasmMiddleware(answering(b"app"), settings={"plugins": [plugin]})
            await middleware.start()
            assert (await request(middleware)).status == 200
            del middleware
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0)

    asyncio.run(main())
