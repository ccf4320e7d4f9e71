"""Runs the real command: in this process, or in one of its own where that is part of what is tested."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from asgi_wasm.cli import main
from tests.plugins.conftest import PLUGINS
from tests.serving import ROOT

__all__ = ["PLUGINS", "ROOT", "Done", "command", "environment", "run", "run_alone"]

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
    """Run it to its end in a folder, which should be empty of settings.

    It is run in this process, since another takes a second to start.
    """
    out, err = io.StringIO(), io.StringIO()
    logger = logging.getLogger("asgi_wasm")
    handlers = [*logger.handlers]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        wanted = environment(**more)
        for name in os.environ.keys() - wanted.keys():
            patch.delenv(name)
        for name, value in wanted.items():
            patch.setenv(name, value)
        try:
            status = main([*map(str, arguments)])
        finally:
            logger.handlers[:] = handlers
    return Done(status, out.getvalue(), err.getvalue())


def run_alone(*arguments: str | Path, cwd: Path, **more: str) -> Done:
    """The same in a process of its own."""
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
