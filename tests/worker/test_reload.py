"""Reload: new plugins beside the old ones; what cannot start changes nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from asgi_wasm import PluginError, SettingsError, WasmMiddleware
from asgi_wasm.testing import Hostcalls
from asgi_wasm.worker.worker import Worker
from tests.driving import answering, request, until
from tests.guests import Guest, Wrap
from tests.worker.versions import HEADERS, Configured, Versions, version


async def test_new_requests_have_the_new_plugins(configured: Configured) -> None:
    configured.write("1")
    async with configured.served() as app:
        assert await version(app) == "1"
        configured.write("2")
        assert await version(app) == "1"
        await app.reload()
        assert await version(app) == "2"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("plugins: [", SettingsError),
        ("nonsense: 1", SettingsError),
        (f"plugins: [{{name: headers, file: {HEADERS}.not}}]", PluginError),
        (f"plugins: [{{name: headers, file: {HEADERS}, conf: '{{'}}]", PluginError),
        (f"plugins: [{{name: headers, file: {HEADERS}, conf: '{{', failure_policy: fail_open}}]", PluginError),
    ],
)
async def test_what_cannot_start_changes_nothing(configured: Configured, text: str, error: type[Exception]) -> None:
    configured.write("1")
    async with configured.served() as app:
        before = app._worker
        configured.file.write_text(text + "\n")
        with pytest.raises(error):
            await app.reload()
        assert app._worker is before
        assert await version(app) == "1"
        configured.write("2")
        await app.reload()
        assert await version(app) == "2"


async def test_reload_before_a_start_is_a_start(configured: Configured) -> None:
    configured.write("1")
    app = WasmMiddleware(answering(b"app"), settings=str(configured.file))
    await app.reload()
    assert await version(app) == "1"
    await app.stop()


async def test_shared_data_queues_and_metrics_live_on(wrap_guests: Wrap) -> None:
    seen: list[tuple[int, bytes | None, bytes | None]] = []

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        hits = api.define_metric(0, b"hits")
        api.increment_metric(hits, 1)
        count = api.get_metric(hits)
        token = api.register_shared_queue(b"q")
        waiting = api.dequeue_shared_queue(token)
        value = (api.get_shared_data(b"key") or (None, 0))[0]
        seen.append((count, value, waiting))
        api.set_shared_data(b"key", b"%d" % count)
        api.enqueue_shared_queue(token, b"%d" % count)
        return 0

    app = wrap_guests(answering(b"app"), Guest(on_request_headers=on_request_headers))
    async with app:
        for _ in range(3):
            await request(app)
            await app.reload()
    assert seen == [(1, None, None), (2, b"1", b"1"), (3, b"2", b"2")]


async def test_reloads_at_once_are_one_after_another(wrap_guests: Wrap) -> None:
    versions = Versions()

    app = wrap_guests(answering(b"app"), versions.guest)
    async with app:
        await asyncio.gather(*(app.reload() for _ in range(5)))
        assert (versions.starts, versions.ended) == (6, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("first", ["startup", "request"])
async def test_reloads_while_plugins_start(wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """They come after it, one after another; whoever asked for the start has it."""
    versions = Versions()
    start, starting, may_start = Worker.start, asyncio.Event(), asyncio.Event()

    async def slowly(worker: Worker, spec: Any) -> None:
        starting.set()
        await may_start.wait()
        await start(worker, spec)

    monkeypatch.setattr(Worker, "start", slowly)

    app = wrap_guests(answering(b"app"), versions.guest)
    begun = asyncio.ensure_future(app.start() if first == "startup" else request(app))
    await starting.wait()
    reloading = [asyncio.ensure_future(app.reload()) for _ in range(2)]
    asked = asyncio.ensure_future(request(app))
    await asyncio.sleep(0)
    assert (versions.starts, asked.done()) == (0, False)
    may_start.set()
    assert (await asked).body == b"app"
    await asyncio.gather(begun, *reloading)
    assert versions.starts == 3
    assert (await request(app)).header(b"x-version") == b"3"
    await until(lambda: versions.ended == [1, 2])
    await app.stop()
    assert versions.ended == [1, 2, 3]


async def test_a_stop_while_a_reload_starts_plugins(wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends those as well."""
    versions = Versions()
    start, starting, may_start = Worker.start, asyncio.Event(), asyncio.Event()

    app = wrap_guests(answering(b"app"), versions.guest)
    await app.start()

    async def slowly(worker: Worker, spec: Any) -> None:
        starting.set()
        await may_start.wait()
        await start(worker, spec)

    monkeypatch.setattr(Worker, "start", slowly)
    reloading = asyncio.ensure_future(app.reload())
    await starting.wait()
    stopping = asyncio.ensure_future(app.stop())
    await asyncio.sleep(0)
    may_start.set()
    await asyncio.gather(reloading, stopping)
    assert (versions.starts, versions.ended) == (2, [1, 2])
    assert not app.status().started


async def test_other_loops_follow(wrap_guests: Wrap) -> None:
    versions = Versions()
    asked, reloaded = threading.Event(), threading.Event()

    async def other(app: Any) -> None:
        assert (await request(app)).header(b"x-version") == b"2"
        asked.set()
        await until(reloaded.is_set)
        await until(lambda: versions.starts == 4)
        await until(lambda: len(versions.ended) == 2)
        assert (await request(app)).header(b"x-version") in (b"3", b"4")

    app = wrap_guests(answering(b"app"), versions.guest)
    async with app:
        thread = asyncio.ensure_future(asyncio.to_thread(asyncio.run, other(app)))
        await until(asked.is_set)
        await app.reload()
        reloaded.set()
        await thread


async def test_nothing_is_left_of_what_was_replaced(configured: Configured) -> None:
    configured.write("1")
    workers: list[weakref.ref[Any]] = []
    async with configured.served() as app:
        for _ in range(5):
            workers.append(weakref.ref(app._worker))
            assert await version(app) == "1"
            await app.reload()
        gc.collect()
        assert [worker() for worker in workers] == [None] * 5
