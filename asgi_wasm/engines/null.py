"""Guests written in Python, for tests: no WebAssembly, no compiler, any exception at any place.

    def guest(host: NullHost) -> Mapping[str, GuestFunction]:
        def proxy_on_context_create(context: int, parent: int) -> None:
            host.call("env", "proxy_log", 2, *host.store(b"created"))

        return {"proxy_on_context_create": proxy_on_context_create, "proxy_on_memory_allocate": host.allocate}

    engine = NullEngine({"hello": guest})
    module = engine.compile(b"null:hello")

The factory runs once per instance, as a start section does, so it may already call host functions. All parameters
are i32 unless a `declare` says otherwise; the type of an export without one is made from its Python signature: one i32
per parameter, and a result unless it is annotated ``-> None``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from asgi_wasm.engines import base
from asgi_wasm.engines.linking import find_functions
from asgi_wasm.engines.traps import outside_memory
from asgi_wasm.errors import InvalidModuleError, LinkError, TrapError

__all__ = ["GuestFactory", "GuestTrap", "NullEngine", "NullHost", "NullMemory", "declare"]

PREFIX = b"null:"
PAGE = 65536

# The lowest addresses stay free, so that an address of 0 is a mistake, as in C.
FIRST_FREE = 16

GuestFactory = Callable[["NullHost"], Mapping[str, base.GuestFunction]]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_MASKS = {base.I32: 0xFFFFFFFF, base.I64: 0xFFFFFFFFFFFFFFFF, base.F32: 0xFFFFFFFF, base.F64: 0xFFFFFFFFFFFFFFFF}


class GuestTrap(Exception):  # noqa: N818  # named after what it stands for
    """Raise it in a guest to trap. It is the guest's own doing, hence no cause of the `TrapError`."""


class _Unwinding(BaseException):
    """A host function raised: the guest's frames end, as they would in wasm, and its ``except`` does not help."""


def declare(params: Sequence[str], results: Sequence[str] = ()) -> Callable[[_Function], _Function]:
    """Give a guest's export, or guest factory's import, its type by value type names, such as "i64"."""

    def decorate(function: _Function) -> _Function:
        function._null_type = base.FuncType(tuple(params), tuple(results))  # type: ignore[attr-defined]
        return function

    return decorate


class NullMemory:
    """`base.Memory`: a bytearray that may grow by pages up to a limit."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray(min(PAGE, limit))
        self.limit = limit

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)

    def read(self, address: int, size: int) -> bytes:
        """A copy. Raises `MemoryAccessError`."""
        return bytes(self.data[self._check(address, size) : address + size])

    def write(self, address: int, data: bytes) -> None:
        """In place. Raises `MemoryAccessError`."""
        self.data[self._check(address, len(data)) : address + len(data)] = data

    def write_u32(self, address: int, value: int) -> None:
        """Four bytes, little endian. Raises `MemoryAccessError`."""
        self.write(address, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def grow(self, pages: int) -> int:
        """The size before, in pages; or, beyond the limit, -1 as an i32, and nothing has changed."""
        before = self.size
        if before + pages * PAGE > self.limit:
            return 0xFFFFFFFF
        self.data.extend(bytes(pages * PAGE))
        return before // PAGE

    def _check(self, address: int, size: int) -> int:
        if address + size > self.size:
            raise outside_memory(address, size, self.size)
        return address


class NullHost:
    """What a guest has of its host: the functions it imports and a memory."""

    def __init__(
        self,
        functions: Mapping[tuple[str, str], base.HostFunction],
        memory: NullMemory,
        imports: Sequence[base.Import] = (),
    ) -> None:
        self.memory = memory
        self._functions = functions
        self._masks = {
            (each.module, each.name): [_MASKS[kind] for kind in each.type.params] for each in imports if each.type
        }
        self._free = FIRST_FREE
        self._failure: BaseException | None = None
        self._source = ""

    def call(self, module: str, name: str, *arguments: int) -> int:
        """Call a host function, with i32s unless the import is declared with other types; 0 when it returns nothing.

        Its exception ends the guest's call.
        """
        function = self._functions.get((module, name))
        if function is None:
            raise GuestTrap(f"import {module}.{name} was not linked")
        masks = self._masks.get((module, name)) or [0xFFFFFFFF] * len(arguments)
        values = [value & mask for value, mask in zip(arguments, masks, strict=True)]
        try:
            return (function(*values) or 0) & 0xFFFFFFFF
        except BaseException as error:
            self._failure, self._source = error, f"{module}.{name}"
        raise _Unwinding

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes that were not handed out before; memory grows. Fit to be exported."""
        address = self._free
        missing = address + size - self.memory.size
        if missing > 0 and self.memory.grow(-(-missing // PAGE)) == 0xFFFFFFFF:
            raise GuestTrap("out of memory")
        self._free = (address + size + 7) & ~7
        return address

    def store(self, data: bytes) -> tuple[int, int]:
        """Allocate room for ``data`` and write it there: its address and size."""
        address = self.allocate(len(data))
        self.memory.write(address, data)
        return address, len(data)

    def read_u32(self, address: int) -> int:
        """Four bytes, little endian."""
        return int.from_bytes(self.memory.read(address, 4), "little")

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a guest's function as an engine does: whatever goes wrong is a `TrapError`."""
        try:
            return function(*arguments)
        except _Unwinding:
            error, self._failure = self._failure, None
            text = f"{type(error).__name__}: {error}".rstrip(": ")
            raise TrapError(f"host function {self._source} raised {text}") from error
        except GuestTrap as error:
            raise TrapError(f"guest trap: {error}".rstrip(": ")) from None
        except Exception as error:
            raise TrapError(f"guest trap: {type(error).__name__}: {error}".rstrip(": ")) from None


class NullEngine:
    """`base.Engine`. ``guests`` maps the names that ``null:NAME`` may take to factories."""

    name = "null"
    fingerprint = "null-1"
    limits_time = False
    limits_memory = True

    def __init__(self, guests: Mapping[str, GuestFactory], imports: Sequence[base.Import] = ()) -> None:
        """``imports`` is what every guest declares to import; host functions beyond it may be called too."""
        self._guests = dict(guests)
        self._imports = tuple(imports)

    def compile(self, code: bytes) -> NullModule:
        """Look up ``null:NAME``. Raises `InvalidModuleError` for other bytes and names."""
        if not code.startswith(PREFIX):
            raise InvalidModuleError("it does not name a null guest: it must read null:NAME")
        name = code[len(PREFIX) :].decode(errors="replace").strip()
        if name not in self._guests:
            raise InvalidModuleError(f"no null guest is named {name!r}")
        return NullModule(name, self._guests[name], self._imports)

    def deserialize(self, compiled: bytes) -> NullModule:
        """As `compile`: compiled code is ``null:NAME`` too."""
        return self.compile(compiled)

    def deserialize_file(self, path: Path) -> NullModule:
        """As `deserialize`, of the file's bytes."""
        return self.deserialize(path.read_bytes())


class NullModule:
    """`base.Module`: a factory and its name."""

    def __init__(self, name: str, factory: GuestFactory, imports: Sequence[base.Import]) -> None:
        self._name = name
        self._factory = factory
        self.imports: Sequence[base.Import] = imports

    @cached_property
    def exports(self) -> Mapping[str, base.Export]:
        """Found by running the factory once, with host functions that do nothing."""
        host = NullHost(_Nothing(), NullMemory(1 << 32))
        functions = host.run(self._factory, host)
        exports = {name: base.Export(name, "func", _type_of(function)) for name, function in functions.items()}
        return {**exports, "memory": base.Export("memory", "memory")}

    def instantiate(
        self,
        functions: Mapping[tuple[str, str], base.HostFunction],
        *,
        memory_limit: int,
        table_limit: int = base.DEFAULT_TABLE_LIMIT,
        time_limit: base.TimeLimit | None = None,
    ) -> NullInstance:
        """`base.Module.instantiate`. ``time_limit`` is not enforced."""
        find_functions(self.imports, functions)
        if memory_limit < PAGE:
            raise LinkError(f"a null guest needs {PAGE} bytes of memory and may have {memory_limit}")
        host = NullHost(functions, NullMemory(memory_limit), self.imports)
        return NullInstance(host, host.run(self._factory, host))

    def serialize(self) -> bytes:
        """``null:NAME``."""
        return PREFIX + self._name.encode()

    def close(self) -> None:
        """`base.Module.close`: there is nothing to let go of."""


class NullInstance:
    """`base.Instance`. ``host`` is open to tests."""

    def __init__(self, host: NullHost, functions: Mapping[str, base.GuestFunction]) -> None:
        self.host = host
        self.memory = host.memory
        self._functions = dict(functions)

    def function(self, name: str) -> base.GuestFunction | None:
        """What the factory gave under this name; numbers are masked as an engine does."""
        function = self._functions.get(name)
        if function is None:
            return None
        type_ = _type_of(function)
        masks = [_MASKS[each] for each in type_.params]
        result_mask = _MASKS[type_.results[0]] if type_.results else 0

        def call(*arguments: int) -> int | None:
            values = [value & mask for value, mask in zip(arguments, masks, strict=True)]
            result = self.host.run(function, *values)
            return int(result or 0) & result_mask if result_mask else None

        return call

    @property
    def is_open(self) -> bool:
        """Always: there is nothing to free."""
        return True

    def close(self) -> None:
        """Forget the functions."""
        self._functions.clear()


class _Nothing(Mapping[tuple[str, str], base.HostFunction]):
    """Host functions by any name that do nothing."""

    def __getitem__(self, key: tuple[str, str]) -> base.HostFunction:
        return lambda *_arguments: 0

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def _type_of(function: Callable[..., Any]) -> base.FuncType:
    declared = getattr(function, "_null_type", None)
    if isinstance(declared, base.FuncType):
        return declared
    signature = inspect.signature(function)
    results = () if signature.return_annotation in (None, "None") else (base.I32,)
    return base.FuncType((base.I32,) * len(signature.parameters), results)
