"""HTTP calls from each callback, and what ends them."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import NoReturn

import pytest

from asgi_wasm import MissingExtraError, PluginStartError
from asgi_wasm.host.effects import HttpCall
from asgi_wasm.services.callouts.upstreams import Upstream
from tests.driving import request, until
from tests.plugins.calling import OK, call_once
from tests.plugins.callouts import conf, http, plugged, said
from tests.plugins.conftest import PLUGINS
from tests.upstreams import raw


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


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
async def test_from_every_callback(caplog: pytest.LogCaptureFixture, callback: str) -> None:
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

    async with raw(lambda *_: OK) as (port, seen), plugged(conf(**steps), port) as middleware:
        response = await request(middleware, "POST", body=[b"x"])
        assert response.body == b"app"
        await until(lambda: len(said(caplog, "answer header :status: 200")) >= (2 if callback == "answer" else 1))
        assert list(seen.heads)[-1].startswith(b"GET /" + callback.encode() + b" ")


async def test_from_on_vm_start(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, _), plugged("", port, vm_conf=conf(vm_start=[http()])):
        await until(lambda: said(caplog, "answer header :status: 200"))


async def test_from_the_end_of_a_root_context_nothing_is_called(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, seen):
        async with plugged(conf(root_done=[http(), "period 5"], tick=["period 5"]), port):
            pass
        await asyncio.sleep(0.05)
        assert seen.heads == []
    assert said(caplog) == ["root_done http up = 0 token 4", "root_done period 5 = 0"]


async def test_several_plugins_of_a_chain_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first two call and pause in turn; the third calls without waiting for its answer."""
    waiting = conf(request_headers=[http(b"/wait"), "pause"], answer=["header 0 :path", "resume 0"])
    asking = conf(request_headers=[http(b"/ask")])

    async with raw(lambda *_: OK) as (port, seen), plugged([waiting, waiting, asking], port) as middleware:
        response = await request(middleware, path="/here?x")
        await until(lambda: said(caplog, "answer header :status", plugin="third"))
        assert sorted(head.split()[1] for head in seen.heads) == [b"/ask", b"/wait", b"/wait"]
        assert response.body == b"app"
    for plugin in ("callouts", "second"):
        assert said(caplog, "answer header 0|resume", plugin) == ["answer header 0 = 0 /here?x", "answer resume 0 = 0"]


async def test_many_at_once_each_resumes_its_own(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), http(b"/2"), "pause"], answer=["resume 0"])
    async with raw(lambda *_: OK) as (port, seen), plugged(script, port) as middleware:
        responses = await asyncio.gather(*(request(middleware, path=f"/{index}") for index in range(60)))
        assert [response.body for response in responses] == [b"app"] * 60
        await until(lambda: len(said(caplog, "^answer [0-9]")) == 120)
        assert len(seen.heads) == 120
    tokens = [line.split()[1] for line in said(caplog, "^answer [0-9]")]
    assert len(set(tokens)) == 120


async def test_more_calls_than_connections_wait_and_more_still_overflow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at Envoy's circuit breaker: each call beyond costs nothing, and those that wait have their turn."""
    monkeypatch.setattr("asgi_wasm.services.callouts.upstreams.MAX_CONNECTIONS", 2)
    monkeypatch.setattr("asgi_wasm.services.callouts.upstreams.MAX_PENDING", 1)

    async with raw(lambda *_: OK) as (port, seen):
        async with plugged(conf(configure=[http()] * 5), port):
            await until(lambda: len(said(caplog, "^answer [0-9]")) == 5)
        assert (len(seen.heads), seen.connections) == (3, 2)
    overflow = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
    assert said(caplog, "^answer body").count(f"answer body {overflow.hex()}") == 2


async def test_stream_of_an_answer_may_be_gone(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http()], answer=["resume 0"])
    async with raw(lambda *_: OK) as (port, _), plugged(script, port) as middleware:
        assert (await request(middleware)).body == b"app"
        await until(lambda: said(caplog, "answer header :status: 200"))
        assert (await request(middleware)).body == b"app"
    assert "answer without a stream" in said(caplog)
    assert "VM failed" not in caplog.text


async def test_answer_may_answer_the_client(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), "pause"], answer=["reply 403", "resume 0"])
    async with raw(lambda *_: OK) as (port, _), plugged(script, port) as middleware:
        response = await request(middleware)
    assert (response.status, response.body) == (403, b"replied")


async def test_response_waits_for_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(response_headers=[http(), "pause"], answer=["header 2 :status", "resume 1"])
    async with raw(lambda *_: OK) as (port, _), plugged(script, port) as middleware:
        assert (await request(middleware)).body == b"app"
    assert said(caplog, "answer header 2") == ["answer header 2 = 0 200"]


async def test_pending_calls_end_with_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: None) as (port, seen):
        async with plugged(conf(configure=[http()] * 5), port):
            await until(lambda: len(seen.heads) == 5)
        await asyncio.sleep(0.05)
    assert said(caplog, "answer") == []


async def test_call_without_a_timeout_leaves_the_pause_to_its_own(caplog: pytest.LogCaptureFixture) -> None:
    script, settings = conf(request_headers=[http(timeout=0), "pause"]), {"pause_timeout": 0.1}
    async with raw(lambda *_: None) as (port, _), plugged(script, port, settings=settings) as middleware:
        assert (await request(middleware)).status == 504
    assert "plugin 'callouts': paused a stream for 0.1 s: it is answered 504" in caplog.text


async def test_client_that_leaves_ends_the_pause(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), "pause"], done=["period 0"])
    async with raw(lambda *_: None) as (port, _), plugged(script, port) as middleware:
        response = await request(middleware, "POST", body=[b"a"], stays=False)
        assert response.messages == []
    assert said(caplog, "done") == ["done period 0 = 0"]


@pytest.mark.parametrize("how", ["disconnect", "cancelled"])
async def test_client_that_leaves_ends_its_calls_at_once(caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Not those of a request that has had its answer, nor what a plugin asks for when it is told of the end."""

    def calls() -> int:
        return sum("HttpCalls" in repr(task) for task in asyncio.all_tasks())

    script = conf(request_headers=[http(b"/ask", timeout=60_000), "pause"], log=[http(b"/log")])
    async with raw(lambda *_: None) as (port, seen), plugged(script, port) as middleware:
        asked = asyncio.ensure_future(request(middleware, stays=how != "disconnect"))
        if how == "cancelled":
            await until(lambda: seen.heads)
            asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: seen.heads and seen.heads[-1].startswith(b"GET /log "))
        await until(lambda: calls() == 1)
    assert said(caplog, "^answer") == ["answer 4 0 0 0", "answer status 11 reset", "answer without a stream"]


async def test_call_that_nobody_waits_for_outlives_its_request(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, seen):
        async with plugged(conf(request_headers=[http()]), port) as middleware:
            assert (await request(middleware, stays=False)).body == b"app"
            await until(lambda: said(caplog, "answer header :status: 200"))
        assert len(seen.heads) == 1


async def test_call_of_a_callback_that_trapped_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    script = conf(request_headers=[http(), "trap"])
    async with raw(lambda *_: OK) as (port, seen), plugged(script, port) as middleware:
        assert (await request(middleware)).status == 503
        await asyncio.sleep(0.05)
        assert seen.heads == []


async def test_calls_of_a_vm_that_failed_end_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Or an upstream that never answers keeps the dead VM, with all its memory."""

    def under_way() -> int:
        return sum("HttpCalls" in repr(task) for task in asyncio.all_tasks())

    script = conf(request_headers=[http(), "period 50", "pause"], tick=["trap"])
    async with raw(lambda *_: None) as (port, seen), plugged(script, port) as middleware:
        asked = asyncio.ensure_future(request(middleware))
        await until(lambda: seen.heads)
        assert under_way() == 1
        assert (await asked).status == 503
        await until(lambda: not under_way())
        seen.over.set()
        await asyncio.sleep(0.05)
    assert said(caplog, "answer") == []


async def test_plugin_that_refuses_its_configuration_calls_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(lambda *_: OK) as (port, seen):
        script = conf(configure=[http(), "refuse"])
        with pytest.raises(PluginStartError, match="on_configure answered false"):
            async with plugged(script, port):
                raise AssertionError("it did not refuse")
        # Another plugin of the same VM starts: what the first one asked for must be forgotten by then.
        file = str(PLUGINS / "callouts/c.wasm")
        plugins = [
            {"name": "refusing", "file": file, "conf": script, "failure_policy": "fail_open"},
            {"name": "callouts", "file": file, "conf": ""},
        ]
        async with plugged("", port, settings={"plugins": plugins}):
            await asyncio.sleep(0.05)
        assert seen.heads == []
    assert said(caplog, "http", plugin="refusing") == ["configure http up = 0 token 4"]


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", b"what"], ids=["after headers", "before"]
)
async def test_lines_about_calls_that_fail_are_as_many_as_a_plugin_may_write(
    caplog: pytest.LogCaptureFixture, reply: bytes
) -> None:
    calls, most = 30, 4

    began = time.monotonic()
    async with raw(lambda *_: reply, closes=True) as (port, seen):
        plugin = {"name": "callouts", "file": PLUGINS / "callouts/c.wasm", "conf": conf(configure=[http()] * calls)}
        settings = {
            "plugins": [{**plugin, "log_level": "critical"}],
            "limits": {"log_lines_per_second": most},
        }
        async with plugged("", port, settings=settings):
            await until(lambda: len(seen.heads) == calls)
            await asyncio.sleep(0.05)
    seconds = int(time.monotonic() - began) + 2
    told = [record for record in caplog.records if "HTTP call to 'up'" in record.getMessage()]
    assert 0 < len(told) <= most * seconds
    assert "logs more than 4 lines a second" in caplog.text


async def test_call_that_fails_for_no_known_reason_is_answered_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(upstream: Upstream, call: HttpCall) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Upstream, "request", broken)
    lines, _ = await call_once(caplog, http())
    assert lines == ["answer 4 0 0 0", "answer status 11 reset"]
    assert "plugin 'callouts': HTTP call to 'up': RuntimeError: a bug" in caplog.text


async def test_http2_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)

    with pytest.raises(MissingExtraError, match="upstream 'up' wants http2: pip install 'asgi-wasm\\[http2\\]'"):
        async with plugged("", upstreams={"up": {"url": "http://127.0.0.1:9", "http2": True}}):
            raise AssertionError("it started")
