"""Started once, by lifespan or by the first request, and what becomes of a start that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from asgi_wasm import PluginStartError, WasmMiddleware
from asgi_wasm.asgi.types import Message
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing, pausing
from tests.driving import Connection, answering, request, settled, until
from tests.guests import RESPONSE_HEADERS, Guest, Serve, serve_guests, wrap_guests

__all__ = ["serve_guests", "wrap_guests"]


async def test_concurrent_first_requests_start_once(serve_guests: Serve) -> None:
    started: list[int] = []

    def on_configure(api: Hostcalls, root: int, size: int) -> int:
        started.append(root)
        return 1

    async with serve_guests(answering(b"app"), Guest(on_configure=on_configure), lazily=True) as middleware:
        responses = await asyncio.gather(*(request(middleware) for _ in range(20)))
        assert [response.body for response in responses] == [b"app"] * 20
    assert len(started) == 1


def ticking(times: list[int]) -> Guest:
    return Guest(
        on_configure=lambda api, *_: api.set_tick_period_milliseconds(1) or 1,
        on_tick=lambda *_: times.append(1),
        on_request_headers=passing,
    )


async def stands_still(times: list[int]) -> bool:
    so_far = len(times)
    await asyncio.sleep(0.05)
    return len(times) == so_far


async def test_start_after_a_first_request_starts_nothing_twice(serve_guests: Serve) -> None:
    """The plugins of the request would tick on for ever."""
    times: list[int] = []

    async with serve_guests(answering(b"app"), ticking(times), lazily=True) as middleware:
        await request(middleware)
        await middleware.start()
        await until(lambda: bool(times))
        await middleware.stop()
        assert await stands_still(times)


async def test_stop_waits_for_a_start_that_is_under_way(serve_guests: Serve) -> None:
    times: list[int] = []

    async with serve_guests(answering(b"app"), ticking(times), lazily=True) as middleware:
        starting = asyncio.ensure_future(middleware.start())
        await asyncio.sleep(0)
        await middleware.stop()
        await starting
        assert await stands_still(times)


async def test_stop_ends_pauses(serve_guests: Serve) -> None:
    async with serve_guests(answering(b"app"), Guest(on_request_headers=pausing), traps=True) as middleware:
        connection = Connection(middleware)
        await settled()
        await middleware.stop()
        assert (await connection.over()).status == 503


async def test_broken_plugin_gets_its_policy_where_it_would_run(serve_guests: Serve) -> None:
    """Without lifespan nothing fails at the start: the other plugins run, and routes without it are served."""
    guests = (
        Guest(on_configure=lambda api, *_: 0),
        Guest(on_response_headers=lambda api, *_: api.add_header_map_value(RESPONSE_HEADERS, b"x-ran", b"1")),
    )
    routes = [{"uri": "/guarded", "plugins": {"g0": {"conf": "x"}}}]
    async with serve_guests(answering(b"app"), *guests, lazily=True, routes=routes) as middleware:
        response = await request(middleware)
        assert (response.status, response.body, response.header(b"x-ran")) == (200, b"app", b"1")
        assert (await request(middleware, path="/guarded")).status == 503


async def test_start_is_strict_and_leaves_nothing_running(serve_guests: Serve) -> None:
    guest = Guest(on_configure=lambda api, *_: 0)
    async with serve_guests(answering(b"app"), guest, lazily=True) as middleware:
        with pytest.raises(PluginStartError, match="on_configure answered false"):
            await middleware.start()
        # A request then starts lazily, and fails closed.
        assert (await request(middleware)).status == 503
        await middleware.stop()
        await middleware.stop()


class Unreadable(Mapping[str, Any]):
    """Settings that fail in a way that nobody foresaw."""

    def __getitem__(self, key: str) -> Any:
        raise OSError("the disk is gone")

    def __iter__(self) -> Iterator[str]:
        raise OSError("the disk is gone")

    def __len__(self) -> int:
        return 1


async def test_unforeseen_error_in_a_lazy_start_fails_closed(caplog: pytest.LogCaptureFixture) -> None:
    response = await request(WasmMiddleware(answering(b"app"), settings=Unreadable()))
    assert (response.status, response.body) == (503, b"Service Unavailable")
    assert "no plugin runs, so every request is refused" in caplog.text
    assert "the disk is gone" in caplog.text


async def test_unforeseen_error_fails_the_lifespan(caplog: pytest.LogCaptureFixture) -> None:
    """Raised, it would pass for an app without lifespan, and the server would go on without plugins."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    await WasmMiddleware(answering(b"app"), settings=Unreadable())({"type": "lifespan"}, receive, send)
    message = "the plugins cannot start: OSError: the disk is gone"
    assert sent == [{"type": "lifespan.startup.failed", "message": message}]
    assert "the disk is gone" in caplog.text


async def test_limits_that_the_engine_cannot_enforce_are_told(
    serve_guests: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.engines.null.NullEngine.limits_memory", False)
    async with serve_guests(answering(b""), Guest(), entries=[{"limits": {"memory": 1 << 20}}]):
        pass
    assert "plugin 'g0': engine null does not enforce limits.memory" in caplog.text
    assert "plugin 'g0': engine null cannot interrupt a plugin, so limits.callback_ms is not kept" in caplog.text
