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
    from asgi_wasm.asgi.environment import Environment
    from asgi_wasm.asgi.sides import ResponseSide
    from asgi_wasm.host.plugin import Filter

logger = get_logger("asgi_wasm.host")


def tell_cut(to_client: ResponseSide) -> None:
    """Tell of a response that did not get whole to the client."""
    if to_client.reset_reason is not None:
        logger.error("a response was cut off: %s", to_client.reset_reason)
    elif to_client.length.cut is not None:
        logger.error("a response was cut to its length: %s", to_client.length.cut)


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
