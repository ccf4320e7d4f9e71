"""A guest's memory, read and written by the host, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.engines.base import Engine
from asgi_wasm.errors import LinkError, MemoryAccessError
from tests.engines.wat import MARKER, PAGE, get, memory_guest, start


def test_what_is_written_is_read_by_guest_and_host(engine: Engine) -> None:
    instance = memory_guest(engine)
    memory = instance.memory
    memory.write(0, MARKER * PAGE)
    memory.write(100, b"hello")
    assert memory.read(99, 7) == MARKER + b"hello" + MARKER
    assert get(instance, "load")(100) == int.from_bytes(b"hell", "little")
    memory.write_u32(101, -2)
    assert memory.read(100, 6) == b"h\xfe\xff\xff\xff" + MARKER
    assert isinstance(memory.read(0, 3), bytes)


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
def test_any_bytes_may_be_written(engine: Engine, data: Any) -> None:
    memory = memory_guest(engine).memory
    memory.write(1, data)
    assert memory.read(0, 5) == b"\0abc\0"


def test_memory_that_the_guest_grew_is_reached_through_the_same_object(engine: Engine) -> None:
    instance = memory_guest(engine)
    memory = instance.memory
    memory.write(7, b"before")
    with pytest.raises(MemoryAccessError):
        memory.read(2 * PAGE, 1)
    assert get(instance, "grow")(2) == 1
    memory.write(3 * PAGE - 4, b"tail")
    assert memory.size == 3 * PAGE
    assert memory.read(3 * PAGE - 4, 4) == b"tail"
    assert get(instance, "load")(3 * PAGE - 4) == int.from_bytes(b"tail", "little")
    assert memory.read(7, 6) == b"before"
    assert memory.read(0, 3 * PAGE)[-4:] == b"tail"


def test_memory_that_grows_in_a_nested_call_is_written_at_once(engine: Engine) -> None:
    instance = memory_guest(engine)
    for _ in range(3):
        assert get(instance, "fill")(2) == 7
    assert instance.memory.size == 7 * PAGE


@pytest.mark.parametrize(
    ("address", "size"),
    [(PAGE, 1), (PAGE - 1, 2), (0, PAGE + 1), (0xFFFFFFFF, 1), (0xFFFFFFFF, 0xFFFFFFFF), (PAGE + 1, 0)],
)
def test_a_range_that_leaves_memory_is_refused_and_nothing_is_written(engine: Engine, address: int, size: int) -> None:
    memory = memory_guest(engine).memory
    memory.write(0, MARKER * PAGE)
    with pytest.raises(MemoryAccessError):
        memory.read(address, size)
    if size <= 2 * PAGE:
        with pytest.raises(MemoryAccessError):
            memory.write(address, bytes(size))
    assert memory.read(0, PAGE) == MARKER * PAGE


@pytest.mark.parametrize("address", [PAGE - 3, PAGE, 0xFFFFFFFF])
def test_a_u32_that_leaves_memory_is_refused(engine: Engine, address: int) -> None:
    memory = memory_guest(engine).memory
    with pytest.raises(MemoryAccessError):
        memory.write_u32(address, 1)
    assert memory.read(PAGE - 4, 4) == bytes(4)


def test_the_last_byte_and_an_empty_range_at_the_end_are_inside(engine: Engine) -> None:
    memory = memory_guest(engine).memory
    memory.write(PAGE - 1, b"x")
    memory.write(PAGE, b"")
    assert memory.read(PAGE - 1, 1) == b"x"
    assert memory.read(PAGE, 0) == b""
    assert memory.read(0, 0) == b""


def test_a_module_without_exported_memory(engine: Engine) -> None:
    instance = start(engine, '(module (memory 1) (func (export "f")))')
    with pytest.raises(LinkError, match="memory"):
        _ = instance.memory
    assert get(instance, "f")() is None


def test_an_export_named_memory_that_is_none(engine: Engine) -> None:
    with pytest.raises(LinkError, match="memory"):
        _ = start(engine, '(module (func (export "memory")))').memory


def test_memory_of_no_pages(engine: Engine) -> None:
    text = """(module (memory (export "memory") 0)
      (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
    instance = start(engine, text)
    memory = instance.memory
    assert memory.size == 0
    assert memory.read(0, 0) == b""
    with pytest.raises(MemoryAccessError):
        memory.write(0, b"x")
    get(instance, "grow")()
    memory.write(0, b"x")
    assert memory.read(0, 2) == b"x\0"


def test_memory_grows_up_to_its_limit_and_no_further(engine: Engine) -> None:
    if not engine.limits_memory:
        pytest.skip("the engine has no memory limit")
    instance = memory_guest(engine, limit=3 * PAGE)
    assert get(instance, "grow")(3) == 0xFFFFFFFF
    assert get(instance, "grow")(2) == 1
    assert get(instance, "grow")(1) == 0xFFFFFFFF
    assert instance.memory.size == 3 * PAGE


def test_a_module_that_starts_above_the_limit_is_not_linked(engine: Engine) -> None:
    if not engine.limits_memory:
        pytest.skip("the engine has no memory limit")
    with pytest.raises(LinkError, match="limit") as caught:
        start(engine, '(module (memory (export "memory") 3))', limit=2 * PAGE)
    assert "\n" not in str(caught.value)
