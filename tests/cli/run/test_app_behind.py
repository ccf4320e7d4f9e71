"""What is said of an app that cannot be put behind plugins, and of a server that is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from asgi_wasm.cli.run.app_behind import app_behind
from asgi_wasm.errors import SettingsError

_names = (f"an_app_{number}" for number in count())
GOOD = "async def app(scope, receive, send): ...\n"


@pytest.fixture
def path_kept() -> Iterator[None]:
    before = [*sys.path]
    yield
    sys.path[:] = before


def refusal(tmp_path: Path, source: str, name: str = "app") -> str:
    """With the module's name as M: each is imported once in a process."""
    module = next(_names)
    (tmp_path / f"{module}.py").write_text(source)
    with pytest.raises(SettingsError) as caught:
        app_behind(f"{module}:{name}", None)
    return str(caught.value).replace(module, "M")


@pytest.mark.usefixtures("in_tmp_path", "path_kept")
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("\nraise ValueError('boom')", "--app 'M:app' fails when it is imported: ValueError: boom (M.py, line 2)"),
        ("import sys; sys.exit(3)", "--app 'M:app' fails when it is imported: SystemExit: 3 (M.py, line 1)"),
        ("def (", "--app 'M:app' fails when it is imported: SyntaxError: invalid syntax (M.py, line 1)"),
        ("\nimport no_such", "--app 'M:app' cannot be imported: No module named 'no_such' (M.py, line 2)"),
        ("x = 1", "--app 'M:app' cannot be imported: module 'M' has no attribute 'app'"),
        ("app = 1", "--app 'M:app' is no ASGI app: it is of type int"),
        ("def app(): ...", "--app 'M:app' is no ASGI app: it makes one: give what it returns a name, and that"),
        (
            "def app(environ, start_response): ...",
            "--app 'M:app' is no ASGI app: it speaks WSGI, as it seems: put it behind ASGI first, as with a2wsgi",
        ),
        ("def app(a): ...", "--app 'M:app' is no ASGI app: one is called with scope, receive and send"),
    ],
)
def test_what_is_no_app(tmp_path: Path, source: str, sentence: str) -> None:
    assert refusal(tmp_path, source) == sentence


@pytest.mark.usefixtures("in_tmp_path", "path_kept")
def test_an_app_of_a_module_or_within_an_object(tmp_path: Path) -> None:
    module = next(_names)
    (tmp_path / f"{module}.py").write_text(f"{GOOD}class holder:\n    inner = app\n")
    assert callable(app_behind(f"{module}:app", None)) and callable(app_behind(f"{module}:holder.inner", None))


@pytest.mark.parametrize("text", ["main", "main.py", ":app", "main:"])
def test_what_names_no_app(text: str) -> None:
    with pytest.raises(SettingsError, match=r"write module:app, as main:app for 'app' in main\.py"):
        app_behind(text, None)


@pytest.mark.parametrize("text", ["x", "http://", "ftp://a", "http://a:b", "localhost:8000"])
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(SettingsError, match=f"^--upstream '{text}': write http://host:port$"):
        app_behind(None, text)
