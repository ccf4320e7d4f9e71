"""Whatever a module's bytes are: refused in one sentence, or run within its limits; and the engine goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from asgi_wasm.engines.base import Engine, HostFunction, Instance, Module, TimeLimit
from asgi_wasm.engines.libwasmer import LibwasmerEngine
from asgi_wasm.errors import EngineError, InvalidModuleError, LinkError, TrapError
from tests.engines.hostile import HEADER, MODULES, SEED, mutated
from tests.engines.wat import wasm
from tests.plugins.conftest import PLUGINS

MEMORY = 16 * 65536
TABLE = 1000
# Seconds; and how many of a processor's anything here may take.
LIMIT = 0.1
PATIENCE = 60
# Seconds of waiting, after which a test is stopped: a busy machine lets it wait, and only what hangs takes so long.
pytestmark = pytest.mark.timeout(600)
MUTATED = 10_000


def instantiate(module: Module) -> Instance:
    limit = TimeLimit(LIMIT, 0, lambda *_: None, "told")
    functions: dict[tuple[str, str], HostFunction] = {("e", "host"): lambda value: value, ("e", "f"): lambda: None}
    return module.instantiate(functions, memory_limit=MEMORY, table_limit=TABLE, time_limit=limit)


def run(engine: Engine, code: bytes) -> None:
    """Everything that a module exports. Raises `EngineError`, and nothing else."""
    module = engine.compile(code)
    instance = instantiate(module)
    try:
        for export in module.exports.values():
            function = instance.function(export.name)
            if function is not None and export.type is not None:
                function(*(1 for _ in export.type.params))
    finally:
        instance.close()


def is_refused_or_ends(engine: Engine, code: bytes) -> None:
    try:
        run(engine, code)
    except EngineError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 5000


def still_works(engine: Engine) -> None:
    instance = instantiate(engine.compile(SEED))
    function = instance.function("f")
    assert function is not None
    assert function() == 12
    instance.close()


@pytest.mark.parametrize("name", MODULES)
def test_a_hostile_module_harms_nobody(engine: Engine, name: str) -> None:
    if "without end" in name or name == "a start that loops":
        _only_where(engine.limits_time)
    if name.startswith(("a memory", "a table", "a hundred", "a start that takes")):
        _only_where(engine.limits_memory)
    began = time.process_time()
    is_refused_or_ends(engine, MODULES[name])
    assert time.process_time() - began < PATIENCE
    still_works(engine)


def _only_where(kept: bool) -> None:
    if not kept:
        pytest.skip("the engine does not keep this limit")


REFUSED = {
    **{name: InvalidModuleError for name in MODULES if name.startswith(("section ", "a section", "a name"))},
    "four billion locals": InvalidModuleError,
    "blocks that never end": InvalidModuleError,
    "two exports of one name": InvalidModuleError,
    "memory64": InvalidModuleError,
    "garbage collection": InvalidModuleError,
    "a hundred thousand imports": InvalidModuleError,
    "a component": InvalidModuleError,
    "an import of no numbers": InvalidModuleError,
    "an import of several results": LinkError,
    "an unknown import": LinkError,
    "a memory as import": LinkError,
    "a table as import": LinkError,
    "a global as import": LinkError,
    "an imported tag": EngineError,
    "shared memory": InvalidModuleError,
    "multi-memory": InvalidModuleError,
    "a start that traps": TrapError,
    "a start that recurses": TrapError,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_only_be_refused_is(engine: Engine, name: str) -> None:
    with pytest.raises(REFUSED[name]):
        instantiate(engine.compile(MODULES[name]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a start that loops", "interrupted, since it ran for"),
        ("tail calls without end", "interrupted, since f ran for"),
        ("exceptions without end", "interrupted, since f ran for"),
    ],
)
def test_what_never_ends_is_interrupted(engine: Engine, name: str, words: str) -> None:
    _only_where(engine.limits_time)
    if isinstance(engine, LibwasmerEngine):
        # It refuses the proposals, and cannot say why a start section ended.
        with pytest.raises(EngineError):
            run(engine, MODULES[name])
    else:
        with pytest.raises(TrapError, match=words):
            run(engine, MODULES[name])


# Mutations


def test_no_changed_byte_crashes_or_escapes(engine: Engine) -> None:
    """The same ones each time; `make fuzz` takes others."""
    _only_where(engine.limits_time)
    # An eighth of them came before.
    for code in dict.fromkeys(mutated(MUTATED, seed=20_261_127)):
        is_refused_or_ends(engine, code)
    still_works(engine)


@pytest.mark.parametrize("plugin", ["fault_injection/c.wasm", "fault_injection/rust.wasm"])
def test_no_part_of_a_plugin_crashes(engine: Engine, plugin: str) -> None:
    whole = (PLUGINS / plugin).read_bytes()
    for size in range(len(HEADER), len(whole), max(1, len(whole) // 300)):
        # Only what ends behind the code, in front of a custom section, is a module.
        with suppress(EngineError):
            engine.compile(whole[:size])
    still_works(engine)


# Limits: at, below, above


@pytest.mark.parametrize(("asked", "grown"), [(6, 4), (7, 4), (8, -1)])
def test_elements_of_a_table(engine: Engine, asked: int, grown: int) -> None:
    _only_where(engine.limits_memory)
    text = """(module (table $t 4 funcref)
      (func (export "f") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))"""
    instance = engine.compile(wasm(text)).instantiate({}, memory_limit=MEMORY, table_limit=11)
    function = instance.function("f")
    assert function is not None
    assert function(asked) == grown & 0xFFFFFFFF


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, True), (12, False)])
def test_a_table_is_refused_that_begins_above_its_limit(engine: Engine, size: int, fits: bool) -> None:
    _only_where(engine.limits_memory)
    module = engine.compile(wasm(f"(module (table {size} funcref))"))
    if fits:
        module.instantiate({}, memory_limit=MEMORY, table_limit=11)
    else:
        with pytest.raises(LinkError, match="table"):
            module.instantiate({}, memory_limit=MEMORY, table_limit=11)


def in_a_thread(stack: int, work: Callable[[], object]) -> list[BaseException]:
    """What ``work`` raises in a thread with so many bytes of stack."""
    raised: list[BaseException] = []

    def target() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    before = threading.stack_size(stack)
    try:
        thread = threading.Thread(target=target)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(PATIENCE)
    return raised


DEEP = '(module (func $f (export "f") (result i32) (i32.add (call $f) (i32.const 1))))'


def test_recursion_ends_before_the_threads_stack_does(engine: Engine) -> None:
    """Where there is not enough of it, no plugin starts; it would end the process."""
    raised = [in_a_thread(kilobytes * 1024, lambda: run(engine, wasm(DEEP))) for kilobytes in (256, 512, 1024, 8192)]
    assert all(len(each) == 1 and isinstance(each[0], LinkError | TrapError) for each in raised), raised
    assert isinstance(raised[-1][0], TrapError)
