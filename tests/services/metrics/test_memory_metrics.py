"""Memory of VMs as the metrics tell it, and VMs that trap."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_wasm.services.metrics.registry import MetricRegistry
from tests.driving import answering, request
from tests.services.metrics.counting import PAGE, actions, plugin, wrapped
from tests.services.metrics.scraping import scrape


@pytest.mark.parametrize(("policy", "answered_by", "status"), [("fail_closed", "host", 503), ("fail_open", "app", 200)])
async def test_trap(probe: Path, policy: str, answered_by: str, status: int) -> None:
    app = wrapped(answering(b"app"), plugin("probe", probe, failure_policy=policy))
    await app.start()
    assert (await request(app, headers=[(b"t", b"")])).status == status
    found = await scrape()
    assert found.get("asgi_wasm_traps_total", plugin="probe") == 1
    assert found.get("asgi_wasm_failures_total", plugin="probe", policy=policy) == 1
    assert found.get("asgi_wasm_requests_total", answered_by=answered_by) == 1
    # The callback that trapped took its time too, and decided nothing.
    labels = {"plugin": "probe", "callback": "on_request_headers"}
    assert found.get("asgi_wasm_callback_seconds_count", **labels) == 1
    assert actions(found, "probe") == {}
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="probe") == 0
    await request(app)
    found = await scrape()
    assert found.get("asgi_wasm_vm_starts_total", plugin="probe") == 2
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="probe") == PAGE
    await app.stop()


async def test_memory_as_it_is_at_the_scrape(probe: Path) -> None:
    app = wrapped(answering(b"app"), plugin("probe", probe))
    await app.start()
    assert (await scrape()).get("asgi_wasm_vm_memory_bytes", plugin="probe") == PAGE
    await request(app, headers=[(b"g", b"")])
    assert (await scrape()).get("asgi_wasm_vm_memory_bytes", plugin="probe") == 2 * PAGE
    await app.stop()
    assert (await scrape()).all("asgi_wasm_vm_memory_bytes") == {}


@pytest.mark.parametrize(("period", "pages"), [(-1, 2), (10**12, 1)], ids=["after-a-while", "at-once"])
async def test_memory_without_a_scrape(
    probe: Path, store: MetricRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, period: int, pages: int
) -> None:
    """In multi-process mode another process answers the scrape: it finds what was measured while requests ended."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("asgi_wasm.services.metrics.host._MEMORY_PERIOD", period)

    app = wrapped(answering(b"app"), plugin("probe", probe))
    await app.start()
    await request(app, headers=[(b"g", b"")])
    (memory,) = [family for family in store.collect() if family.name == "asgi_wasm_vm_memory_bytes"]
    assert [sample.value for sample in memory.samples] == [pages * PAGE]
    await app.stop()


async def test_two_middlewares_and_a_restart() -> None:
    entry = plugin("counter", "counter/assemblyscript.wasm", conf="c")
    apps = [wrapped(answering(b"app"), entry) for _ in range(2)]
    for app in apps:
        await app.start()
        await request(app)
    found = await scrape()
    assert found.get("c_requests_total", plugin="counter") == 2
    both = found.get("asgi_wasm_vm_memory_bytes", plugin="counter")
    await apps[0].stop()
    await apps[0].start()
    await request(apps[0])
    found = await scrape()
    assert found.get("c_requests_total", plugin="counter") == 3
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="counter") == both
    for app in apps:
        await app.stop()
    found = await scrape()
    assert found.get("c_requests_total", plugin="counter") == 3
    assert found.all("asgi_wasm_vm_memory_bytes") == found.all("c_in_flight") == {}
