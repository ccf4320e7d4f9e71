"""A real server on a free port of 127.0.0.1, for as long as a `with` lasts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from tests.waiting import SECONDS, wait_until

ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """A running server. ``port`` is on 127.0.0.1."""

    port: int
    process: subprocess.Popen[bytes]
    _output: IO[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """Everything that it has printed so far."""
        # Not by seek and read: the process writes where this file's one position is, which it shares.
        output = self._output.fileno()
        return os.pread(output, os.fstat(output).st_size, 0).decode("utf-8", "replace")

    def logs(self, words: str) -> bool:
        """Wait until these words are in its log: it may print them after a client has its answer. True."""
        wait_until(lambda: words in self.log(), lambda: f"{words!r} is not in the log:\n{self.log()}")
        return True


# Sockets that are bound and do not listen; `tests/conftest.py` lets go of them after each test.
_held: list[socket.socket] = []


def free_port() -> int:
    """A port that refuses connections until a server of this test listens on it, and that nobody else gets till then.

    It stays bound here, with SO_REUSEADDR: on Linux another socket that sets it, as servers do, may listen there,
    while the kernel gives it to no client and to nobody who asks for any port. Elsewhere it is free at this moment.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    if sys.platform == "linux":
        _held.append(holder)
    else:
        holder.close()
    return port


def let_ports_go() -> None:
    """A server that runs by now holds its port itself."""
    while _held:
        _held.pop().close()


@contextmanager
def dead_port() -> Iterator[int]:
    """A port that refuses connections for as long as a `with` lasts: it is taken, so no other server gets it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def serve(app: str, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Iterator[Server]:
    """Run ``uvicorn app`` and stop it afterwards. Raises RuntimeError, with its output, when it does not come up."""
    port = free_port()
    # A client that a busy machine leaves standing shall not find its connection closed.
    patience = ["--timeout-keep-alive", "600", *(PATIENT_WITH_WORKERS if "--workers" in arguments else ())]
    command = [sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), *patience, *arguments]
    with launch(command, port, env=env, cwd=cwd) as server:
        yield server


@contextmanager
def launch(
    command: Sequence[str], port: int, *, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[Server]:
    """Run a command that listens on ``port``, and stop it afterwards. Raises RuntimeError when it does not come up."""
    search_path = os.pathsep.join([str(cwd), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": search_path, **(env or {})}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
        server = Server(port, process, output)
        try:
            _await_start(process, server)
            yield server
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here: by a signal, and by force when it does not heed that."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def open_files(folder: Path) -> int:
    """How many files of the folder this process has open, where it is told (`/proc`)."""
    links = Path("/proc/self/fd")
    return sum(str(folder) in os.path.realpath(links / name) for name in os.listdir(links))


# Of uvicorn's: without it, a worker that a busy machine leaves standing for 5 s is killed.
PATIENT_WITH_WORKERS = ("--timeout-worker-healthcheck", f"{SECONDS:.0f}")


def ask_until_all_workers_answer(
    url: str,
    workers: int,
    who: Callable[[httpx.Response], str],
    headers: Callable[[], Mapping[str, str]] = dict,
    told: Callable[[], object] = lambda: "",
) -> Counter[str]:
    """Requests, each on a connection of its own, until that many workers have answered: how many each answered.

    A server accepts as soon as its first worker does, and any number of requests can be over before there is another.
    """
    answered: Counter[str] = Counter()

    def all_have() -> bool:
        try:
            response = httpx.get(url, headers={**headers(), "connection": "close"}, trust_env=False)
        except httpx.ConnectError:
            return False
        answered[who(response)] += 1
        return len(answered) == workers

    wait_until(all_have, lambda: f"{dict(answered)} answered\n{told()}")
    return answered


def listens(port: int) -> bool:
    """Whether somebody accepts connections there, on 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await_start(process: subprocess.Popen[bytes], server: Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if listens(server.port):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{server.log()}")
