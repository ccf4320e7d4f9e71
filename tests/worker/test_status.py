"""`WasmMiddleware.status`: who runs, who is away and for how long, and why."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import PluginState, PluginStatus, Status, WasmMiddleware
from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request, until
from tests.guests import CONTINUE, PAUSE, Guest, Wrap

WARN = 3
POLICIES = ["fail_closed", "fail_open", "fail_reload"]


class Frail:
    """A guest that traps in the callbacks that ``traps`` names, and pauses while ``pauses``."""

    def __init__(self) -> None:
        self.traps = ""
        self.pauses = False
        self.starts = 0

    @property
    def guest(self) -> Guest:
        return Guest(on_configure=self.configure, on_request_headers=self.headers, on_tick=self.tick)

    def configure(self, api: Hostcalls, *_: int) -> int:
        self.starts += 1
        if "on_configure" in self.traps:
            raise GuestTrap("no")
        api.log(b"hello", WARN)
        api.set_tick_period_milliseconds(1)
        return 1

    def headers(self, *_: Any) -> int:
        if "on_request_headers" in self.traps:
            raise GuestTrap("told to")
        return PAUSE if self.pauses else CONTINUE

    def tick(self, *_: Any) -> None:
        if "on_tick" in self.traps:
            raise GuestTrap("ticked off")


def one(app: WasmMiddleware) -> PluginStatus:
    (found,) = app.status().plugins
    return found


def entry(policy: str = "fail_closed", **more: Any) -> dict[str, Any]:
    return {"failure_policy": policy, "reload_config": {"backoff": {"base_interval": 60}}, **more}


async def test_nothing_runs_before_the_start_and_after_the_stop(wrap_guests: Wrap) -> None:
    app = wrap_guests(answering(b"app"), Frail().guest)

    assert app.status() == Status()
    await app.start()
    assert app.status().started
    await app.stop()
    assert app.status() == Status()


async def test_what_runs_tells_what_it_is(wrap_guests: Wrap, tmp_path: Path) -> None:
    frail = Frail()
    app = wrap_guests(answering(b"app"), frail.guest, entries=[entry(conf="secret", priority=7)])

    await app.start()
    found = one(app)
    assert (found.name, found.state, found.failures, found.next_try) == ("g0", PluginState.RUNNING, 0, None)
    assert (found.priority, found.failure_policy, found.abi_version) == (7, "fail_closed", "0.2.1")
    assert found.sha256 == sha256((tmp_path / "g0.wasm").read_bytes()).hexdigest()
    assert found.conf_sha256 == sha256(b"secret").hexdigest()
    assert "secret" not in repr(app.status())
    assert found.memory
    assert (found.streams, found.last_lines) == (0, ("hello",))
    frail.pauses = True
    paused = asyncio.ensure_future(request(app))
    await until(lambda: one(app).streams == 1)
    paused.cancel()
    await asyncio.wait([paused])
    assert one(app).streams == 0
    await app.stop()


@pytest.mark.parametrize("policy", POLICIES)
async def test_failures_are_told_and_when_they_end(wrap_guests: Wrap, policy: str) -> None:
    frail = Frail()
    app = wrap_guests(answering(b"app"), frail.guest, entries=[entry(policy)])

    await app.start()
    frail.traps = "on_request_headers"
    await request(app)
    found = one(app)
    assert (found.failures, found.memory) == (1, None)
    assert "told to" in found.last_failure
    if policy != "fail_reload":
        # The next request starts it, as long as that helps.
        assert (found.state, found.next_try) == (PluginState.FAILED, 0)
        frail.traps = "on_configure"
        for _ in range(10):
            await request(app)
        found = one(app)
        assert found.failures == 4
        assert "it trapped while starting" in found.last_failure
    assert found.state is PluginState.AWAY
    assert found.next_try is not None
    assert 0 < found.next_try <= 90
    starts = frail.starts
    await request(app)
    assert frail.starts == starts
    await app.stop()


async def test_what_never_started_is_broken(wrap_guests: Wrap) -> None:
    frail = Frail()
    frail.traps = "on_configure"
    app = wrap_guests(answering(b"app"), frail.guest, entries=[entry("fail_open")])

    await app.start()
    found = one(app)
    assert (found.state, found.failures, found.next_try) == (PluginState.BROKEN, 0, None)
    assert "no" in found.last_failure
    await app.stop()


async def test_each_configuration_is_told_of(wrap_guests: Wrap) -> None:
    frail = Frail()
    routes = [{"uri": f"/{conf}", "plugins": {"g0": {"conf": conf}}} for conf in ("a", "b")]
    app = wrap_guests(answering(b"app"), frail.guest, routes=routes)

    await app.start()
    assert [found.conf_sha256 for found in app.status().plugins] == [sha256(conf).hexdigest() for conf in (b"a", b"b")]
    await app.stop()


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_service_is_started_again_by_itself(
    wrap_guests: Wrap, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """No request asks for it. It comes back, less and less often while it goes on failing."""
    frail = Frail()
    settings = {"service": True, "reload_config": {"backoff": {"base_interval": 0.05}}}
    app = wrap_guests(answering(b"app"), frail.guest, entries=[entry(policy, **settings)])

    await app.start()
    assert frail.starts == 1
    frail.traps = "on_tick"
    # At once or after one interval; where each start is soon followed by a failure, then ever later.
    await until(lambda: frail.starts >= 4)
    frail.traps = "on_tick on_configure"
    before = one(app).failures
    await until(lambda: one(app).failures >= before + 3)
    assert one(app).last_failure
    # What goes on failing in the same way is said once.
    assert caplog.text.count("it trapped while starting") == 1
    frail.traps = ""
    await until(lambda: one(app).state is PluginState.RUNNING)
    assert (await request(app)).status == 200
    await app.stop()
    starts = frail.starts
    await asyncio.sleep(0.2)
    assert frail.starts == starts


async def test_a_service_that_is_away_is_not_started_after_the_stop(wrap_guests: Wrap) -> None:
    frail = Frail()
    settings = {"service": True, "reload_config": {"backoff": {"base_interval": 0.1}}}
    app = wrap_guests(answering(b"app"), frail.guest, entries=[entry("fail_reload", **settings)])

    await app.start()
    frail.traps = "on_tick"
    await until(lambda: one(app).state is PluginState.AWAY)
    starts = frail.starts
    await app.stop()
    await asyncio.sleep(0.3)
    assert frail.starts == starts


async def test_the_owner_of_a_queue_is_started_again_by_itself(wrap_guests: Wrap) -> None:
    """Whatever it failed over: what waits in the queue waits for no request."""
    starts, taken = [], []

    def on_configure(api: Hostcalls, *_: int) -> int:
        starts.append(api)
        api.register_shared_queue(b"q")
        return CONTINUE + 1

    def on_request_headers(api: Hostcalls, *_: int) -> int:
        for value in (b"1", b"2", b"3"):
            api.enqueue_shared_queue(1, value)
        return CONTINUE

    def on_queue_ready(api: Hostcalls, _: int, token: int) -> None:
        if len(starts) < 3:
            raise GuestTrap("not yet")
        taken.append(api.dequeue_shared_queue(token))

    guest = Guest(on_configure=on_configure, on_request_headers=on_request_headers, on_queue_ready=on_queue_ready)
    app = wrap_guests(answering(b"app"), guest)

    await app.start()
    await request(app)
    await until(lambda: taken == [b"1", b"2", b"3"])
    await app.stop()
    assert len(starts) == 3
