"""A real Redis (or Valkey) on a free port of 127.0.0.1 that keeps nothing."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.serving import free_port

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "no redis-server is installed (Debian: apt-get install redis-server)"
_START_SECONDS = 30.0


class RedisServer:
    """A server that can be stopped, started again (empty) and frozen."""

    def __init__(self, *arguments: str, keeps_nothing: bool = True) -> None:
        """``arguments`` may begin with a file of settings. A Sentinel knows no settings that say what is kept."""
        self.port = free_port()
        keeping = ["--save", "", "--appendonly", "no"] if keeps_nothing else []
        self._arguments = [*arguments, "--bind", "127.0.0.1", "--port", str(self.port), *keeping]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert BINARY is not None, MISSING
        self._process = subprocess.Popen([BINARY, *self._arguments], stdout=subprocess.DEVNULL, cwd="/")
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
def redis_server(*arguments: str, keeps_nothing: bool = True) -> Iterator[RedisServer]:
    server = RedisServer(*arguments, keeps_nothing=keeps_nothing)
    server.start()
    try:
        yield server
    finally:
        server.stop()
