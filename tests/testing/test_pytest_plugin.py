"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.running import PLUGINS, ROOT, environment

_TESTS = f"""
import pytest

FILE = {str(PLUGINS / "fault_injection" / "rust.wasm")!r}


@pytest.mark.anyio
async def test_passes(wasm_plugin):
    assert (await wasm_plugin(FILE, {{"http_status": 403}}).get()).status == 403


def test_fails(sync_wasm_plugin):
    plugin = sync_wasm_plugin(FILE, {{"http_status": 403}})
    assert plugin.get("/some/path").status == 200


def test_refused(sync_wasm_plugin):
    sync_wasm_plugin(FILE, {{"http_status": "?"}}).get("/")


def test_without(request):
    pass


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:asgi_wasm",
        "-p",
        "asgi_wasm.testing.pytest_plugin",
        *arguments,
    ]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )


def test_fixtures_and_what_a_failed_test_shows(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TESTS)
    done = pytest_in(tmp_path, "-q")
    assert "2 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    shown = done.stdout.partition("- plugin rust -")[2]
    assert "on_request_headers(" in shown
    assert "send_local_response(status_code=403" in shown
    # What the host refused is told by its sentence, at the line of the test, not by the way through the host.
    refused = done.stdout.partition("_ test_refused _")[2]
    assert "asgi_wasm.errors.PluginStartError: plugin 'rust'" in refused and "http_status is not an integer" in refused
    assert "middleware.py" not in refused and "asyncio" not in refused and "direct cause" not in refused
    # The next run of the tests need not compile the plugin.
    assert [*(tmp_path / ".pytest_cache").rglob("compiled/*")]


def test_the_engine_of_a_session(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TESTS)
    done = pytest_in(tmp_path, "-q", "-k", "test_fails", "--wasm-engine=v8")
    assert "'v8' is no engine" in done.stdout


def test_pytest_finds_it_by_itself() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nasgi_wasm = "asgi_wasm.testing.pytest_plugin"' in text
