"""Ticks and queues: when they call a plugin, and how a paused stream goes on from there."""

from __future__ import annotations

import asyncio
import gc
import logging
import re

import pytest

from asgi_wasm.host.vm.vm import WasmVM
from asgi_wasm.testing import WasmPlugin
from tests.driving import Response, answering, request, until
from tests.plugins.callouts import conf, enqueue, get, plugged, register, said
from tests.plugins.conftest import PLUGINS, Make


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def scripted(wasm_plugin: Make) -> Make:
    """The plugin `callouts` with steps of its callbacks, in a time that the test moves."""
    return lambda **steps: wasm_plugin(PLUGINS / "callouts/c.wasm", conf(**steps), name="callouts")


def lines(plugin: WasmPlugin, pattern: str = "") -> list[str]:
    """What it has said so far, where the pattern is found."""
    return [line.text for line in plugin.logs if not line.by_host and re.search(pattern, line.text)]


def ticks(plugin: WasmPlugin) -> int:
    return len(lines(plugin, "^tick get"))


TICK = get(b"plugin_name")


async def test_ticks_come_until_the_server_stops(scripted: Make) -> None:
    plugin = scripted(configure=["period 5"], tick=[TICK])
    await plugin.advance(0.004)
    assert ticks(plugin) == 0
    await plugin.advance(0.011)
    assert ticks(plugin) == 3
    await plugin.stop()
    await plugin.clock.advance(1)
    assert ticks(plugin) == 3


async def test_period_of_zero_stops_them_from_inside_a_tick(scripted: Make) -> None:
    plugin = scripted(configure=["period 5"], tick=[TICK, "period 0"])
    await plugin.advance(60)
    assert ticks(plugin) == 1


async def test_period_set_again_in_each_tick_makes_no_second_timer(scripted: Make) -> None:
    plugin = scripted(configure=["period 20"], tick=[TICK, "period 20"])
    await plugin.advance(0.3)
    # Two timers would become four, eight, …
    assert ticks(plugin) == 15


async def test_period_changed_from_inside_a_tick(scripted: Make) -> None:
    plugin = scripted(configure=["period 5"], tick=[TICK, "period 5000"])
    await plugin.advance(5)
    assert ticks(plugin) == 1
    await plugin.advance(0.005)
    assert ticks(plugin) == 2


async def test_new_period_replaces_the_old_one(scripted: Make) -> None:
    plugin = scripted(configure=["period 60000"], request_headers=["period 5"], tick=[TICK])
    await plugin.advance(59)
    assert ticks(plugin) == 0
    await plugin.get()
    await plugin.advance(0.01)
    assert ticks(plugin) == 2


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
async def test_paused_request_goes_on(scripted: Make, callback: str, ending: str, status: int, body: bytes) -> None:
    steps = {
        "configure": [register(b"q")],
        "request_headers": ["period 5" if callback == "tick" else enqueue(b"x"), "pause"],
        callback: ["stream", "header 0 :path", ending, *(["period 0"] if callback == "tick" else [])],
    }
    plugin = scripted(**steps)
    plugin.app.respond(body=b"app")
    paused = plugin.begin("GET", "/here")
    await plugin.advance(0.004)
    assert not (callback == "tick" and paused.done())
    await plugin.advance(0.001)
    exchange = await paused
    assert (exchange.status, exchange.body) == (status, body)
    assert lines(plugin, " header 0") == [f"{callback} header 0 = 0 /here"]


async def test_paused_response_goes_on(scripted: Make) -> None:
    plugin = scripted(response_headers=["period 5", "pause"], tick=["stream", "resume 1", "period 0"])
    plugin.app.respond(body=b"app")
    paused = plugin.begin("GET")
    await plugin.advance(0.004)
    assert not paused.done()
    await plugin.advance(0.001)
    assert (await paused).body == b"app"


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


async def test_queue_calls_after_the_callback_once_a_value(scripted: Make) -> None:
    plugin = scripted(
        configure=[register(b"q")],
        request_headers=[enqueue(b"a"), enqueue(b"b"), get(b"plugin_name")],
        queue=["dequeue"],
    )
    await plugin.get()
    assert lines(plugin, "^(request_headers|queue)") == [
        "request_headers enqueue 61 = 0",
        "request_headers enqueue 62 = 0",
        f"request_headers get {b'plugin_name'.hex()} = 0 {b'callouts'.hex()}",
        "queue dequeue  = 0 61",
        "queue dequeue  = 0 62",
    ]


async def test_queue_may_be_filled_from_its_own_callback(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(configure=[register(b"q"), enqueue(b"a")], queue=["dequeue", "dequeue", enqueue(b"b"), enqueue(b"c")])
    # Each call makes two more, so here nothing may wait until all is still.
    async with plugged(script):
        await until(lambda: len(said(caplog, "^queue dequeue")) >= 6)
    found = said(caplog, "^queue")
    # Four lines a callback: none began before the one before it was over.
    assert [line.split()[1] for line in found[:8]] == ["dequeue", "dequeue", "enqueue", "enqueue"] * 2


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
