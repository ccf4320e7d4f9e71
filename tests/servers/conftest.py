"""Each server is started once for all tests of this folder, when the first of them asks for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.extras import why_not
from tests.serving import ROOT, Server, free_port, launch

APP = "tests.servers.app:app"
# What starts the server: the module behind ``python -m``, its package, and its arguments.
SERVERS: dict[str, list[str]] = {
    "uvicorn, h11": ["uvicorn", APP, "--host", "127.0.0.1", "--port", "PORT", "--http", "h11"],
    "uvicorn, httptools": ["uvicorn", APP, "--host", "127.0.0.1", "--port", "PORT", "--http", "httptools"],
    "hypercorn": ["hypercorn", APP, "--bind", "127.0.0.1:PORT"],
    "daphne": ["daphne", "-b", "127.0.0.1", "-p", "PORT", APP],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "PORT", APP],
}
# Without TLS, by prior knowledge.
HTTP2 = ["hypercorn", "granian"]


def why_no_server(name: str) -> str:
    """Why the server cannot run here, for a skip; "" where it can."""
    module = SERVERS[name][0]
    return why_not(module) or (why_not("httptools") if "httptools" in name else "")


@pytest.fixture(scope="session")
def server_named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """The running server of this name in `SERVERS`."""
    running: dict[str, Server] = {}
    cache: Path = tmp_path_factory.mktemp("compiled")

    def find(name: str) -> Server:
        if reason := why_no_server(name):
            pytest.skip(reason)
        if name not in running:
            port = free_port()
            command = [part.replace("PORT", str(port)) for part in SERVERS[name]]
            env = {"PYTHONUNBUFFERED": "1", "ASGI_WASM_CACHE_DIR": str(cache)}
            running[name] = stack.enter_context(launch([sys.executable, "-m", *command], port, env=env, cwd=ROOT))
        return running[name]

    with ExitStack() as stack:
        yield find
