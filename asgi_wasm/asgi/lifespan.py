"""Lifespan: plugins start before the app and stop after it.

Specification: ASGI `specs/lifespan.rst`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.errors import AsgiWasmError, one_line

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send

from asgi_wasm.logs import escape, get_logger

logger = get_logger("asgi_wasm.host")

_LAST_WORDS = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


class Startable(Protocol):
    """What a lifespan starts and stops."""

    async def start(self) -> None:
        """Start what runs beside the app. Raises `AsgiWasmError`."""
        ...

    async def stop(self) -> None: ...


class Lifespan:
    """One lifespan call: the server's messages pass to the app and back, with our own work around them.

    What the app does or raises reaches the server. Where that ends the call before the server asked for shutdown, the
    server may go on serving, so plugins run on: they end with the event loop then.
    """

    def __init__(self, app: ASGIApp, plugins: Startable, receive: Receive, send: Send) -> None:
        self._app = app
        self._plugins = plugins
        self._server_receive = receive
        self._server_send = send
        # The app called `receive` or `send`: it speaks lifespan.
        self._app_spoke = False
        # The server will not serve any more.
        self._over = False
        self._pending: Message | None = None

    async def run(self, scope: Scope) -> None:
        """Serve the protocol to its end. An app that does not speak it (Django raises on it) is answered for."""
        startup = await self._server_receive()
        try:
            await self._plugins.start()
        except AsgiWasmError as error:
            await self._server_send({"type": "lifespan.startup.failed", "message": escape(one_line(error))})
            return
        except Exception as error:
            # No user's mistake, but ours or the machine's. Raised, it would pass for "this app has no lifespan".
            logger.exception("the plugins cannot start")
            message = f"the plugins cannot start: {type(error).__name__}: {error}"
            await self._server_send({"type": "lifespan.startup.failed", "message": escape(message)})
            return
        self._pending = startup
        try:
            await self._run_app(scope)
            if not self._app_spoke:
                await self._answer_for_app()
        except asyncio.CancelledError:
            # By the server, at whatever point.
            self._over = True
            raise
        finally:
            if self._over:
                await self._plugins.stop()

    async def _run_app(self, scope: Scope) -> None:
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            if self._app_spoke:
                raise
            logger.debug("the app does not speak lifespan: %s", error)

    async def _receive(self) -> Message:
        self._app_spoke = True
        if self._pending is not None:
            message, self._pending = self._pending, None
        else:
            message = await self._server_receive()
        self._over = self._over or message["type"] == "lifespan.shutdown"
        return message

    async def _send(self, message: Message) -> None:
        self._app_spoke = True
        if message["type"] in _LAST_WORDS:
            # Plugins outlive the app's own shutdown, but not the server's, which may come with this message.
            self._over = True
            await self._plugins.stop()
        await self._server_send(message)

    async def _answer_for_app(self) -> None:
        await self._server_send({"type": "lifespan.startup.complete"})
        await self._server_receive()
        self._over = True
        await self._plugins.stop()
        await self._server_send({"type": "lifespan.shutdown.complete"})
