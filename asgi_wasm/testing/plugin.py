"""What tests of a plugin use: `WasmPlugin` in tests that are coroutines, `SyncWasmPlugin` in others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from asgi_wasm.testing.clock import settle
from asgi_wasm.testing.exchange import Exchange, GivenHeaders
from asgi_wasm.testing.hosted import Body, HostedPlugin

_Result = TypeVar("_Result")


class WasmPlugin(HostedPlugin):
    """A plugin in front of an app, in the running event loop. Made by the fixture ``wasm_plugin``."""

    async def request(
        self, method: str, target: str = "/", *, headers: GivenHeaders = (), body: Body = b"", **scope: Any
    ) -> Exchange:
        """Send one request, and wait for its end. A body of several pieces comes piece by piece.

        ``scope`` are further keys of the ASGI scope. Raises `PluginError` when the plugin does not start, and
        `NotAnsweredError` when nothing answers.
        """
        return await self._request(method, target, headers, body, **scope)

    async def get(self, target: str = "/", *, headers: GivenHeaders = (), **scope: Any) -> Exchange:
        """`request` by GET."""
        return await self._request("GET", target, headers, b"", **scope)

    async def post(self, target: str = "/", body: Body = b"", *, headers: GivenHeaders = (), **scope: Any) -> Exchange:
        """`request` by POST."""
        return await self._request("POST", target, headers, body, **scope)

    def begin(
        self, method: str, target: str = "/", *, headers: GivenHeaders = (), body: Body = b"", **scope: Any
    ) -> asyncio.Task[Exchange]:
        """Send a request that is to be awaited later, as one that the plugin pauses. Needs a running event loop."""
        return asyncio.ensure_future(self._request(method, target, headers, body, **scope))

    async def start(self) -> None:
        """Load, start and configure it, once. Raises `PluginError`."""
        await self._start()

    async def stop(self) -> None:
        """End it: `on_done` and `on_delete`. The next request would start it anew."""
        await self.middleware.stop()

    async def advance(self, seconds: float) -> None:
        """Move the clock: what ticks, and what times out by then, happens now."""
        await self._advance(seconds)


class Pending:
    """A request of `SyncWasmPlugin` that is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Exchange]) -> None:
        self._loop = loop
        self._task = task

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self._task.done()

    def result(self) -> Exchange:
        """Wait for its end."""
        return self._loop.run_until_complete(self._task)


class SyncWasmPlugin(HostedPlugin):
    """The same for tests without asyncio: it has an event loop of its own, which runs while a method does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._loop = asyncio.new_event_loop()

    def _run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        return self._loop.run_until_complete(coroutine)

    def request(
        self, method: str, target: str = "/", *, headers: GivenHeaders = (), body: Body = b"", **scope: Any
    ) -> Exchange:
        """`WasmPlugin.request`, waited for."""
        return self._run(self._request(method, target, headers, body, **scope))

    def get(self, target: str = "/", *, headers: GivenHeaders = (), **scope: Any) -> Exchange:
        """`request` by GET."""
        return self.request("GET", target, headers=headers, **scope)

    def post(self, target: str = "/", body: Body = b"", *, headers: GivenHeaders = (), **scope: Any) -> Exchange:
        """`request` by POST."""
        return self.request("POST", target, headers=headers, body=body, **scope)

    def begin(
        self, method: str, target: str = "/", *, headers: GivenHeaders = (), body: Body = b"", **scope: Any
    ) -> Pending:
        """Send a request that is to be waited for later, as one that the plugin pauses."""
        task = self._loop.create_task(self._request(method, target, headers, body, **scope))
        self._run(self._start())
        self._run(settle())
        return Pending(self._loop, task)

    def start(self) -> None:
        """`WasmPlugin.start`, waited for."""
        self._run(self._start())

    def stop(self) -> None:
        """`WasmPlugin.stop`, waited for."""
        self._run(self.middleware.stop())

    def advance(self, seconds: float) -> None:
        """`WasmPlugin.advance`, waited for."""
        self._run(self._advance(seconds))

    def close(self) -> None:
        """End the plugin and the event loop. Idempotent."""
        if not self._loop.is_closed():
            self._run(self.middleware.stop())
            self._run(self._loop.shutdown_asyncgens())
            self._loop.close()
