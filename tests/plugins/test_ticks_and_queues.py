"""Ticks and queues: when they call a plugin, and how a paused stream goes on from there."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from asgi_wasm.host.vm.vm import WasmVM
from tests.driving import Response, answering, request, until
from tests.plugins.callouts import conf, enqueue, get, plugged, register, said


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def ticks(caplog: pytest.LogCaptureFixture) -> int:
    return len(said(caplog, "^tick get"))


TICK = get(b"plugin_name")


async def test_ticks_come_until_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    async with plugged(conf(configure=["period 5"], tick=[TICK])):
        assert ticks(caplog) == 0
        await until(lambda: ticks(caplog) >= 3)
    at_stop = ticks(caplog)
    await asyncio.sleep(0.05)
    assert ticks(caplog) == at_stop


async def test_period_of_zero_stops_them_from_inside_a_tick(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with plugged(conf(configure=["period 5"], tick=[TICK, "period 0"])):
            await until(lambda: ticks(caplog))
            await asyncio.sleep(0.05)

    await main()
    assert ticks(caplog) == 1
    assert "Exception in callback" not in caplog.text


async def test_period_set_again_in_each_tick_makes_no_second_timer(caplog: pytest.LogCaptureFixture) -> None:
    time = asyncio.get_running_loop().time
    async with plugged(conf(configure=["period 20"], tick=[TICK, "period 20"])):
        await until(lambda: ticks(caplog))
        before, began = ticks(caplog), time()
        await asyncio.sleep(0.3)
        # Two timers would become four, eight, …
        assert ticks(caplog) - before <= (time() - began) / 0.02 + 1


async def test_period_changed_from_inside_a_tick(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with plugged(conf(configure=["period 5"], tick=[TICK, "period 5000"])):
            await until(lambda: ticks(caplog))
            await asyncio.sleep(0.05)

    await main()
    assert ticks(caplog) == 1


async def test_new_period_replaces_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    async with plugged(conf(configure=["period 60000"], request_headers=["period 5"], tick=[TICK])) as middleware:
        await asyncio.sleep(0.05)
        assert ticks(caplog) == 0
        await request(middleware)
        await until(lambda: ticks(caplog) >= 2)


async def test_period_is_the_root_contexts_and_ends_with_its_vm(caplog: pytest.LogCaptureFixture) -> None:
    async with plugged(conf(request_body=["period 5"], tick=["trap"])) as middleware:

        def failures() -> int:
            return middleware.status().plugins[0].failures

        await request(middleware, "POST", body=[b"a"])
        await until(lambda: failures() == 1)
        # A fresh VM, whose root context has asked for nothing.
        assert (await request(middleware)).body == b"app"
        await asyncio.sleep(0.05)
        assert failures() == 1
        await request(middleware, "POST", body=[b"a"])
        await until(lambda: failures() == 2)
    # The same once more is not written so soon.
    assert caplog.text.count("its VM failed in proxy_on_tick") == 1


@pytest.mark.parametrize(
    ("ending", "status", "body"), [("resume 0", 200, b"app"), ("reply 403", 403, b"replied")], ids=["resume", "reply"]
)
@pytest.mark.parametrize("callback", ["tick", "queue"])
async def test_paused_request_goes_on(
    caplog: pytest.LogCaptureFixture, callback: str, ending: str, status: int, body: bytes
) -> None:
    steps = {
        "configure": [register(b"q")],
        "request_headers": ["period 5" if callback == "tick" else enqueue(b"x"), "pause"],
        callback: ["stream", "header 0 :path", ending, *(["period 0"] if callback == "tick" else [])],
    }

    async def main() -> Response:
        async with plugged(conf(**steps)) as middleware:
            return await request(middleware, path="/here")

    response = await main()
    assert (response.status, response.body) == (status, body)
    assert said(caplog, " header 0") == [f"{callback} header 0 = 0 /here"]


async def test_paused_response_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Response:
        script = conf(response_headers=["period 5", "pause"], tick=["stream", "resume 1", "period 0"])
        async with plugged(script) as middleware:
            return await request(middleware)

    assert (await main()).body == b"app"


@pytest.mark.parametrize("callback", ["request_headers", "response_headers", "response_body"])
async def test_root_context_alone_resumes_nothing(caplog: pytest.LogCaptureFixture, callback: str) -> None:
    """As in Envoy the hostcall is fine; the pause then ends by its timeout."""

    async def main() -> Response:
        steps = {callback: ["period 5", "pause"], "tick": ["resume 0", "resume 1"]}
        # With a length the head waits for the body's verdict, so that it can still be answered.
        app = answering(b"app", headers=[(b"content-length", b"3")])
        async with plugged(conf(**steps), app=app, settings={"pause_timeout": 0.2}) as middleware:
            return await request(middleware)

    response = await main()
    assert response.status == 504
    assert "tick resume 0 = 0" in said(caplog)
    assert "plugin 'callouts': paused a stream for 0.2 s: it is answered 504" in caplog.text


async def test_pause_of_a_body_whose_head_is_out_ends_in_a_cut(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Response:
        async with plugged(conf(response_body=["pause"]), settings={"pause_timeout": 0.1}) as middleware:
            return await request(middleware)

    response = await main()
    assert (response.status, response.chunks) == (200, [])
    assert "a response was cut off" in caplog.text


async def test_queue_calls_after_the_callback_once_a_value(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        script = conf(
            configure=[register(b"q")],
            request_headers=[enqueue(b"a"), enqueue(b"b"), get(b"plugin_name")],
            queue=["dequeue"],
        )
        async with plugged(script) as middleware:
            await request(middleware)
            await until(lambda: len(said(caplog, "^queue")) == 2)

    await main()
    assert said(caplog, "^(request_headers|queue)") == [
        "request_headers enqueue 61 = 0",
        "request_headers enqueue 62 = 0",
        f"request_headers get {b'plugin_name'.hex()} = 0 {b'callouts'.hex()}",
        "queue dequeue  = 0 61",
        "queue dequeue  = 0 62",
    ]


async def test_queue_may_be_filled_from_its_own_callback(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        script = conf(
            configure=[register(b"q"), enqueue(b"a")], queue=["dequeue", "dequeue", enqueue(b"b"), enqueue(b"c")]
        )
        async with plugged(script):
            await until(lambda: len(said(caplog, "^queue dequeue")) >= 6)

    await main()
    lines = said(caplog, "^queue")
    # Four lines a callback: none began before the one before it was over.
    assert [line.split()[1] for line in lines[:8]] == ["dequeue", "dequeue", "enqueue", "enqueue"] * 2


async def test_ticks_of_a_dead_vm_do_not_keep_it(caplog: pytest.LogCaptureFixture) -> None:
    """However long the period: a client that makes a plugin trap could otherwise fill the memory."""

    def living() -> int:
        gc.collect()
        # By type: asked for its class, a weak proxy asks what it stands for.
        return sum(type(found) is WasmVM for found in gc.get_objects())

    async with plugged(conf(configure=["period 3600000"], request_body=["trap"])) as middleware:
        before = living()
        for _ in range(5):
            await request(middleware, "POST", body=[b"a"])
        assert living() <= before
