"""Workers find each other; a real uvicorn with several is in `tests/plugins/test_shared_state.py`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from asgi_wasm.services.stores.siblings import Siblings

SCRIPT = """
import sys
from asgi_wasm.services.stores.siblings import Siblings
print(Siblings().is_second(), flush=True)
sys.stdin.read()
"""


def test_the_second_of_any_number_is_told(tmp_path: Path) -> None:
    with ExitStack() as stack:
        answers = []
        processes = []
        for _ in range(4):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
                )
            )
            assert process.stdout is not None
            processes.append(process)
            answers.append(process.stdout.readline().strip())
        assert answers == [b"False", b"True", b"False", b"False"]
        for process in processes:
            process.kill()


def test_other_servers_are_no_siblings(tmp_path: Path) -> None:
    """Another folder, or another command line."""
    commands = [([], "."), ([], "/"), (["--port=1"], ".")]
    with ExitStack() as stack:
        for arguments, folder in commands:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SCRIPT, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=tmp_path / folder,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b"False"


def test_a_second_middleware_is_no_sibling() -> None:
    first, second = Siblings(), Siblings()
    assert (first.is_second(), second.is_second()) == (False, False)
    for each in (first, second, second):
        each.leave()


def test_no_place_to_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert not Siblings().is_second()
