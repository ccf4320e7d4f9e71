"""Under the servers and test frameworks that people have: each makes and ends its event loops in its own way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator

from asgi_wasm import WasmMiddleware
from tests.driving import answering, http_scope
from tests.serving import PATIENT_WITH_WORKERS, ROOT, ask_until_all_workers_answer, free_port
from tests.waiting import SECONDS
from tests.worker.versions import HEADERS

APP = f"""
import logging, os
from asgi_wasm import WasmMiddleware

logging.basicConfig(level="INFO")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("RAISES"):
            raise OSError("the database is away")
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"x-process", b"%d" % os.getpid())]}})
    await send({{"type": "http.response.body", "body": b"app"}})


bare = app
conf = {{"response": {{"add": {{"x-plugin": "1"}}}}}}
app = WasmMiddleware(app, plugins=[{{"name": "headers", "file": "{HEADERS}", "conf": conf}}])
"""

SERVERS = {
    "uvicorn": ["uvicorn", "--host", "127.0.0.1", "--port", "PORT", *PATIENT_WITH_WORKERS, "--workers", "2", "APP"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:PORT", "--workers", "2", "APP"],
    "gunicorn": ["gunicorn", "--bind", "127.0.0.1:PORT", "--workers", "2", "-k", "uvicorn_worker.UvicornWorker", "APP"],
    "gunicorn --preload": [
        *("gunicorn", "--preload", "--bind", "127.0.0.1:PORT", "--workers", "2"),
        *("-k", "uvicorn_worker.UvicornWorker", "APP"),
    ],
}


@contextmanager
def served(
    server: str, folder: Path, app: str = "served:app", *more: str, **env: str
) -> Iterator[tuple[int, Any, Path]]:
    """Its port, its process and its log; it is stopped afterwards, by force if need be."""
    name = server.split()[0]
    if find_spec(name) is None or (name == "gunicorn" and find_spec("uvicorn_worker") is None):
        pytest.skip(f"{name} is not installed: pip install '.[test]'")
    (folder / "served.py").write_text(APP)
    port, log = free_port(), folder / "log"
    line = [part.replace("PORT", str(port)).replace("APP", app) for part in (*SERVERS[server][:-1], *more, "APP")]
    search_path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": search_path, **env}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *line], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        yield port, process, log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def told_by(response: httpx.Response) -> str:
    """The worker's process id; each answer has the plugin's header."""
    assert (response.status_code, response.headers["x-plugin"]) == (200, "1")
    process: str = response.headers["x-process"]
    return process


@pytest.mark.parametrize("server", list(SERVERS))
def test_workers_of_a_server(server: str, tmp_path: Path) -> None:
    with served(server, tmp_path) as (port, process, log):
        ask_until_all_workers_answer(f"http://127.0.0.1:{port}", 2, told_by, told=log.read_text)
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("server", "options"), [("uvicorn", ("--lifespan", "on")), ("uvicorn", ("--lifespan", "auto")), ("hypercorn", ())]
)
def test_startup_that_raises(server: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """The server does what it does with the bare app: it ends, with the app's error in its log, or serves on."""
    results = []
    for app in ("served:bare", "served:app"):
        folder = tmp_path / app.replace(":", "-")
        folder.mkdir()
        workers = ("--workers", "1")
        with served(server, folder, app, *workers, *options, RAISES="1") as (port, process, log):
            results.append((_outcome(port, process), "the database is away" in log.read_text()))
    assert results[0] == results[1]


def _outcome(port: int, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"exit {process.returncode}"
        try:
            return f"serves {httpx.get(f'http://127.0.0.1:{port}/', timeout=SECONDS).text}"
        except httpx.TransportError:
            time.sleep(0.05)
    return "neither"


# --- test frameworks

TESTS = f"""
import httpx
import pytest
from asgi_wasm import WasmMiddleware


async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"app"}})


conf = {{"response": {{"add": {{"x-plugin": "1"}}}}}}
app = WasmMiddleware(app, plugins=[{{"name": "headers", "file": "{HEADERS}", "conf": conf}}])


@pytest.mark.FRAMEWORK
@pytest.mark.parametrize("turn", range(5))
async def test_answers(turn):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        for _ in range(3):
            assert (await client.get("/")).headers["x-plugin"] == "1"
    assert len(app._workers) == 1


def test_nothing_is_left():
    assert len(app._workers) == LEFT
"""


_INI = (
    "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n",
    "[pytest]\nfilterwarnings = error\n",
)


@pytest.mark.parametrize(
    ("framework", "options"),
    [
        ("asyncio", ["-p", "pytest_asyncio.plugin", "-p", "no:anyio"]),
        ("asyncio(loop_scope='session')", ["-p", "pytest_asyncio.plugin", "-p", "no:anyio"]),
        ("anyio", ["-p", "anyio.pytest_plugin", "-p", "no:asyncio"]),
    ],
)
def test_loops_of_test_frameworks(framework: str, options: list[str], tmp_path: Path) -> None:
    """One loop a test, or one for all."""
    plugin = options[1].partition(".")[0]
    if find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed: pip install '.[test]'")
    # The loop of a session lives on while a test looks that has none.
    left = "1" if "session" in framework else "0"
    (tmp_path / "test_app.py").write_text(TESTS.replace("FRAMEWORK", framework).replace("LEFT", left))
    if framework == "anyio":
        (tmp_path / "conftest.py").write_text(
            "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
        )
    (tmp_path / "pytest.ini").write_text(_INI[framework == "anyio"])
    command = [sys.executable, "-m", "pytest", "-q", *options, str(tmp_path)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_djangos_way_from_synchronous_to_asynchronous() -> None:
    """Django's asynchronous tests run each in a loop of its own, made by `async_to_sync`, here in threads as well."""
    conf = {"response": {"add": {"x-plugin": "1"}}}
    entry = {"name": "headers", "file": HEADERS, "conf": conf}
    app = WasmMiddleware(answering(b"app"), plugins=[entry], settings={})

    async def test() -> Any:
        communicator: Any = ApplicationCommunicator(app, http_scope())  # type: ignore[no-untyped-call]
        await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
        start = await communicator.receive_output(SECONDS)
        assert (await communicator.receive_output(SECONDS))["body"] == b"app"
        await communicator.wait()
        return dict(start["headers"])[b"x-plugin"]

    assert [async_to_sync(test)() for _ in range(3)] == [b"1"] * 3
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: async_to_sync(test)(), range(8))) == [b"1"] * 8
    assert len(app._workers) == 0
