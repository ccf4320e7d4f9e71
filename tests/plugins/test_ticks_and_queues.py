"""Ticks and queues: when they call a plugin, and how a paused stream goes on from there."""

from __future__ import annotations

import gc

import pytest

from asgi_wasm.host.vm.vm import WasmVM
from asgi_wasm.testing import WasmPlugin
from tests.plugins.callouts import enqueue, get, lines, register
from tests.plugins.conftest import Make
from tests.waiting import until


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


async def test_period_is_the_root_contexts_and_ends_with_its_vm(scripted: Make) -> None:
    plugin = scripted(request_body=["period 5"], tick=["trap"])

    def failures() -> int:
        return plugin.middleware.status().plugins[0].failures

    await plugin.post(body=b"a")
    await plugin.advance(0.005)
    assert failures() == 1
    # A fresh VM, whose root context has asked for nothing.
    assert (await plugin.get()).status == 200
    await plugin.advance(5)
    assert failures() == 1
    await plugin.post(body=b"a")
    await plugin.advance(0.005)
    assert failures() == 2


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
async def test_root_context_alone_resumes_nothing(scripted: Make, callback: str) -> None:
    """As in Envoy the hostcall is fine; the pause then ends by its timeout."""
    steps = {callback: ["period 5", "pause"], "tick": ["resume 0", "resume 1"]}
    plugin = scripted(**steps, settings={"pause_timeout": 2})
    # With a length the head waits for the body's verdict, so that it can still be answered.
    plugin.app.respond(body=b"app")
    request = plugin.begin("GET")
    await plugin.advance(1.999)
    assert not request.done()
    await plugin.advance(0.002)
    assert (await request).status == 504
    assert "tick resume 0 = 0" in lines(plugin)
    assert "paused a stream for 2 s: it is answered 504" in [line.text for line in plugin.logs if line.by_host]


async def test_pause_of_a_body_whose_head_is_out_ends_in_a_cut(scripted: Make) -> None:
    plugin = scripted(response_body=["pause"], settings={"pause_timeout": 2})
    plugin.app.respond(body=[b"app"])
    request = plugin.begin("GET")
    await plugin.advance(2)
    exchange = await request
    assert (exchange.status, exchange.chunks, exchange.was_reset) == (200, [], True)
    assert any("a response was cut off" in line.text for line in plugin.logs)


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


async def test_queue_may_be_filled_from_its_own_callback(scripted: Make) -> None:
    plugin = scripted(
        configure=[register(b"q"), enqueue(b"a")], queue=["dequeue", "dequeue", enqueue(b"b"), enqueue(b"c")]
    )
    await plugin.start()
    # Each call makes two more, so here nothing may wait until all is still.
    await until(lambda: len(lines(plugin, "^queue dequeue")) >= 6)
    await plugin.stop()
    found = lines(plugin, "^queue")
    # Four lines a callback: none began before the one before it was over.
    assert [line.split()[1] for line in found[:8]] == ["dequeue", "dequeue", "enqueue", "enqueue"] * 2


async def test_ticks_of_a_dead_vm_do_not_keep_it(scripted: Make) -> None:
    """However long the period: a client that makes a plugin trap could otherwise fill the memory."""

    def living() -> int:
        gc.collect()
        # By type: asked for its class, a weak proxy asks what it stands for.
        return sum(type(found) is WasmVM for found in gc.get_objects())

    plugin = scripted(configure=["period 3600000"], request_body=["trap"])
    await plugin.start()
    before = living()
    for _ in range(5):
        await plugin.post(body=b"a")
    # What the kit keeps of calls knows their VM.
    plugin.recorder.every_call.clear()
    plugin.app.requests.clear()
    assert living() <= before
