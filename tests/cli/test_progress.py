"""Bars of what takes long: on a terminal, for a person, and gone afterwards."""

from __future__ import annotations

import io
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from asgi_wasm.cli import bars, progress
from tests.cli.running import command, environment
from tests.fetching.conftest import authority
from tests.fetching.site import digest_of, served
from tests.fetching.test_fetcher import RUST

__all__ = ["authority"]

FAULT = "asgi_wasm:fault_injection"


class Terminal:
    """What a process writes to a terminal of its own."""

    def __init__(self, *arguments: str, cwd: Path, environ: Mapping[str, str] | None = None) -> None:
        ours, theirs = os.openpty()
        env = environment(**{"TERM": "xterm", **(environ or {})})
        self.process = subprocess.Popen(
            command(*arguments), cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._ours, self.text = ours, ""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # which Linux raises when nobody has the other end any more
                return
            if not data:
                return
            self.text += data.decode("utf-8", "replace")

    def until(self, words: str) -> None:
        """Wait for it."""
        deadline = time.monotonic() + 240
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def ended(self) -> str:
        """Wait for its end; all that it has written."""
        self.process.wait(timeout=240)
        self._reading.join(timeout=60)
        os.close(self._ours)
        assert self.process.returncode == 0, self.text
        return self.text


@pytest.fixture(autouse=True)
def _terminals() -> None:
    if not hasattr(os, "openpty"):
        pytest.skip("this system has no pseudo-terminals")


def test_a_bench_is_counted(tmp_path: Path) -> None:
    shown = Terminal("bench", FAULT, "--conf", "{}", cwd=tmp_path).ended()
    assert "measuring asgi_wasm:fault_injection" in shown and "/16" in shown
    # What is written last is the result alone: the bar's line was erased before it.
    assert "measuring" not in shown.rpartition("\x1b[2K")[2]


@pytest.mark.parametrize("start", ["inspect", "check", "run"])
def test_a_fetch_is_counted_in_bytes(tmp_path: Path, authority: tuple[ssl.SSLContext, Path], start: str) -> None:
    """Half of it comes, and the rest when the bar has been seen."""
    content, seen = RUST.read_bytes(), threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        seen.wait(240)
        handler.wfile.write(content[len(content) // 2 :])

    more = {"SSL_CERT_FILE": str(authority[1]), "XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_PROXY": "*"}
    with served(authority[0]) as site:
        site.answers["/fault.wasm"] = slowly
        name = f"{site.url('/fault.wasm')}#sha256={digest_of(content)}"
        (tmp_path / "asgi-wasm.yaml").write_text(f"plugins:\n  - {{name: p, file: '{name}', conf: '{{}}'}}\n")
        arguments = {"check": [], "inspect": [name], "run": [name, "--conf", "{}", "--port", "0"]}[start]
        terminal = Terminal(start, *arguments, cwd=tmp_path, environ=more)
        try:
            terminal.until("fetching 127.0.0.1/fault.wasm")
            terminal.until("kB")
        finally:
            seen.set()
        if start == "run":
            terminal.until("Ctrl-C ends it")
            terminal.process.terminate()
            terminal.process.wait(240)
        else:
            terminal.ended()


class Screen(io.StringIO):
    """A terminal in process."""

    def isatty(self) -> bool:
        return True


@contextmanager
def screen(monkeypatch: pytest.MonkeyPatch, *arguments: str, piped: str = "") -> Iterator[Screen]:
    """Standard error of a command that is given these, for a person, unless a stream is ``piped``."""
    made = Screen()
    monkeypatch.setattr(sys, "stdout", Screen())
    monkeypatch.setattr(sys, "stderr", made)
    if hasattr(sys, piped):
        monkeypatch.setattr(sys, piped, io.StringIO())
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown(arguments):
        yield made


def drawn(made: Screen, words: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 60
    while words not in made.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_quick_flickers_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "SECONDS", 3600.0)
    with screen(monkeypatch) as made, progress.steps("quick", 2) as done:
        done(1)
    assert made.getvalue() == ""


def test_several_at_once_and_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a start of plugins waits for a fetch, which is on another thread."""
    monkeypatch.setattr(bars, "SECONDS", 0.0)
    for _ in range(2):
        with screen(monkeypatch) as made:
            with progress.steps("starting"):
                drawn(made, "starting")
                with progress.steps("fetching \x1b[2J[bold]", 4) as done:
                    done(3)
                    drawn(made, "3/4")
                    assert "fetching \\x1b[2J[bold]" in made.getvalue()
            before = made.getvalue()
            with progress.steps("once more"):
                drawn(made, "once more")
            assert made.getvalue().startswith(before)


@pytest.mark.parametrize("reads", ["--json", "stdout", "stderr"])
def test_programs_see_none(monkeypatch: pytest.MonkeyPatch, reads: str) -> None:
    monkeypatch.setattr(bars, "SECONDS", 0.0)
    with screen(monkeypatch, *([reads] if reads == "--json" else []), piped=reads):
        assert progress._PERSON.get() is None
        with progress.steps("alone", 3) as done:
            assert done(1) is None


def test_what_fails_is_not_left_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "SECONDS", 0.0)

    def fail(made: Screen) -> None:
        with progress.steps("failing"):
            drawn(made, "failing")
            raise ValueError("it fails")

    with screen(monkeypatch) as made:
        with pytest.raises(ValueError, match="it fails"):
            fail(made)
        with progress.steps("next"):
            drawn(made, "next")
        assert "failing" not in made.getvalue().rpartition("next")[0].rpartition("\x1b[2K")[2]
