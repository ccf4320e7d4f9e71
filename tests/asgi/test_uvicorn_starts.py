"""How a real uvicorn starts with real plugins: by lifespan, by the first request, or not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import websockets

from tests.asgi.uvicorn_app import plugin, talk, write
from tests.serving import ROOT, free_port, serve
from tests.waiting import SECONDS


def test_plugin_that_cannot_start_fails_the_server(tmp_path: Path) -> None:
    env = write(tmp_path, plugin("fault_injection/rust", conf="{"))
    with pytest.raises(RuntimeError) as caught, serve("served:app", env=env, cwd=tmp_path):
        pass
    log = str(caught.value)
    assert "plugin 'fault_injection'" in log
    assert "its last words: fault_injection: conf is not JSON" in log
    assert "Application startup failed. Exiting." in log
    assert "Traceback" not in log


def test_exit_code_of_a_failed_start(tmp_path: Path) -> None:
    env = write(tmp_path, plugin("fault_injection/rust", conf="{"))
    command = [sys.executable, "-m", "uvicorn", "served:app", "--port", str(free_port())]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", **env}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 3


@pytest.mark.parametrize("good", [True, False])
def test_start_on_the_first_request_where_the_server_has_no_lifespan(tmp_path: Path, good: bool) -> None:
    """Under a lock: many first requests start the plugins once. Broken ones get their policy, others run."""
    env = write(
        tmp_path,
        plugin("headers/rust", conf={"response": {"add": {"x-plugin": "1"}}}),
        plugin("fault_injection/rust", conf={"percentage": 0} if good else "{"),
    )

    async def main(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=SECONDS) as client:
            return await asyncio.gather(*(client.get(f"{url}/sized") for _ in range(20)))

    with serve("served:app", "--lifespan", "off", env=env, cwd=tmp_path) as server:
        responses = asyncio.run(main(server.url))
        assert {response.status_code for response in responses} == {200 if good else 503}
        assert all(response.headers["x-plugin"] == "1" for response in responses)
        assert server.log().count("plugin 'headers': ") == 1
        assert server.log().count("on_configure answered false") >= (0 if good else 1)
        assert "Traceback" not in server.log()


def test_settings_that_are_wrong_refuse_every_request(tmp_path: Path) -> None:
    env = write(tmp_path, nonsense=1)
    with serve("served:app", "--lifespan", "off", env=env, cwd=tmp_path) as server:
        assert httpx.get(server.url).status_code == 503
        with pytest.raises(websockets.InvalidStatus, match="503"):
            asyncio.run(talk(server))
        assert server.logs("no plugin runs, so every request is refused: settings.yaml: nonsense: unknown key")
        assert "Traceback" not in server.log()
