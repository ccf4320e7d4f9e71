"""What ``asgi-wasm run`` prints while it serves: each request with its verdict, and with ``--trace`` each call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.cli import console
from asgi_wasm.errors import AsgiWasmError
from asgi_wasm.host.vm.trace import Call
from asgi_wasm.logs import escape
from asgi_wasm.services.log import StandardLog
from asgi_wasm.services.traces.text import line

_QUIET = ("malloc", "proxy_on_memory_allocate")
_STYLES = {logging.DEBUG: "dim", logging.INFO: "", logging.WARNING: "yellow", logging.ERROR: "red"}


class LiveTrace:
    """A `host.vm.trace.TraceSink` that prints: a callback when it begins and when it ends, a hostcall when it ends."""

    reads_memory = True

    def begin(self, call: Call) -> None:
        """A callback's hostcalls come below it."""
        call.began = time.perf_counter_ns()
        if call.is_callback and call.name not in _QUIET:
            console.line(f"  {line(call)}", "cyan")

    def end(self, call: Call) -> None:
        """With what came of it."""
        call.ended = time.perf_counter_ns()
        if call.name not in _QUIET:
            console.line(f"  {line(call)}", "cyan" if call.is_callback else "dim")


class TracedLog(StandardLog):
    """`StandardLog`, and calls are printed."""

    def trace(self) -> LiveTrace:
        """Where calls go."""
        return LiveTrace()


class Printed(logging.Handler):
    """Prints what plugins and the host log."""

    def __init__(self) -> None:
        super().__init__()
        # Errors of a start under way, which the exception that ends it may tell again; None when there is none.
        self._held: list[logging.LogRecord] | None = None

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Errors are printed at its end: those that an `AsgiWasmError` which ends it quotes, by whoever tells that."""
        self._held, quoted = [], ""
        try:
            yield
        except AsgiWasmError as error:
            quoted = escape(str(error))
            raise
        finally:
            held, self._held = self._held, None
            for record in held:
                if record.getMessage() not in quoted:
                    self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        if self._held is not None and record.levelno >= logging.ERROR:
            self._held.append(record)
            return
        name = record.name.removeprefix("asgi_wasm.")
        console.line(f"  {record.levelname:<8} {name}: {record.getMessage()}", _STYLES.get(record.levelno, "red"))


class Announced:
    """An ASGI app around the plugins that prints each request and what came of it."""

    def __init__(self, inner: Callable[[ASGIApp], ASGIApp], app: ASGIApp) -> None:
        """``inner`` puts the plugins before an app."""
        self._app = inner(self._behind)
        self._behind_app = app

    async def _behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (seen := scope.get("asgi_wasm.run")) is not None:
            seen.append(scope["path"])
        await self._behind_app(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        target = scope["raw_path"].decode("latin-1") + ("?" if scope["query_string"] else "")
        what = escape(f"{scope['method']} {target}{scope['query_string'].decode('latin-1')}")
        console.line(f"→ {what}", "bold")
        seen: list[str] = []
        status: list[int] = []
        began = time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await send(message)

        try:
            await self._app({**scope, "asgi_wasm.run": seen}, receive, sending)
        finally:
            took = (time.perf_counter() - began) * 1000
            by = "by the app" if seen else "by a plugin or the host: the app saw nothing"
            code = str(status[0]) if status else "no answer"
            style = "green" if status and status[0] < 400 else "yellow"
            console.line(f"← {code} {what} in {took:.1f} ms, {by}", style)
