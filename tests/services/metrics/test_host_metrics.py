"""What the host counts, with real plugins."""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from asgi_wasm import EngineUnavailableError, PluginError
from asgi_wasm.asgi.exchange.sides import RequestSide, ResponseSide
from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.host.host_metrics import NO_HOST_METRICS
from asgi_wasm.host.streams.filter_chain import FilterChain
from asgi_wasm.host.vm.watching import watched
from asgi_wasm.limits import StreamLimits
from asgi_wasm.services.clock import SystemClock
from asgi_wasm.services.log import StandardLog
from asgi_wasm.services.metrics.host import PrometheusHostMetrics
from asgi_wasm.services.metrics.registry import COUNTER, MetricRegistry
from tests.driving import answering, http_scope, request
from tests.extras import why_not
from tests.papers.blocks import OPERATIONS
from tests.plugins.conftest import PLUGINS
from tests.plugins.test_http_auth import OK
from tests.services.metrics.counting import actions, plugin, wrapped
from tests.services.metrics.scraping import scrape
from tests.serving import dead_port, free_port
from tests.upstreams import upstream


async def test_pause_and_resume_and_local_response() -> None:
    app = wrapped(
        answering(b"app"),
        plugin("outer", "lifecycle/abi_0_2_1.wasm"),
        plugin("inner", "lifecycle/abi_0_2_0.wasm"),
    )
    await app.start()
    await request(app, headers=[(b"x-lifecycle", b"pause")])
    found = await scrape()
    for name in ("outer", "inner"):
        counted = actions(found, name)
        assert counted["on_request_headers", "pause"] == 1
        assert counted["on_tick", "resume"] == 1
    await request(app, headers=[(b"x-lifecycle", b"reply")])
    found = await scrape()
    # What the callback returned beside its answer counts for nothing.
    assert actions(found, "outer")["on_request_headers", "local_response"] == 1
    assert actions(found, "outer")["on_request_headers", "pause"] == 1
    assert ("on_request_headers", "local_response") not in actions(found, "inner")
    assert found.get("asgi_wasm_requests_total", answered_by="plugin") == 1
    await app.stop()


async def test_which_file_runs_and_what_became_of_reloads(tmp_path: Path) -> None:
    file = tmp_path / "p.wasm"
    app = wrapped(answering(b"app"), plugin("p", file))

    async def ones(name: str, label: str) -> dict[str, float]:
        return {dict(labels)[label]: value for labels, value in (await scrape()).all(name).items()}

    async def outcomes() -> dict[str, float]:
        return await ones("asgi_wasm_reloads_total", "outcome")

    digests = []
    before: dict[str, float] = await outcomes()
    for version in ("headers/c.wasm", "trailers/c.wasm"):
        file.write_bytes((PLUGINS / version).read_bytes())
        digests.append(sha256(file.read_bytes()).hexdigest())
        await (app.reload() if app.status().started else app.start())
    # The plugin from before ends on its own; nothing holds it up.
    while await ones("asgi_wasm_plugin_info", "sha256") != {digests[1]: 1}:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    file.write_bytes(b"")
    with pytest.raises(PluginError):
        await app.reload()
    found = await outcomes()
    assert {name: found[name] - before.get(name, 0) for name in found} == {"done": 1, "refused": 1}
    assert await ones("asgi_wasm_plugin_info", "sha256") == {digests[1]: 1}
    await app.stop()
    assert await ones("asgi_wasm_plugin_info", "sha256") == {}


@pytest.mark.skipif(bool(why_not("redis")), reason=why_not("redis"))
async def test_shared_data_that_are_away() -> None:
    for scheme, away in (("memory", 0), ("redis", 1)):
        with dead_port() as port:
            place = f"redis://127.0.0.1:{port}" if scheme == "redis" else "memory://"
            async with wrapped(answering(b"app"), plugin("p", "headers/c.wasm"), shared_data=place):
                assert (await scrape()).get("asgi_wasm_shared_data_away") == away
    assert (await scrape()).get("asgi_wasm_shared_data_away") is None


async def test_answered_by_nobody(probe: Path) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("the app's")

    app = wrapped(fails, plugin("probe", probe))
    await app.start()
    with pytest.raises(ValueError, match="the app's"):
        await request(app)
    await asyncio.wait_for(app(http_scope(headers=[(b"c", b"")]), nothing, unheard), 60)
    found = await scrape()
    assert found.get("asgi_wasm_requests_total", answered_by="nobody") == 2
    assert actions(found, "probe") == {
        ("on_request_headers", "continue"): 1,
        ("on_request_headers", "reset"): 1,
    }
    await app.stop()


async def test_a_request_ends_once(store: MetricRegistry) -> None:
    host_metrics = PrometheusHostMetrics(store, SystemClock())
    sides = RequestSide(lambda: None, lambda _: None), ResponseSide("GET", lambda: None, lambda _: None, trailers=False)
    chain = FilterChain([], *sides, ScopeAttributes(http_scope()), StreamLimits(), StandardLog(), host_metrics)
    chain.finish()
    chain.finish()
    host_metrics.close()
    assert (await scrape()).get("asgi_wasm_requests_total", answered_by="nobody") == 1


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def unheard(message: Message) -> None:
    raise AssertionError("the stream is closed")


async def test_websocket_handshake(probe: Path) -> None:
    async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    sent: list[str] = []
    app = wrapped(accepts, plugin("probe", probe))
    await app.start()
    await app({**http_scope(), "type": "websocket", "subprotocols": []}, receive, send)
    assert sent == ["websocket.accept"]
    assert (await scrape()).get("asgi_wasm_requests_total", answered_by="app") == 1
    await app.stop()


async def test_callouts() -> None:
    def answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes | None:
        return {b"slow": None, b"broken": OK[:15]}.get(body, OK)

    async with upstream(answer) as port:
        for where, timeout_ms, users in (
            (port, 60_000, (b"ok", b"ok", b"broken")),
            (port, 300, (b"slow",)),
            (free_port(), 60_000, (b"ok",)),
        ):
            entry = plugin("http_auth", "http_auth/rust.wasm", conf={"timeout_ms": timeout_ms})
            app = wrapped(answering(b"app"), entry, upstreams={"auth": f"http://127.0.0.1:{where}"})
            await app.start()
            for user in users:
                await request(app, headers=[(b"x-user", user)])
            await app.stop()
    found = await scrape()
    expected = {"response": 2, "timeout": 1, "failure": 1, "connection_failure": 1}
    for outcome, count in expected.items():
        labels = {"plugin": "http_auth", "upstream": "auth", "outcome": outcome}
        assert found.get("asgi_wasm_callout_seconds_count", **labels) == count, outcome
    slow = found.get("asgi_wasm_callout_seconds_sum", plugin="http_auth", upstream="auth", outcome="timeout")
    assert slow is not None and slow >= 0.29


async def test_root_only_plugin() -> None:
    app = wrapped(answering(b"app"), plugin("queue", "queue/rust.wasm", conf={"tick_ms": 10}))
    await app.start()
    await request(app)
    labels = {"plugin": "queue", "callback": "on_tick"}
    while not (found := await scrape()).get("asgi_wasm_callback_seconds_count", **labels):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert found.get("asgi_wasm_callback_seconds_count", **labels)
    assert found.get("asgi_wasm_callback_seconds_count", plugin="queue", callback="on_queue_ready")
    await app.stop()


async def test_plugins_that_share_a_vm_are_told_apart() -> None:
    file = "lifecycle/abi_0_2_1.wasm"
    app = wrapped(answering(b"app"), plugin("one", file, conf="1"), plugin("two", file, conf="2"))
    await app.start()
    await request(app)
    found = await scrape()
    assert actions(found, "one") == actions(found, "two") != {}
    assert found.get("asgi_wasm_vm_starts_total", plugin="one") == 1
    assert found.get("asgi_wasm_vm_starts_total", plugin="two") is None
    await app.stop()


@pytest.mark.parametrize("metrics", [False, {"enabled": False, "rules": []}])
async def test_off(store: MetricRegistry, metrics: Any) -> None:
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm"), metrics=metrics)
    await app.start()
    await request(app)
    assert (await scrape()).text == ""
    await app.stop()
    assert store.measures == []


@pytest.mark.parametrize(("metrics", "same"), [(False, True), (True, False)])
async def test_callbacks_are_wrapped_only_when_somebody_counts(metrics: bool, same: bool) -> None:
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm"), metrics=metrics)
    await app.start()
    worker = app._worker
    assert worker is not None
    (filters,) = worker.plugins.router.every_filter()
    vm = filters.root().vm
    for name, wrappable in (("proxy_on_log", True), ("malloc", False), ("proxy_on_memory_allocate", False)):
        function = vm.function("proxy_on_log")
        assert function is not None
        assert (watched(vm.ports, name, function, str, []) is function) is (same or not wrappable)
    await app.stop()


def test_nobody_counts_without_a_word() -> None:
    NO_HOST_METRICS.timer("p", "on_log")(0.1)
    NO_HOST_METRICS.decision("p", "on_request_headers", "continue")()
    NO_HOST_METRICS.callout_ended("p", "auth", "response", 1)


async def test_start_that_fails_leaves_nothing(store: MetricRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, **_: object) -> None:
        raise EngineUnavailableError(name)

    monkeypatch.setattr("asgi_wasm.worker.loading.create_engine", none)
    app = wrapped(answering(b"app"), plugin("counter", "counter/assemblyscript.wasm"))
    with pytest.raises(EngineUnavailableError):
        await app.start()
    assert (await request(app)).status == 503
    assert store.measures == []


def test_the_paper_has_a_row_for_each_metric() -> None:
    """Its name as Prometheus has it, and its type."""
    kinds: dict[str, str] = {}

    class Told:
        measures: ClassVar[list[object]] = []

        def family(self, name: str, kind: str, *_: object) -> None:
            kinds[f"{name}_total" if kind == COUNTER else name] = kind

    PrometheusHostMetrics(cast(MetricRegistry, Told()), SystemClock())
    rows = dict(re.findall(r"^\| `(asgi_wasm_\w+)`[^|]*\| (\w+) \|", OPERATIONS.read_text("utf-8"), re.MULTILINE))
    assert rows == kinds, "each metric of the host's has a row in asgi_wasm/OPERATIONS.md, with its type"
