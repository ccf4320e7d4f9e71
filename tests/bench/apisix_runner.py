"""The process of APISIX's own runner: built by Go from its module, where there is Go."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.apisix import (
    CONF,
    HTTP_REQUEST,
    PLUGIN,
    PREPARE_CONF,
    Connection,
    answer_of,
    conf_question,
    request_question,
    token_of,
)
from tests.serving import stop

MODULE = "github.com/apache/apisix-go-plugin-runner"
VERSION = "v0.5.0"
_START_SECONDS = 60
_BUILD_SECONDS = 300


class NoRunnerError(Exception):
    """It cannot be had here; says why."""


def build(folder: Path) -> Path:
    """The runner, built by Go from its module. Raises `NoRunnerError`."""
    go = shutil.which("go")
    if go is None:
        raise NoRunnerError("APISIX's own runner is left out: Go, which builds it, is not installed")
    found = json.loads(_run(go, "mod", "download", "-json", f"{MODULE}@{VERSION}", folder=folder))
    source, built = folder / "source", folder / "go-runner"
    shutil.copytree(found["Dir"], source, copy_function=shutil.copyfile)
    for path in [source, *source.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    _run(go, "build", "-mod=mod", "-o", str(built), "./cmd/go-runner", folder=source)
    return built


def _run(*command: str, folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=_BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise NoRunnerError(f"APISIX's own runner is left out: Go took over {_BUILD_SECONDS} s") from None
    if done.returncode:
        # What `go mod download` says is in its JSON.
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip(" {}")]
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise NoRunnerError(f"APISIX's own runner is left out: Go could not build it ({reason})")
    return done.stdout


@contextmanager
def runner() -> Iterator[str]:
    """Its process; the path of its socket. Raises `NoRunnerError`."""
    with tempfile.TemporaryDirectory() as folder:
        built, path = build(Path(folder)), Path(folder, "socket")
        environment = {**os.environ, "APISIX_LISTEN_ADDRESS": f"unix:{path}"}
        process = subprocess.Popen([built, "run", "-m", "prod"], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not path.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NoRunnerError("APISIX's own runner is left out: it did not start")
                time.sleep(0.02)
            asyncio.run(_check(str(path)))
            yield str(path)
        finally:
            stop(process)


async def _check(path: str) -> None:
    """It answers in the app's stead: a conf that it does not know it passes over, with a line in its log."""
    connection = Connection()
    await asyncio.get_running_loop().create_unix_connection(lambda: connection, path)
    scope = {"method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"a")]}
    token = token_of(await connection.ask(PREPARE_CONF, conf_question([(PLUGIN, CONF)])))
    answer = answer_of(await connection.ask(HTTP_REQUEST, request_question(1, scope, token)))
    connection.close()
    await asyncio.sleep(0)
    if answer is None or (answer.status, answer.body) != (200, b"hello world"):
        raise NoRunnerError(f"APISIX's own runner is left out: it answers {answer}")
