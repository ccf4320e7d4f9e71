"""How a request ends otherwise than whole: whether its client has left, and what the log is told."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asgi_wasm.errors import one_line
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.logs import get_logger

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.environment import Environment
    from asgi_wasm.asgi.exchange.sides import RequestSide, ResponseSide
    from asgi_wasm.host.plugin import Filter

logger = get_logger("asgi_wasm.host")


def tell(environment: Environment, level: LogLevel, sentence: str) -> None:
    """Tell of something that any request may bring about again."""
    environment.log.host("", level, sentence)


def tell_cut(environment: Environment, to_client: ResponseSide, to_app: RequestSide | None = None) -> None:
    """Tell of a response that did not get whole to the client, or of a body that did not get whole to the app."""
    if to_client.reset_reason is not None:
        tell(environment, LogLevel.ERROR, f"a response was cut off: {to_client.reset_reason}")
    elif to_client.length.cut is not None:
        tell(environment, LogLevel.ERROR, f"a response was cut to its length: {to_client.length.cut}")
    if to_app is not None and to_app.length.cut is not None:
        tell(environment, LogLevel.ERROR, f"a request's body was cut to its length: {to_app.length.cut}")


def tell_after_end(environment: Environment, data: bytes | None) -> bool:
    """Tell of what comes after a request's end, if that is anything."""
    if data:
        sentence = "what came after a request's end is kept from the app: no plugin has seen it"
        tell(environment, LogLevel.WARN, sentence)
    return bool(data)


def tell_raised(error: Exception) -> None:
    """Tell of what the app raised when a plugin had answered: in one line, and its stack to those who debug.

    The client has its answer, and the app was told of a disconnect, on which most frameworks raise.
    """
    stack = error if logger.isEnabledFor(logging.DEBUG) else None
    said = f": {one_line(error)}" if str(error) else ""
    logger.info("the app raised %s after a plugin had answered%s", type(error).__name__, said, exc_info=stack)


def headers_dropped(environment: Environment, filters: Sequence[Filter], names: list[bytes]) -> None:
    """Tell of headers that some plugin wrote and nobody can send."""
    shown = ", ".join(name.decode("latin-1") for name in names)
    plugins = ", ".join(plugin_filter.spec.name for plugin_filter in filters)
    environment.log.host(plugins, LogLevel.WARN, f"left out headers that HTTP cannot carry: {shown}")


async def nothing() -> None:
    """What is awaited where nothing is sent."""


def has_left(client_gone: bool, complete: bool) -> bool:
    """Whether a request that ends now has lost its client before the response was whole.

    Servers either say so to whoever receives, or cancel the request's task.
    """
    return not complete and (client_gone or isinstance(sys.exc_info()[1], asyncio.CancelledError))
