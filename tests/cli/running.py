"""Runs the real command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.plugins.conftest import PLUGINS
from tests.serving import ROOT

__all__ = ["PLUGINS", "ROOT", "Done", "command", "environment", "run"]

SECONDS = 120


@dataclass(frozen=True)
class Done:
    """What the command printed, and its exit status."""

    status: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """Like a terminal of 100 columns; without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASGI_WASM_")}
    return {**kept, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PYTHONPATH": str(ROOT), **more}


def command(*arguments: str | Path) -> list[str]:
    """The command, whether or not its script is on the path; measured where the tests are."""
    return [sys.executable, *_measured(), "-m", "asgi_wasm", *map(str, arguments)]


def _measured() -> list[str]:
    if find_spec("coverage") is None:
        return []
    from coverage import Coverage

    if Coverage.current() is None:
        return []
    # pytest-cov puts together what lies beside its own data.
    options = (f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={ROOT / '.coverage'}", "--parallel-mode")
    return ["-m", "coverage", "run", *options]


def run(*arguments: str | Path, cwd: Path, **more: str) -> Done:
    """Run it to its end in a folder, which should be empty of settings."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)
