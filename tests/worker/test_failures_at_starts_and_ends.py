"""A failure while a plugin starts, starts again or ends, by every policy; who is away in the meantime."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_wasm import PluginStartError
from tests.driving import answering, request
from tests.guests import Wrap
from tests.waiting import SECONDS
from tests.worker.faulty import POLICIES, Faulty, comes_back, served

# Before it serves at all.
AT_THE_START = ["_initialize", "root_create", "on_vm_start", "on_configure"]


# When its root context is asked to end.
AT_THE_END = ["root_done", "root_delete"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AT_THE_START)
async def test_at_the_start(wrap_guests: Wrap, phase: str, policy: str) -> None:
    """A server is told; without lifespan, requests have the policy."""
    faulty = Faulty(phase)
    faulty.armed = True
    app = served(wrap_guests, faulty, policy)

    if policy != "fail_open":
        with pytest.raises(PluginStartError, match=f"(it trapped while starting|its entry point failed): .*{phase}"):
            await app.start()
    assert (await request(app)).status == (200 if policy == "fail_open" else 503)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AT_THE_START)
async def test_at_a_later_start(wrap_guests: Wrap, phase: str, policy: str) -> None:
    """The VM that is to take the place of one that failed fails itself: requests have the policy until one does not."""
    faulty = Faulty("on_request_headers")

    async with served(wrap_guests, faulty, policy) as app:
        faulty.armed = True
        await request(app)
        faulty.phase = phase
        await until_trapped(app, faulty, 2)
        assert (await request(app)).status == (200 if policy == "fail_open" else 503)
        faulty.armed = False
        await comes_back(app, faulty)


async def until_trapped(app: Any, faulty: Faulty, times: int) -> None:
    async def tried() -> None:
        while faulty.traps < times:
            await request(app)
            await asyncio.sleep(0.002)

    await asyncio.wait_for(tried(), 60)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AT_THE_END)
async def test_at_the_end(wrap_guests: Wrap, phase: str, policy: str, caplog: pytest.LogCaptureFixture) -> None:
    """It ends all the same, and the log says what was wrong."""
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy) as app:
        assert (await request(app)).status == 200
        faulty.armed = True
    assert faulty.traps == 1
    assert "its VM failed while it was stopped" in caplog.text


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_restart_that_fails_is_not_tried_for_each_request(
    wrap_guests: Wrap, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = Faulty("on_request_headers")
    entry = {"failure_policy": policy, "reload_config": {"backoff": {"base_interval": 60}}}
    app = wrap_guests(answering(b"app"), faulty.guest, entries=[entry])

    await app.start()
    faulty.armed = True
    await request(app)
    faulty.phase = "on_configure"
    statuses = {(await request(app)).status for _ in range(50)}
    assert statuses == {200 if policy == "fail_open" else 503}
    # One at the beginning; then none, or as many as come at once.
    assert faulty.starts == (1 if policy == "fail_reload" else 4)
    await app.stop()
    assert caplog.text.count("it is started again in") == 1
    assert len(caplog.records) < 10


async def away() -> float | None:
    """As a scrape tells it."""
    from tests.services.metrics.scraping import scrape

    return (await scrape()).get("asgi_wasm_plugins_away", plugin="g0")


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Of metrics, for a test alone."""
    pytest.importorskip("prometheus_client")
    from asgi_wasm.services.metrics.registry import process_registry

    process_registry.cache_clear()
    yield
    process_registry.cache_clear()


def failing(wrap_guests: Wrap, seconds: float) -> tuple[Faulty, Any]:
    """Away for about so long when it fails."""
    faulty = Faulty("on_request_headers")
    entry = {"failure_policy": "fail_reload", "reload_config": {"backoff": {"base_interval": seconds}}}
    return faulty, wrap_guests(answering(b"app"), faulty.guest, entries=[entry], metrics=True)


@pytest.mark.usefixtures("fresh_registry")
async def test_metrics_tell_who_is_away(wrap_guests: Wrap) -> None:
    faulty, app = failing(wrap_guests, 3600)
    await app.start()
    assert await away() is None
    faulty.armed = True
    for _ in range(3):
        await request(app)
    assert (faulty.traps, faulty.starts) == (1, 1)
    assert await away() == 1
    await app.stop()
    assert await away() is None


@pytest.mark.usefixtures("fresh_registry")
async def test_metrics_tell_who_is_back(wrap_guests: Wrap) -> None:
    faulty, app = failing(wrap_guests, 0.2)
    await app.start()
    faulty.armed = True

    async def seen_away() -> None:
        # A busy machine may look when it is to be tried again already.
        while await away() != 1:
            await request(app)

    await asyncio.wait_for(seen_away(), SECONDS)
    faulty.armed = False
    await comes_back(app, faulty)
    assert await away() == 0
    await app.stop()
    assert await away() is None
