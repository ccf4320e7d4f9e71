"""Tests that wait for what never comes, and for what never ends: each is told at once, or as soon as it is sure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from asgi_wasm import foreign_function
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.testing import Action, Guest, Hostcalls, NotAnsweredError, NotSettledError, SyncWasmPlugin, WasmPlugin

Make = Callable[..., SyncWasmPlugin]
MakeAsync = Callable[..., WasmPlugin]
PAUSING = Guest(on_request_headers=lambda *_: Action.PAUSE)
STUCK = "^nothing can answer it: plugin 'guest' paused it in on_request_headers, and nothing resumed it"


# --- pauses. The real time that a test has patience is longer than that of this test


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.testing.hosted._PATIENCE", 3600.0)


@pytest.mark.usefixtures("endless")
def test_a_request_that_is_waited_for(sync_wasm_plugin: Make) -> None:
    with pytest.raises(NotAnsweredError, match=STUCK):
        sync_wasm_plugin(PAUSING).get()


@pytest.mark.usefixtures("endless")
async def test_a_request_that_is_awaited(wasm_plugin: MakeAsync) -> None:
    with pytest.raises(NotAnsweredError, match=STUCK):
        await wasm_plugin(PAUSING).get()


@pytest.mark.usefixtures("endless")
def test_a_request_that_is_waited_for_later(sync_wasm_plugin: Make) -> None:
    """The test may do something before, and until then it waits."""
    plugin = sync_wasm_plugin(PAUSING, settings={"pause_timeout": 100})
    first, second = plugin.begin("GET"), plugin.begin("GET")
    for _ in range(9):
        plugin.advance(10)
    assert not first.done and not second.done
    with pytest.raises(NotAnsweredError, match=STUCK):
        first.result()
    plugin.advance(10)
    assert second.result().status == 504


@pytest.mark.usefixtures("endless")
async def test_another_task_may_end_it(wasm_plugin: MakeAsync) -> None:
    plugin = wasm_plugin(PAUSING, settings={"pause_timeout": 5})

    async def later() -> None:
        await asyncio.sleep(0.1)
        await plugin.advance(5)

    exchange, _ = await asyncio.gather(plugin.get(), later())
    assert exchange.status == 504


@pytest.mark.usefixtures("endless")
def test_a_foreign_function_may_end_it(sync_wasm_plugin: Make) -> None:
    """It takes real time."""

    @foreign_function("soon")
    async def soon(_arguments: bytes) -> bytes:
        await asyncio.sleep(0.1)
        return b"done"

    def ask(host: Hostcalls, *_: int) -> Action:
        host.call_foreign_function(b"soon")
        return Action.PAUSE

    def go_on(host: Hostcalls, *_: int) -> None:
        host.set_effective_context(2)
        host.continue_stream(0)

    guest = Guest(on_request_headers=ask, on_foreign_function=go_on)
    assert sync_wasm_plugin(guest, foreign_functions=[soon]).get().status == 200


@pytest.mark.usefixtures("endless")
def test_an_app_may_end_it(sync_wasm_plugin: Make) -> None:
    """Of the test's own, which takes real time until it has said all that the plugin waits for."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"app"})

    def hold(_host: Hostcalls, _context: int, _size: int, end: int) -> Action:
        return Action.CONTINUE if end else Action.PAUSE

    assert sync_wasm_plugin(Guest(on_response_body=hold), app=app).get().body == b"app"
    with pytest.raises(NotAnsweredError, match=STUCK):
        # Before it is asked.
        sync_wasm_plugin(PAUSING, app=app).get()


def test_another_process_may_end_it(sync_wasm_plugin: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a store that it has, too."""
    pytest.importorskip("lmdb", reason="the extra lmdb is not installed on this Python")
    monkeypatch.setattr("asgi_wasm.testing.hosted._PATIENCE", 0.05)
    plugin = sync_wasm_plugin(PAUSING, settings={"shared_data": f"lmdb://{tmp_path}/state"})
    with pytest.raises(NotAnsweredError, match=r"^nothing was answered within 0\.05 s: plugin 'guest' paused it"):
        plugin.get()


# --- what goes on and on


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.testing.patience.MOST_CALLBACKS", 100)


def fill(host: Hostcalls) -> None:
    host.call("enqueue_shared_queue", 1, b"x")


@pytest.mark.usefixtures("few")
def test_a_queue_that_its_reader_fills(sync_wasm_plugin: Make) -> None:
    """With two for each that it takes: every turn of the event loop is twice as long as the one before."""

    def configure(host: Hostcalls, *_: int) -> bool:
        host.register_shared_queue(b"q")
        return True

    def refill(host: Hostcalls, *_: int) -> None:
        host.call("dequeue_shared_queue", 1)
        fill(host)
        fill(host)

    def ask(host: Hostcalls, *_: int) -> Action:
        fill(host)
        return Action.CONTINUE

    plugin = sync_wasm_plugin(Guest(on_configure=configure, on_queue_ready=refill, on_request_headers=ask))
    told = (
        r"plugin 'guest' does not come to rest: on_queue_ready came 1\d\d times while the clock stands still, and goes"
    )
    with pytest.raises(NotSettledError, match=told):
        plugin.get()


@pytest.mark.usefixtures("few")
def test_more_ticks_than_anybody_waits_for(sync_wasm_plugin: Make) -> None:
    def configure(host: Hostcalls, *_: int) -> bool:
        host.set_tick_period_milliseconds(10)
        return True

    plugin = sync_wasm_plugin(Guest(on_configure=configure, on_tick=lambda *_: None))
    plugin.advance(1)
    told = r"plugin 'guest' does not come to rest: on_tick came 101 times in the first 1\.01 s of 3600, and goes on"
    with pytest.raises(NotSettledError, match=told):
        plugin.advance(3600)
    # The test may go on, from there.
    plugin.advance(1)
    assert len(plugin.callbacks.named("on_tick")) == 301
