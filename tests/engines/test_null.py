from __future__ import annotations

from collections.abc import Mapping

import pytest

from asgi_wasm.engines.base import Engine, Export, FuncType, GuestFunction, Import
from asgi_wasm.engines.null import GuestTrap, NullEngine, NullHost, declare
from asgi_wasm.errors import InvalidModuleError, LinkError, MemoryAccessError, TrapError

PAGE = 65536


def guest(host: NullHost) -> Mapping[str, GuestFunction]:
    def log(level: int) -> int:
        return host.call("env", "log", level, *host.store(b"hello"))

    def trap(kind: int) -> None:
        if kind == 1:
            raise GuestTrap("on purpose")
        raise KeyError("bug")

    def stubborn() -> int:
        try:
            return host.call("env", "log", 0, 0, 0)
        except Exception:
            return 7

    @declare(["i64", "i32"], ["i64"])
    def wide(value: int, narrow: int) -> int:
        return value - narrow

    return {"log": log, "trap": trap, "stubborn": stubborn, "wide": wide, "allocate": host.allocate}


ENGINE: Engine = NullEngine({"guest": guest}, imports=[Import("env", "log", "func", FuncType(("i32",) * 3, ("i32",)))])


def call(name: str, *arguments: int, log: GuestFunction = lambda *_: 0) -> int | None:
    instance = ENGINE.compile(b"null:guest").instantiate({("env", "log"): log}, memory_limit=4 * PAGE)
    function = instance.function(name)
    assert function is not None
    return function(*arguments)


def test_a_guest_calls_its_host_with_what_it_stored() -> None:
    instance = ENGINE.compile(b"null:guest").instantiate(
        {("env", "log"): lambda level, address, size: level + len(instance.memory.read(address, size))},
        memory_limit=4 * PAGE,
    )
    function = instance.function("log")
    assert function is not None
    assert function(-10) == 0xFFFFFFFB
    instance.close()
    instance.close()
    assert instance.function("log") is None


def test_types_are_declared_or_made_from_the_signature() -> None:
    exports = ENGINE.compile(b"null:guest\n").exports
    assert exports["log"] == Export("log", "func", FuncType(("i32",), ("i32",)))
    assert exports["trap"].type == FuncType(("i32",))
    assert exports["wide"].type == FuncType(("i64", "i32"), ("i64",))
    assert exports["memory"] == Export("memory", "memory")
    assert call("wide", 0, -1) == (1 << 64) - (1 << 32) + 1


def test_traps_have_no_cause_and_host_exceptions_do() -> None:
    with pytest.raises(TrapError, match="guest trap: on purpose") as caught:
        call("trap", 1)
    assert caught.value.__cause__ is None
    with pytest.raises(TrapError, match="guest trap: KeyError: 'bug'") as caught:
        call("trap", 2)
    assert caught.value.__cause__ is None


def test_a_host_exception_passes_a_guest_that_catches_everything() -> None:
    def log(*_: int) -> int:
        raise ValueError("from the host")

    with pytest.raises(TrapError, match=r"env\.log raised ValueError: from the host") as caught:
        call("stubborn", log=log)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_wrong_number_of_arguments_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        call("wide", 1)


def test_allocating_grows_memory_up_to_its_limit() -> None:
    instance = ENGINE.compile(b"null:guest").instantiate({("env", "log"): lambda *_: 0}, memory_limit=3 * PAGE)
    allocate = instance.function("allocate")
    assert allocate is not None
    first, second = allocate(3), allocate(2 * PAGE)
    assert first and second
    assert second >= first + 3
    assert instance.memory.size == 3 * PAGE
    instance.memory.write_u32(second, -1)
    assert instance.memory.read(second, 5) == b"\xff\xff\xff\xff\0"
    with pytest.raises(TrapError, match="out of memory"):
        allocate(2 * PAGE)
    with pytest.raises(MemoryAccessError):
        instance.memory.write(3 * PAGE - 1, b"xy")
    with pytest.raises(MemoryAccessError):
        instance.memory.read(3 * PAGE + 1, 0)


def test_reading_a_number_that_the_host_wrote() -> None:
    def reader(host: NullHost) -> Mapping[str, GuestFunction]:
        return {"read": host.read_u32}

    instance = NullEngine({"reader": reader}).compile(b"null:reader").instantiate({}, memory_limit=PAGE)
    instance.memory.write_u32(32, 0x01020304)
    function = instance.function("read")
    assert function is not None
    assert function(32) == 0x01020304


def test_linking() -> None:
    module = ENGINE.compile(b"null:guest")
    with pytest.raises(LinkError, match=r"env\.log"):
        module.instantiate({}, memory_limit=PAGE)
    with pytest.raises(LinkError, match="needs 65536"):
        module.instantiate({("env", "log"): lambda *_: 0}, memory_limit=100)


def test_an_import_that_was_not_linked_is_a_trap() -> None:
    def lonely(host: NullHost) -> Mapping[str, GuestFunction]:
        return {"f": lambda: host.call("env", "nothing")}

    function = NullEngine({"lonely": lonely}).compile(b"null:lonely").instantiate({}, memory_limit=PAGE).function("f")
    assert function is not None
    with pytest.raises(TrapError, match=r"env\.nothing was not linked"):
        function()


@pytest.mark.parametrize("code", [b"", b"\0asm\1\0\0\0", b"null:other", b"null:\xff"])
def test_other_bytes_are_no_guest(code: bytes) -> None:
    with pytest.raises(InvalidModuleError):
        ENGINE.compile(code)


def test_compiled_code_is_the_name() -> None:
    module = ENGINE.deserialize(ENGINE.compile(b"null:guest").serialize())
    assert "log" in module.exports
