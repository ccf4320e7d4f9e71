"""How the plugins of a middleware are, for people and for probes: an app to be mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from asgi_wasm.status.app import Middleware

__all__ = ["status_app"]


def status_app(middleware: Middleware | Starlette, *, token: str | None = None) -> Starlette:
    """An app that shows the plugins of ``middleware``, to be mounted anywhere. It shows no configuration.

    Without a ``token`` it answers clients on this machine only. Paths: ``/`` (the page), ``/status.json``,
    ``/traces.json`` and ``/traces/NUMBER.json`` (the last requests), ``/plugins.json?method=&url=`` (which plugins
    run), ``/reload`` (POST) and ``/health``, which is open and says nothing but "ok" (200) or "not ready" (503).
    ``middleware`` may also be the Starlette or FastAPI app that it was added to by ``add_middleware``.
    Raises ValueError for an empty token, and TypeError for what is neither.
    """
    # Whoever does not mount it does not pay for it.
    from asgi_wasm.status.app import make_app

    return make_app(middleware, token)
