"""A plugin that tells of its start and its end."""

from __future__ import annotations

from typing import Any

from asgi_wasm.testing import Hostcalls
from tests.guests import Guest


def living(order: list[str], **more: Any) -> Guest:
    """Tells of its start and its end."""
    roots: list[int] = []

    def on_configure(api: Hostcalls, root: int, size: int) -> int:
        roots.append(root)
        order.append("starts")
        return 1

    def on_done(api: Hostcalls, context: int) -> int:
        if context in roots:
            order.append("ends")
        return 1

    return Guest(on_configure=on_configure, on_done=on_done, **more)
