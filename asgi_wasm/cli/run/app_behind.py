"""The app that ``asgi-wasm run`` puts behind plugins: one that is imported, an HTTP server, or an echo."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import Any

from asgi_wasm.asgi.types import ASGIApp
from asgi_wasm.cli import given
from asgi_wasm.cli.run.proxy import ReverseProxy, echo
from asgi_wasm.errors import SettingsError


def app_behind(app: str | None, upstream: str | None) -> ASGIApp:
    """What ``--app`` or ``--upstream`` names. Raises `SettingsError`."""
    if upstream:
        return ReverseProxy(given.url(upstream, "--upstream"))
    return imported(app) if app else echo


def imported(text: str) -> ASGIApp:
    """An ASGI app by ``module:app``, as servers take it. Raises `SettingsError`."""
    module, colon, name = text.partition(":")
    if not colon or not name or not module:
        raise SettingsError(f"--app {text!r}: write module:app, as main:app for 'app' in main.py")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"--app {text!r} cannot be imported: {error}{_place(error)}") from None
    except (Exception, SystemExit) as error:
        # Whatever the user's own code does when it is imported.
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise SettingsError(f"--app {text!r} fails when it is imported: {said}{_place(error)}") from None
    _check_asgi(found, text)
    app: ASGIApp = found
    return app


def _place(error: BaseException) -> str:
    """The deepest line of the user's own: that of a syntax error is told by itself."""
    if isinstance(error, SyntaxError):
        return ""
    here = Path.cwd()
    own = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(here)]
    own = [frame for frame in own if "site-packages" not in frame.filename and frame.filename != __file__]
    return f" ({Path(own[-1].filename).relative_to(here)}, line {own[-1].lineno})" if own else ""


def _check_asgi(found: object, text: str) -> None:
    """Refuse what no server could call. Raises `SettingsError`."""
    if not callable(found):
        raise SettingsError(f"--app {text!r} is no ASGI app: it is of type {type(found).__name__}")
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return
    for arguments, problem in (
        ((), "makes one: give what it returns a name, and that"),
        ((1, 2), "speaks WSGI, as it seems: put it behind ASGI first, as with a2wsgi"),
    ):
        if not _takes(signature, 1, 2, 3) and _takes(signature, *arguments):
            raise SettingsError(f"--app {text!r} is no ASGI app: it {problem}")
    if not _takes(signature, 1, 2, 3):
        raise SettingsError(f"--app {text!r} is no ASGI app: one is called with scope, receive and send")


def _takes(signature: inspect.Signature, *arguments: object) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True
