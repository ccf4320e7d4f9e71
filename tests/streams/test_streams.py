"""Random streams: whatever plugins, an app and a client do at once, what goes out is whole, true and once.

The bare app is the oracle. Where plugins only hold and let go, nobody can tell them from none; where they change, reply
or close, what must hold for every stream does. `make streams` plays more of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings

from asgi_wasm import WasmMiddleware
from tests.guests import Wrap
from tests.streams.plans import Plan, plans
from tests.streams.playing import Playing, Seen
from tests.streams.virtual_loop import VirtualLoop
from tests.waiting import tasks

RUNS = int(os.environ.get("ASGI_WASM_STREAMS") or "2000")
PLUGINS = 3
_REPORTED_ONCE = ("Q", "q", "S", "s")


class Stage:
    """The loop and the middleware in which all plans are played."""

    def __init__(self, loop: VirtualLoop, playing: Playing, middleware: WasmMiddleware) -> None:
        self.loop, self.playing, self.middleware = loop, playing, middleware

    def play(self, plan: Plan) -> tuple[Seen, Seen]:
        """Without and with plugins; no task may be left over."""
        return self.loop.run_until_complete(self._play(plan))

    async def _play(self, plan: Plan) -> tuple[Seen, Seen]:
        bare = await self.playing.play(plan, self.playing.app)
        await asyncio.sleep(1)
        before = tasks()
        seen = await self.playing.play(plan, self.middleware)
        left = tasks() - before
        # Ticks of plugins that still wait for something.
        await asyncio.sleep(1)
        assert not left, f"tasks are left: {left}"
        return bare, seen


@pytest.fixture
def stage(wrap_guests: Wrap) -> Iterator[Stage]:
    loop = VirtualLoop()
    playing = Playing(PLUGINS)
    entries: list[dict[str, Any]] = [{"allow_on_headers_stop_iteration": index != 1} for index in range(PLUGINS)]
    guests = [plugin.guest for plugin in playing.plugins]
    middleware = wrap_guests(playing.app, *guests, entries=entries, pause_timeout=0.5)
    try:
        loop.run_until_complete(middleware.start())
        loop.pass_at_once()
        yield Stage(loop, playing, middleware)
        loop.run_until_complete(middleware.stop())
    finally:
        loop.close()
    for guest in guests:
        assert guest.created == guest.deleted == guest.logged


def client_sees(seen: Seen) -> dict[str, Any]:
    server = seen.server
    start = server.start or {}
    headers = [field for field in start.get("headers", ()) if server.has_body or field[0] != b"content-length"]
    return (
        {
            "status": start.get("status"),
            "headers": headers,
            "body": server.body,
            "trailers": server.trailers if server.has_body else None,
            "ended": server.body_ended,
            "refused": server.refused,
        }
        if server.start is not None
        else {}
    )


def check_as_bare(plan: Plan, bare: Seen, seen: Seen) -> None:
    """Plugins that only hold."""
    assert seen.scope_lengths == bare.scope_lengths
    if plan.app.reads is None and not bare.told_gone:
        # Where a body is cut into pieces is chance.
        assert (seen.read, seen.ends) == (bare.read, bare.ends)
    wrong = plan.app.sized and plan.app.wrong_by
    if not wrong:
        assert seen.error == bare.error
    if plan.app.ending == "in the middle":
        # What is held of a response that its app breaks off may be lost, but nothing else comes in its stead.
        # One that has no body is whole with its head.
        assert bare.server.body.startswith(seen.server.body)
        assert not seen.server.body_ended or not seen.server.has_body or seen.server.lengths == [b"0"]
    elif wrong:
        # The server judges, but a length is made true where that is still possible.
        assert seen.server.body_ended or seen.server.refused or bare.error
    else:
        assert client_sees(seen) == client_sees(bare)


def check_always(plan: Plan, seen: Seen) -> None:
    """What holds for every stream."""
    assert not seen.hung
    server = seen.server
    assert seen.ends <= 1
    if not plan.app.is_faulty:
        assert server.refused == [] and not seen.error.startswith("ServerRefused"), server.refused
    if server.start is not None:
        assert len(server.lengths) <= 1
        if server.body_ended and server.has_body and server.lengths and not server.malformed:
            assert len(server.body) == int(server.lengths[0])
        if server.start["status"] == 204:
            assert not server.lengths
    if seen.called and seen.ends and not seen.told_gone and plan.client.leaves is None:
        assert seen.scope_lengths in ([], [b"%d" % len(seen.read)])
    for index in range(PLUGINS):
        check_callbacks([(phase, end) for plugin, phase, end in seen.callbacks if plugin == index])


def check_callbacks(calls: list[tuple[str, int]]) -> None:
    """Headers once, before the body; one end a direction, and nothing after it."""
    for headers, body in ("Q", "q"), ("S", "s"):
        own = [(phase, end) for phase, end in calls if phase in (headers, body)]
        assert [phase for phase, _ in own].count(headers) <= 1, calls
        assert not own or own[0][0] == headers, calls
        ends = [index for index, (_, end) in enumerate(own) if end]
        assert ends in ([], [len(own) - 1]), calls


@pytest.mark.timeout(3600)
@settings(
    max_examples=RUNS,
    deadline=None,
    derandomize="ASGI_WASM_STREAMS" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=plans())
def test_streams(stage: Stage, plan: Plan) -> None:
    bare, seen = stage.play(plan)
    note(f"bare: {vars(bare.server)} {bare}")
    note(f"seen: {vars(seen.server)} {seen}")
    check_always(plan, seen)
    if plan.only_holds and plan.client.leaves is None and plan.cancelled is None:
        check_as_bare(plan, bare, seen)
