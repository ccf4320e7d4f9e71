"""Several workers and one scrape: prometheus_client's multi-process mode."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.services.metrics import scraping
from tests.services.metrics.scraping import Scrape
from tests.serving import Server, ask_until_all_workers_answer, serve
from tests.waiting import SECONDS, wait_until

PAGE = 65536


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "metrics"
    made.mkdir()
    return made


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    env = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with serve("tests.services.metrics.served:app", "--workers", "2", env=env) as server:
        yield server


def scrape(server: Server) -> Scrape:
    response = httpx.get(f"{server.url}/metrics/", trust_env=False, timeout=SECONDS)
    assert response.status_code == 200, server.log()
    return Scrape(response.text)


def test_workers_sum_up_and_a_killed_one_leaves_its_counts(server: Server, directory: Path) -> None:
    answered = ask_until_all_workers_answer(f"{server.url}/", 2, lambda answer: answer.text, told=server.log)
    total = sum(answered.values())
    # A worker counts a request when it is over, which is after its answer.
    wait_until(lambda: scrape(server).get("c_in_flight", plugin="counter") == 0)
    wait_until(lambda: scrape(server).get("asgi_wasm_requests_total", answered_by="app") == total)
    found = scrape(server)
    assert found.get("c_requests_total", plugin="counter") == total
    assert found.get("c_path_length_count", plugin="counter") == total
    assert found.get("asgi_wasm_requests_total", answered_by="app") == total
    labels = {"plugin": "counter", "callback": "on_request_headers"}
    assert found.get("asgi_wasm_callback_seconds_count", **labels) == total
    memory = found.get("asgi_wasm_vm_memory_bytes", plugin="counter")
    assert memory is not None and memory >= 2 * PAGE and memory % PAGE == 0
    assert found.get("asgi_wasm_vm_starts_total", plugin="counter") == 2

    killed = int(next(iter(answered)))
    os.kill(killed, signal.SIGKILL)
    # uvicorn starts another worker; what the killed one counted stays, and what it held is gone.
    wait_until(lambda: scrape(server).get("asgi_wasm_vm_starts_total", plugin="counter") == 3)
    found = scrape(server)
    assert found.get("c_requests_total", plugin="counter") == total
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="counter") == memory
    assert not list(directory.glob(f"gauge_live*_{killed}.db"))
    assert list(directory.glob(f"counter_{killed}.db"))


# A process that counts, with gauges of its own, and then says what a scrape shows it.
SCRIPT = """
import asyncio, sys
from asgi_wasm import WasmMiddleware, metrics_app
from tests.driving import answering, request
from tests.plugins.conftest import PLUGINS

async def main():
    plugin = {"name": "counter", "file": PLUGINS / "counter/assemblyscript.wasm", "conf": "c"}
    app = WasmMiddleware(answering(), settings={"plugins": [plugin], "metrics": True, "routes": []})
    for _ in range(2):
        await app.start()
        await request(app)
        await app.stop()
    print((await request(metrics_app)).body.decode())

asyncio.run(main())
"""


def run_one_process(directory: Path) -> Scrape:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-W", "error::UserWarning", "-c", SCRIPT]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    return Scrape(result.stdout)


def test_restart_in_one_process(directory: Path) -> None:
    """A stopped middleware's gauges are zero: prometheus_client cannot take them out of the file."""
    found = run_one_process(directory)
    assert found.get("c_requests_total", plugin="counter") == 2
    assert found.get("c_in_flight", plugin="counter") == 0
    assert found.get("asgi_wasm_vm_memory_bytes", plugin="counter") == 0


@pytest.mark.parametrize("named_by_pid", [True, False])
def test_scrape_by_another_process(directory: Path, monkeypatch: pytest.MonkeyPatch, named_by_pid: bool) -> None:
    """Only a process whose own files bear its id takes ids of others for ids of processes."""
    run_one_process(directory)
    (dead,) = directory.glob("gauge_livesum_*.db")
    others = [directory / f"gauge_livesum_{name}.db" for name in ("worker-1", os.getppid())]
    if named_by_pid:
        others.append(directory / f"gauge_livesum_{os.getpid()}.db")
    for other in others:
        shutil.copy(dead, other)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    found = asyncio.run(scraping.scrape(openmetrics=True))
    assert found.get("c_requests_total", plugin="counter") == 2
    assert found.get("c_in_flight", plugin="counter") == 0
    assert dead.exists() is not named_by_pid
    assert all(other.exists() for other in others)


def test_file_that_another_process_is_just_making(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_one_process(directory)
    (directory / "counter_1.db").touch()
    (directory / "gauge_livesum_1.db").symlink_to(directory / "gone")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    assert asyncio.run(scraping.scrape()).get("c_requests_total", plugin="counter") == 2


def test_directory_that_is_not_there_fails_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with (
        pytest.raises(RuntimeError, match="is no directory: make it, empty, before the server starts"),
        serve("tests.services.metrics.served:app", env={"PROMETHEUS_MULTIPROC_DIR": str(missing)}),
    ):
        raise AssertionError("it must not come up")
