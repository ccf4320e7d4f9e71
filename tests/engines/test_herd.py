"""Workers that start together compile a plugin once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from asgi_wasm.engines import file_lock as locking
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.file_lock import file_lock
from asgi_wasm.engines.wasmtime import WasmtimeEngine

pytest.importorskip("fcntl", reason="there are no such locks here: each worker compiles")

ROOT = Path(__file__).parent.parent.parent
# A small one: what is compiled here is compiled by a busy machine, too, in time.
PLUGIN = ROOT / "plugins/fault_injection/c.wasm"
EMPTY = b"\0asm\1\0\0\0"
# Seconds that a process may take on a busy machine, and three of them.
PATIENCE = 180
pytestmark = pytest.mark.timeout(600)

# Says "compiling" when it does, and goes on when a line arrives.
WORKER = """
import sys
from pathlib import Path
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.wasmtime import WasmtimeEngine

class Engine(WasmtimeEngine):
    def compile(self, code):
        print("compiling", flush=True)
        if sys.argv[2] == "wait":
            sys.stdin.readline()
        return super().compile(code)

print(ModuleCache(Path(sys.argv[1])).load(Engine(), bytes.fromhex(sys.argv[3]))[1], flush=True)
"""


@contextmanager
def worker(directory: Path, *, wait: bool = False) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKER, str(directory), "wait" if wait else "go on", EMPTY.hex()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def only_an_entry(directory: Path) -> bool:
    return [len(path.suffix) for path in directory.iterdir()] == [65]


def test_one_compiles_and_the_others_load(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(worker(tmp_path, wait=True))
        assert line(first) == "compiling"
        others = [stack.enter_context(worker(tmp_path)) for _ in range(3)]
        first.communicate("go on\n", timeout=PATIENCE)
        assert [line(other) for other in others] == ["True"] * 3
    assert only_an_entry(tmp_path), "no lock is left behind"


def test_an_owner_that_is_killed_frees_the_lock(tmp_path: Path) -> None:
    with worker(tmp_path, wait=True) as first:
        assert line(first) == "compiling"
        with worker(tmp_path) as second:
            time.sleep(0.5)  # most likely it waits by then; if not, it finds no lock, which is right too
            first.send_signal(signal.SIGKILL)
            assert line(second) == "compiling"
            assert second.wait(PATIENCE) == 0
    assert only_an_entry(tmp_path)


def test_an_owner_that_is_stopped_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wasm.engines.cache.LOCK_TIMEOUT", 0.2)
    with worker(tmp_path, wait=True) as first:
        assert line(first) == "compiling"
        first.send_signal(signal.SIGSTOP)
        assert ModuleCache(tmp_path).load(WasmtimeEngine(), EMPTY)[1] is False


def test_a_lock_is_held_by_one_and_gives_up_in_time(tmp_path: Path) -> None:
    """Of threads of one process too: two middlewares of one app, two event loops."""
    path = tmp_path / "lock"
    with file_lock(path, 0) as held:
        assert held
        began = time.monotonic()
        with file_lock(path, 0.1) as also_held:
            assert not also_held
        assert time.monotonic() - began >= 0.1
        assert path.exists(), "who does not hold it leaves it alone"
    with file_lock(path, 0) as held:
        assert held


def test_without_locks_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    with file_lock(tmp_path / "missing" / "lock", 60) as held:
        assert not held
    monkeypatch.setattr("fcntl.flock", fail)
    with file_lock(tmp_path / "lock", 60) as held:
        assert not held
    monkeypatch.setattr(locking, "fcntl", None)
    with file_lock(tmp_path / "lock", 60) as held:
        assert not held


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can run a process as another user")
def test_a_warm_cache_of_roots_serves_a_user_who_cannot_write_to_it(tmp_path: Path) -> None:
    """As in an image: `python -m asgi_wasm compile` when it is built, another user when it runs."""
    settings = tmp_path / "asgi-wasm.yaml"
    # Not below `tmp_path`, where others may not pass.
    with tempfile.TemporaryDirectory() as cache:
        os.chmod(cache, 0o755)
        settings.write_text(f"plugins: [{{name: fault, file: '{PLUGIN}'}}]\ncache_dir: '{cache}'\n")
        command = [sys.executable, "-m", "asgi_wasm", "compile", str(settings)]
        first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        assert (first.returncode, first.stdout) == (0, f"plugin 'fault' ({PLUGIN}): compiled\n"), first.stderr
        code = f"""
import os
from pathlib import Path
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.wasmtime import WasmtimeEngine
code = Path({str(PLUGIN)!r}).read_bytes()
engine = WasmtimeEngine()
engine.compile(b"\\0asm\\1\\0\\0\\0")
engine.fingerprint  # reads files of the interpreter, which the other user may have no right to
os.setuid(65534)
print(ModuleCache(Path({cache!r})).load(engine, code)[1], os.access({cache!r}, os.W_OK))
"""
        second = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
        )
    assert (second.stdout, second.stderr) == ("True False\n", "")


def test_compile_says_what_it_cannot_keep(tmp_path: Path) -> None:
    (tmp_path / "bad.wasm").write_bytes(b"no")
    (tmp_path / "cache").touch()
    settings = tmp_path / "asgi-wasm.yaml"
    command = [sys.executable, "-m", "asgi_wasm", "compile", str(settings)]
    for plugin, words in (("bad.wasm", "is no WebAssembly file"), (str(PLUGIN), "the cache did not keep it")):
        settings.write_text(f"plugins: [{{name: x, file: '{plugin}'}}]\ncache_dir: '{tmp_path}/cache'\n")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1 and words in done.stderr
    settings.write_text("plugin: []")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "unknown key 'plugin'" in done.stderr and "Traceback" not in done.stderr
