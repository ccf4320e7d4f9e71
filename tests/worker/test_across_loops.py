"""What loops and threads share on purpose is whole; what belongs to one is made anew in the next."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request, run, until
from tests.elsewhere import elsewhere
from tests.extras import LMDB_MISSING
from tests.guests import Guest, Wrap
from tests.redis_server import BINARY, MISSING, redis_server
from tests.serving import open_files
from tests.upstreams import raw

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
THREADS, TIMES = 6, 5
OK, CAS_MISMATCH = 0, 8
COUNTER, GAUGE, HISTOGRAM = 0, 1, 2


def in_loops(main: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Its results: one loop after another, then many in threads at once."""
    results = [run(main) for _ in range(3)]
    with ThreadPoolExecutor(THREADS) as pool:
        return results + list(pool.map(lambda _: run(main), range(THREADS)))


# --- made anew


def test_http_calls() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nalice"
    with elsewhere(lambda: raw(lambda *_: answer)) as (port, _):
        conf = {"upstream": "auth", "timeout_ms": 60_000}
        app = WasmMiddleware(
            answering(b"app"),
            plugins=[{"name": "a", "file": PLUGINS / "http_auth/rust.wasm", "conf": conf}],
            upstreams={"auth": f"http://127.0.0.1:{port}"},
            settings={},
        )

        async def main() -> list[bytes]:
            return [(await request(app)).body for _ in range(2)]

        assert in_loops(main) == [[b"app"] * 2] * (3 + THREADS)


def test_grpc_calls() -> None:
    pytest.importorskip("grpc", reason="grpcio has no wheel for this Python")
    from tests.grpc_server import grpc_server

    with elsewhere(grpc_server) as server:
        conf = {"stream": False, "timeout_ms": 60_000}
        app = WasmMiddleware(
            answering(b"app"),
            plugins=[{"name": "a", "file": PLUGINS / "grpc_auth/rust.wasm", "conf": conf}],
            upstreams={"auth": server.url},
            settings={},
        )

        async def main() -> list[bytes]:
            return [(await request(app, headers=[(b"x-user", b"alice")])).body for _ in range(2)]

        assert in_loops(main) == [[b"app"] * 2] * (3 + THREADS)


# --- shared


@pytest.fixture(params=["memory", "lmdb", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "memory://"
    elif request.param == "lmdb":
        if LMDB_MISSING:
            pytest.skip(LMDB_MISSING)
        yield f"lmdb://{tmp_path}/state"
    elif BINARY is None:
        pytest.skip(MISSING)
    else:
        with redis_server() as server:
            yield f"{server.url}?timeout=60"


class Counting:
    """Adds one to a shared value at each request, by compare and swap, and keeps what it came to."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_request_headers(self, api: Hostcalls, *_: int) -> int:
        while True:
            before, cas = api.get_shared_data(b"count") or (b"0", 0)
            count = int(before) + 1
            (status,) = api.call("set_shared_data", b"count", b"%d" % count, cas)
            if status == OK:
                self.counts.append(count)
                return 0
            assert status == CAS_MISMATCH


def test_shared_data(wrap_guests: Wrap, place: str) -> None:
    """No increment is lost between threads."""
    counting = Counting()
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=counting.on_request_headers), shared_data=place)

    async def main() -> None:
        for _ in range(TIMES):
            assert (await request(app)).body == b"app"

    # The first is alone: a key that is missing takes any number.
    run(lambda: request(app))
    in_loops(main)
    assert sorted(counting.counts) == list(range(1, TIMES * (3 + THREADS) + 2))


def test_state_in_memory_begins_anew_after_a_stop(wrap_guests: Wrap) -> None:
    """It goes on in the next loop, as for test clients that are not entered, until somebody stops the middleware."""
    counting = Counting()
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=counting.on_request_headers))

    async def life() -> None:
        async with app:
            await request(app)
            await request(app)

    for _ in range(2):
        run(life)
    for _ in range(3):
        run(lambda: request(app))
    assert counting.counts == [1, 2, 1, 2, 1, 2, 3]


def queueing(heard: list[tuple[str, bytes]]) -> Guest:
    """Registers a queue; puts something into it at each request; hears of it in whichever loop owns it."""
    tokens: list[int] = []

    def on_configure(api: Hostcalls, *_: int) -> int:
        tokens.append(api.register_shared_queue(b"q"))
        return 1

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        api.enqueue_shared_queue(tokens[0], threading.current_thread().name.encode())
        return 0

    def on_queue_ready(api: Hostcalls, root: int, token: int) -> None:
        value = api.dequeue_shared_queue(token)
        if value is not None:
            heard.append((threading.current_thread().name, value))

    return Guest(on_configure=on_configure, on_request_headers=on_request_headers, on_queue_ready=on_queue_ready)


def test_queues(wrap_guests: Wrap, place: str) -> None:
    """The last loop that registered a queue hears of it, in its own thread; when it ends, the one before."""
    heard: list[tuple[str, bytes]] = []
    app = wrap_guests(answering(b"app"), queueing(heard), shared_data=place)

    async def second() -> None:
        async with app:
            await request(app)
            await until(lambda: len(heard) == 1)
            went_on.set()
            await until(lambda: len(heard) == 2)

    async def first() -> None:
        async with app:
            thread = threading.Thread(target=lambda: asyncio.run(second()), name="second")
            thread.start()
            await until(went_on.is_set)
            await request(app)
            await asyncio.to_thread(thread.join)
            await request(app)
            await until(lambda: len(heard) == 3)

    went_on = threading.Event()
    here = threading.current_thread().name
    run(first)
    assert heard == [("second", b"second"), ("second", here.encode()), (here, here.encode())]


def test_what_a_closed_loop_did_not_hear_the_next_owner_hears(wrap_guests: Wrap) -> None:
    heard: list[tuple[str, bytes]] = []
    app = wrap_guests(answering(b"app"), queueing(heard))
    loop = asyncio.new_event_loop()
    task = loop.create_task(request(app))
    # The last step of this loop is the request's own.
    task.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    loop.close()

    async def main() -> None:
        await request(app)
        await until(lambda: len(heard) == 2)

    run(main)


def measuring(api: Hostcalls, *_: int) -> int:
    api.increment_metric(api.define_metric(COUNTER, b"hits"), 1)
    api.increment_metric(api.define_metric(GAUGE, b"level"), 1)
    api.record_metric(api.define_metric(HISTOGRAM, b"size"), 3)
    return 0


def test_metrics(wrap_guests: Wrap, place: str) -> None:
    """Each request counts once, whoever scrapes, wherever."""
    pytest.importorskip("prometheus_client")
    from asgi_wasm.services.metrics.registry import process_registry
    from tests.services.metrics.scraping import scrape

    process_registry.cache_clear()
    app = wrap_guests(answering(b"app"), Guest(on_request_headers=measuring), metrics=True, shared_data=place)

    async def main() -> None:
        for _ in range(TIMES):
            await request(app)
            await scrape()

    async def all_of_it() -> None:
        async with app:
            with ThreadPoolExecutor(THREADS) as pool:
                await asyncio.gather(
                    *(asyncio.get_running_loop().run_in_executor(pool, run, main) for _ in range(THREADS))
                )
            found = await scrape()
            total = THREADS * TIMES
            assert found.get("hits_total", plugin="g0") == found.get("size_count", plugin="g0") == total
            assert found.get("size_sum", plugin="g0") == 3 * total
            assert found.get("asgi_wasm_requests_total", answered_by="app") == total
            if place == "memory://":
                assert found.get("level", plugin="g0") == total
            assert found.get("asgi_wasm_vm_memory_bytes", plugin="g0")

    run(all_of_it)
    assert run(scrape).all("level") == {}
    assert process_registry().measures == []
    process_registry.cache_clear()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what a process has open is not told here")
@pytest.mark.parametrize("is_stopped", [True, False])
def test_files_of_code_are_closed_with_their_worker(tmp_path: Path, is_stopped: bool) -> None:
    """A test suite has thousands of loops, and does not wait for the garbage collector between them."""
    plugins = [{"name": "p", "file": PLUGINS / "headers" / "c.wasm"}]
    middleware = WasmMiddleware(answering(), settings={"plugins": plugins, "cache_dir": tmp_path})
    most = 0

    async def main() -> None:
        nonlocal most
        assert (await request(middleware)).status == 200
        most = max(most, open_files(tmp_path))
        if is_stopped:
            await middleware.stop()

    # What the first one compiles is not from a file.
    asyncio.run(main())
    gc.disable()
    try:
        for _ in range(3):
            asyncio.run(main())
            assert open_files(tmp_path) == 0
    finally:
        gc.enable()
    assert most > 0
