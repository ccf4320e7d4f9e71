"""The copy of a scope that the app gets, and what of it goes back."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.properties import PluginProperties

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Scope
    from asgi_wasm.host.plan import Plan

_OWN_KEYS = frozenset({"asgi_wasm"})
# What frameworks put into a scope for themselves alone, and have left by the time that the app returns. Servers keep a
# scope until the connection's next request, and with it what such a stack holds.
_STACKS = (AsyncExitStack, ExitStack)
# Extensions by which an app sends bytes that no plugin would see.
BYPASSING_EXTENSIONS = ("http.response.pathsend", "http.response.zerocopysend")


def guarded_scope(scope: Scope, plan: Plan, properties: dict[bytes, bytes]) -> dict[str, Any]:
    """Our own copy of the scope, with ``asgi_wasm`` in it, and without the extensions that would bypass a plugin."""
    own = dict(scope)
    own["asgi_wasm"] = PluginProperties(properties)
    extensions = scope.get("extensions")
    if extensions and plan.changes_body.response:
        own["extensions"] = {name: value for name, value in extensions.items() if name not in BYPASSING_EXTENSIONS}
    return own


def share_scope(own: Scope, server: Scope) -> None:
    """Let middlewares outside read what the app added to its scope (`route`, `endpoint`, `state`), as without us.

    But for exit stacks, which nobody outside has a use for.
    """
    for key in own.keys() - server.keys() - _OWN_KEYS:
        if type(own[key]) not in _STACKS:
            server[key] = own[key]
