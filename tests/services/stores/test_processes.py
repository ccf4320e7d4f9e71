"""Several processes over one store, and some of them die."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

from asgi_wasm.host.abi import MetricType
from tests.driving import until
from tests.services.stores.conftest import Place
from tests.services.stores.listening import Listener
from tests.services.stores.worker import worker
from tests.waiting import wait_until

TIMES = 2000
# Of the one that is killed meanwhile.
ENDLESS = 10**9


async def test_no_update_is_lost_when_one_is_killed(shared_place: Place, tmp_path: Path) -> None:
    outputs = [tmp_path / f"{number}.txt" for number in range(3)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                worker(shared_place.url, "count", str(times), output=stack.enter_context(output.open("wb")))
            )
            for output, times in zip(outputs, (ENDLESS, TIMES, TIMES), strict=True)
        ]
        wait_until(lambda: all(map(counted, outputs)))
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        wait_until(lambda: counted(outputs[0]) > TIMES // 10)
        processes[0].kill()
        assert [process.wait() for process in processes[1:]] == [0, 0]
        processes[0].wait()
    # Without the line that said "ready".
    told = [counted(output) - 1 for output in outputs]
    assert told[0] > TIMES // 20, "it was killed in the middle"
    assert told[1:] == [TIMES, TIMES]

    async with shared_place.stores(1) as (store,):
        final = int((store.shared_data.get("vm", b"count") or (b"0", 0))[0])
        # The killed one may have counted once without telling it.
        assert final - sum(told) in (0, 1)
        assert store.metrics.value("p", MetricType.COUNTER, "count") - sum(told) in (0, 1)


def counted(path: Path) -> int:
    return path.read_bytes().count(b"\n")


async def line(process: Popen[bytes]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).decode().strip()


async def test_a_queue_wakes_its_owner_in_another_process_and_the_next_when_that_is_killed(shared_place: Place) -> None:
    async with shared_place.stores(1) as (store,):
        here = Listener(store)
        token = store.queues.register("vm", b"q", here.root)
        with worker(shared_place.url, "listen", "3") as process:
            assert await line(process) == "registered"
            assert store.queues.resolve("vm", b"q") == token
            for value in (b"one", b"two"):
                store.queues.enqueue(token, value)
                assert await line(process) == value.decode()
            assert here.heard == []
            process.kill()
            process.wait()
        store.queues.enqueue(token, b"three")
        await until(lambda: here.heard == [token])
        assert store.queues.dequeue(token) == b"three"


async def test_values_wait_for_an_owner(shared_place: Place) -> None:
    with worker(shared_place.url, "listen", "1") as process:
        assert await line(process) == "registered"
        process.kill()
        process.wait()
    async with shared_place.stores(1) as (store,):
        token = store.queues.resolve("vm", b"q")
        assert token is not None
        assert store.queues.enqueue(token, b"kept")
        owner = Listener(store)
        assert store.queues.register("vm", b"q", owner.root) == token
        assert store.queues.dequeue(token) == b"kept"
        assert owner.heard == []
