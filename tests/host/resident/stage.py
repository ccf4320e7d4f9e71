"""A middleware that many requests are played in, since to start one takes longer than they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from tests.streams.virtual_loop import VirtualLoop


class Stage:
    """``count`` probes run in one of the ways, with another of the scripts on each route.

    Not for scripts that end the VM: the next request would have to wait for another.
    """

    def __init__(self, scripts: Sequence[str], way: dict[str, Any], count: int, probe: Path) -> None:
        names = [f"p{index}" for index in range(count)]
        self._folders = {script: f"/{index}" for index, script in enumerate(dict.fromkeys(scripts))}
        routes = [
            {"uri": f"{folder}/*", "plugins": {name: {"conf": script} for name in names}}
            for script, folder in self._folders.items()
        ]
        plugins = [{"name": name, "file": probe, "vm_id": name} for name in names]
        given = {"plugins": plugins, "routes": routes, "pause_timeout": 0.5, **way}
        self._middleware = WasmMiddleware(self._app, settings=given)
        self._loop = VirtualLoop()

    def __enter__(self) -> Stage:
        self._loop.run_until_complete(self._middleware.start())
        self._loop.pass_at_once()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._loop.run_until_complete(self._middleware.stop())
        finally:
            self._loop.close()

    def play(self, script: str, app: ASGIApp, client: Callable[[ASGIApp, str], Awaitable[None]]) -> None:
        """``client`` is given the middleware around the app, and the path below which that script runs."""
        self._current = app

        async def main() -> None:
            await client(self._middleware, self._folders[script])

        self._loop.run_until_complete(main())

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._current(scope, receive, send)
