"""Engines in processes that are not like others: with signal handlers of their own, with few addresses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_wasm.engines.base import Engine

ROOT = Path(__file__).parent.parent.parent
# Seconds that a process may take on a busy machine.
PATIENCE = 300
pytestmark = pytest.mark.timeout(PATIENCE + 60)

TRAPS = """
import faulthandler, signal, sys
import wasmtime
from asgi_wasm.engines import create_engine
from asgi_wasm.errors import TrapError

TEXT = '''(module (memory (export "memory") 1) (table 1 funcref) (type $t (func))
  (func (export "unreachable") unreachable)
  (func (export "load") (drop (i32.load (i32.const 65533))))
  (func (export "far") (drop (i32.load offset=4294967295 (i32.const -1))))
  (func (export "store") (i64.store (i32.const -8) (i64.const 1)))
  (func (export "fill") (memory.fill (i32.const 65535) (i32.const 0) (i32.const 2)))
  (func (export "divide") (drop (i32.div_u (i32.const 1) (i32.load (i32.const 0)))))
  (func (export "overflow") (drop (i32.div_s (i32.const -2147483648) (i32.sub (i32.load (i32.const 0)) (i32.const 1)))))
  (func (export "truncate") (drop (i32.trunc_f64_s (f64.const nan))))
  (func (export "indirect") (call_indirect (type $t) (i32.load (i32.const 0))))
  (func (export "outside") (call_indirect (type $t) (i32.const 7)))
  (func $deep (export "deep") (call $deep) (call $deep)))'''

def trap_all(module):
    for name in [name for name, export in module.exports.items() if export.kind == "func"]:
        instance = module.instantiate({}, memory_limit=1 << 30)
        try:
            instance.function(name)()
        except TrapError:
            continue
        sys.exit(f"{name} does not trap")

def handler(number, frame):
    sys.exit(f"signal {number} reached the process")

module = create_engine().compile(bytes(wasmtime.wat2wasm(TEXT)))
trap_all(module)
if sys.argv[1] == "faulthandler":
    faulthandler.enable()
elif sys.argv[1] == "handlers":
    for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGTRAP):
        signal.signal(number, handler)
elif sys.argv[1] == "default":
    for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGTRAP):
        signal.signal(number, signal.SIG_DFL)
trap_all(module)
print("all trapped")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="these signals are POSIX's")
@pytest.mark.parametrize(
    ("options", "how"),
    [([], "faulthandler"), (["-X", "faulthandler"], "none"), ([], "handlers"), ([], "default")],
    ids=["faulthandler", "-X faulthandler", "handlers", "default"],
)
def test_a_trap_is_an_error_whatever_signal_handlers_come_later(options: list[str], how: str) -> None:
    """As faulthandler, crash reporters and test runners install them, before the engine or after."""
    command = [sys.executable, *options, "-c", TRAPS, how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all trapped\n", "")


FEW_ADDRESSES = """
import logging, resource, sys
from asgi_wasm.engines import create_engine
logging.basicConfig(format="%(message)s", stream=sys.stdout)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
engine = create_engine()
instances = []
for file in sys.argv[2:]:
    with open(file, "rb") as stream:
        module = engine.compile(stream.read())
    functions = {(each.module, each.name): lambda *_: 0 for each in module.imports}
    instances += [module.instantiate(functions, memory_limit=1 << 30) for _ in range(3)]
print([instance.memory.read(0, 1) for instance in instances], engine.uses_raw_api)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="only POSIX can limit a process's addresses")
@pytest.mark.parametrize("gigabytes", [2, 8])
def test_few_addresses_are_enough_for_many_memories(gigabytes: int) -> None:
    """As under ulimit -v, in a sandbox or on a small machine: one sentence says what it costs."""
    files = [str(ROOT / f"plugins/fault_injection/{name}.wasm") for name in ("rust", "c", "assemblyscript")]
    command = [sys.executable, "-c", FEW_ADDRESSES, str(gigabytes << 30), *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    said, result = done.stdout.splitlines()
    assert "may not reserve 4 GiB of addresses" in said and "microsecond" in said
    assert result == f"{[bytes(1)] * 9} True", done.stderr


FORKED = """
import os, sys
import wasmtime
from asgi_wasm.engines import create_engine
from asgi_wasm.errors import EngineError

code = bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "f") (result i32) (i32.const 7)))'))

def call(engine):
    return engine.compile(code).instantiate({}, memory_limit=1 << 30).function("f")()

kept = create_engine(sys.argv[1])
assert call(kept) == 7
for engine in (None, kept):
    child = os.fork()
    if not child:
        try:
            print("called", call(engine or create_engine(sys.argv[1])), flush=True)
        except EngineError as error:
            print(error, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
"""


# Newer Pythons warn of a fork beside any thread.
QUIETLY = ("-W", "ignore::DeprecationWarning")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")
def test_who_was_forked_from_a_process_that_has_compiled(engine: Engine) -> None:
    """It has none of the threads on which that one compiled: it takes its own, or says so; it never waits for them."""
    done = subprocess.run(
        [sys.executable, *QUIETLY, "-c", FORKED, engine.name],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
    )
    fresh, kept = done.stdout.splitlines()
    if engine.name == "wasmtime":
        assert fresh == "called 7"
    else:
        assert "start the child anew" in fresh
    # An engine that was made before is the parent's.
    assert f"{engine.name} has compiled in the process that this one was forked from" in kept
    assert (done.returncode, done.stderr) == (0, "")
