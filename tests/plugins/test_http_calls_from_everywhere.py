"""HTTP calls from each callback, and what ends them; the test plays the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from asgi_wasm import PluginStartError
from asgi_wasm.testing import WasmHost
from tests.driving import settled
from tests.plugins.callouts import conf, http, lines
from tests.plugins.conftest import PLUGINS, Make

Chain = Callable[..., WasmHost]
ANSWERED = "answer header :status: 200"


@pytest.fixture
def chain(wasm_host: Chain) -> Chain:
    """The plugin `callouts` several times, each with steps of its own; the last one is the innermost."""

    def make(*scripts: str) -> WasmHost:
        file, names = PLUGINS / "callouts/c.wasm", ("callouts", "second", "third")
        # Each a VM of its own, since each is to have its own steps.
        named = zip(names, scripts, strict=False)
        return wasm_host(
            {"plugins": [{"name": name, "file": file, "conf": text, "vm_id": name} for name, text in named]}
        )

    return make


def under_way() -> int:
    return sum("HttpCalls" in repr(task) for task in asyncio.all_tasks())


@pytest.mark.parametrize(
    "callback",
    [
        "configure",
        "request_headers",
        "request_body",
        "response_headers",
        "response_body",
        "log",
        "done",
        "answer",
        "tick",
        "queue",
    ],
)
async def test_from_every_callback(scripted: Make, callback: str) -> None:
    steps: dict[str, list[str]] = {
        "configure": ["register 71"],
        "request_headers": ["enqueue 61", "period 5"],
        "queue": ["dequeue"],
        "tick": ["period 0"],
        "answer": [],
    }
    if callback == "answer":
        steps["tick"].append(http(b"/first"))
    steps.setdefault(callback, []).append(http(b"/" + callback.encode()))
    plugin = scripted(**steps)
    plugin.upstream("up").respond(200, "ok")
    plugin.app.respond(body="app")
    assert (await plugin.post(body=b"x")).body == b"app"
    await plugin.advance(0.005)
    assert len(lines(plugin, ANSWERED)) >= (2 if callback == "answer" else 1)
    last = plugin.upstream("up").calls[-1]
    assert (last.method, last.target) == ("GET", f"/{callback}")


async def test_from_on_vm_start(scripted: Make) -> None:
    plugin = scripted(vm_conf=conf(vm_start=[http()]))
    plugin.upstream("up").respond()
    await plugin.advance(0)
    assert lines(plugin, ANSWERED)


async def test_from_the_end_of_a_root_context_nothing_is_called(scripted: Make) -> None:
    plugin = scripted(root_done=[http(), "period 5"], tick=["period 5"])
    plugin.upstream("up").respond()
    await plugin.start()
    await plugin.stop()
    await plugin.clock.advance(1)
    assert plugin.upstream("up").calls == []
    assert lines(plugin) == ["root_done http up = 0 token 4", "root_done period 5 = 0"]


async def test_several_plugins_of_a_chain_at_once(chain: Chain) -> None:
    """The first two call and pause in turn; the third calls without waiting for its answer."""
    waiting = conf(request_headers=[http(b"/wait"), "pause"], answer=["header 0 :path", "resume 0"])
    host = chain(waiting, waiting, conf(request_headers=[http(b"/ask")]))
    host.upstream("up").respond()
    assert (await host.get("/here?x")).status == 200
    await host.advance(0)
    assert lines(host, "answer header :status", "third")
    assert sorted(call.target for call in host.upstream("up").calls) == ["/ask", "/wait", "/wait"]
    for name in ("callouts", "second"):
        assert lines(host, "answer header 0|resume", name) == ["answer header 0 = 0 /here?x", "answer resume 0 = 0"]


async def test_many_at_once_each_resumes_its_own(scripted: Make) -> None:
    plugin = scripted(request_headers=[http(), http(b"/2"), "pause"], answer=["resume 0"])
    plugin.upstream("up").respond()
    exchanges = await asyncio.gather(*(plugin.get(f"/{index}") for index in range(60)))
    assert [exchange.status for exchange in exchanges] == [200] * 60
    await plugin.advance(0)
    assert len(plugin.upstream("up").calls) == 120
    assert len({line.split()[1] for line in lines(plugin, "^answer [0-9]")}) == 120


async def test_stream_of_an_answer_may_be_gone(scripted: Make) -> None:
    plugin = scripted(request_headers=[http()], answer=["resume 0"])
    plugin.upstream("up").respond(after=1)
    assert (await plugin.get()).status == 200
    await plugin.advance(1)
    assert lines(plugin, ANSWERED) and "answer without a stream" in lines(plugin)
    assert (await plugin.get()).status == 200
    assert not [line for line in plugin.logs if "VM failed" in line.text]


async def test_answer_may_answer_the_client(scripted: Make) -> None:
    plugin = scripted(request_headers=[http(), "pause"], answer=["reply 403", "resume 0"])
    plugin.upstream("up").respond()
    exchange = await plugin.get()
    assert (exchange.status, exchange.body, exchange.app) == (403, b"replied", None)


async def test_response_waits_for_an_answer(scripted: Make) -> None:
    plugin = scripted(response_headers=[http(), "pause"], answer=["header 2 :status", "resume 1"])
    plugin.upstream("up").respond()
    plugin.app.respond(201)
    assert (await plugin.get()).status == 201
    assert lines(plugin, "answer header 2") == ["answer header 2 = 0 201"]


async def test_pending_calls_end_with_the_server(scripted: Make) -> None:
    plugin = scripted(configure=[http()] * 5)
    plugin.upstream("up").hang()
    await plugin.advance(0)
    assert len(plugin.upstream("up").calls) == under_way() == 5
    await plugin.stop()
    await settled()
    assert (under_way(), lines(plugin, "answer")) == (0, [])


async def test_call_without_a_timeout_leaves_the_pause_to_its_own(scripted: Make) -> None:
    plugin = scripted(request_headers=[http(timeout=0), "pause"], settings={"pause_timeout": 2})
    plugin.upstream("up").hang()
    request = plugin.begin("GET")
    await plugin.advance(2)
    exchange = await request
    assert exchange.status == 504
    assert "paused a stream for 2 s: it is answered 504" in [line.text for line in exchange.logs]


async def test_client_that_leaves_ends_the_pause(scripted: Make) -> None:
    plugin = scripted(request_headers=[http(), "pause"], done=["period 0"])
    plugin.upstream("up").hang()
    connection = await plugin.connect("POST", headers={"content-length": "9"})
    connection.feed(b"a", more=True)
    connection.hang_up()
    assert (await connection.over()).messages == []
    assert lines(plugin, "done") == ["done period 0 = 0"]


@pytest.mark.parametrize("how", ["disconnect", "cancelled"])
async def test_client_that_leaves_ends_its_calls_at_once(scripted: Make, how: str) -> None:
    """Not those of a request that has had its answer, nor what a plugin asks for when it is told of the end."""
    plugin = scripted(request_headers=[http(b"/ask", timeout=60_000), "pause"], log=[http(b"/log")])
    plugin.upstream("up").hang()
    connection = await plugin.connect("GET")
    connection.feed()
    await plugin.advance(0)
    assert [call.target for call in plugin.upstream("up").calls] == ["/ask"]
    if how == "cancelled":
        await connection.cancel()
    else:
        connection.hang_up()
        await connection.over()
    await plugin.advance(0)
    assert [call.target for call in plugin.upstream("up").calls] == ["/ask", "/log"]
    assert under_way() == 1
    assert lines(plugin, "^answer") == ["answer 4 0 0 0", "answer status 11 reset", "answer without a stream"]


async def test_call_that_nobody_waits_for_outlives_its_request(scripted: Make) -> None:
    plugin = scripted(request_headers=[http()])
    plugin.upstream("up").respond(after=60)
    assert (await plugin.get()).status == 200
    await plugin.advance(59)
    assert not lines(plugin, ANSWERED)
    await plugin.advance(1)
    assert lines(plugin, ANSWERED)


async def test_call_of_a_callback_that_trapped_is_not_made(scripted: Make) -> None:
    plugin = scripted(request_headers=[http(), "trap"])
    plugin.upstream("up").respond()
    assert (await plugin.get()).status == 503
    await plugin.advance(1)
    assert plugin.upstream("up").calls == []


async def test_calls_of_a_vm_that_failed_end_with_it(scripted: Make) -> None:
    """Or an upstream that never answers keeps the dead VM, with all its memory."""
    plugin = scripted(request_headers=[http(), "period 50", "pause"], tick=["trap"])
    plugin.upstream("up").hang()
    request = plugin.begin("GET")
    await plugin.advance(0)
    assert under_way() == 1
    await plugin.advance(0.05)
    assert (await request).status == 503
    assert (under_way(), lines(plugin, "answer")) == (0, [])


async def test_plugin_that_refuses_its_configuration_calls_nobody(scripted: Make, wasm_host: Chain) -> None:
    steps = [http(), "refuse"]
    refusing = scripted(configure=steps)
    refusing.upstream("up").respond()
    with pytest.raises(PluginStartError, match="on_configure answered false"):
        await refusing.start()
    # Another plugin of the same VM starts: what the first one asked for must be forgotten by then.
    file = PLUGINS / "callouts/c.wasm"
    plugins = [
        {"name": "refusing", "file": file, "conf": conf(configure=steps), "failure_policy": "fail_open"},
        {"name": "callouts", "file": file, "conf": ""},
    ]
    host = wasm_host({"plugins": plugins})
    host.upstream("up").respond()
    await host.advance(1)
    for each in (refusing, host):
        assert each.upstream("up").calls == []
    assert lines(host, "http", "refusing") == ["configure http up = 0 token 4"]
