"""What can be said about a WebAssembly binary before and after an engine has looked at it.

Engines differ in how they refuse bad input, and some do not refuse at all: wasmer compiles text, wasmtime's C API
aborts the process when asked for the type of a function with a v128 parameter. Hence one check for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from asgi_wasm.errors import InvalidModuleError

MAGIC = b"\0asm"
VERSION = b"\1\0\0\0"
# What every core module begins with.
HEAD = MAGIC + VERSION
COMPONENT_LAYER = b"\1\0"

TYPE_SECTION = 1
IMPORT_SECTION = 2
FUNCTION_SECTION = 3
MEMORY_SECTION = 5
EXPORT_SECTION = 7

FUNCTION_FORM = 0x60
NUMBER_TYPES = frozenset((0x7F, 0x7E, 0x7D, 0x7C))
# All hostcalls and WASI functions are about 150; each costs some time on the event loop, whenever a VM starts.
MAX_IMPORTS = 1000
LIMITS_ARE_SHARED = 0x02
LIMITS_HAVE_MAXIMUM = 0x01
LIMITS_HAVE_PAGE_SIZE = 0x08


class ExternalKind(IntEnum):
    """What an import or an export is (WebAssembly core specification 5.5.5 and 5.5.10)."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


def check_header(code: bytes) -> None:
    """Raise `InvalidModuleError` unless ``code`` begins like a core module."""
    if not code:
        raise InvalidModuleError("it is empty: give the .wasm that the SDK built")
    if not code.startswith(MAGIC[: len(code)]):
        if code.lstrip()[:2] in (b"(m", b";;"):
            raise InvalidModuleError("it is no WebAssembly file but WebAssembly text: compile it first, with wat2wasm")
        raise InvalidModuleError("it is no WebAssembly file: give the .wasm that the SDK built")
    if len(code) < len(HEAD):
        raise InvalidModuleError(f"it is truncated: only {len(code)} bytes long")
    if code[6:8] == COMPONENT_LAYER:
        raise InvalidModuleError(
            "it is a component; Proxy-Wasm plugins are core modules: build it without the component model"
        )
    if code[4:8] != VERSION:
        raise InvalidModuleError(f"it has the unknown WebAssembly version {int.from_bytes(code[4:8], 'little')}")


def check_signatures(code: bytes) -> None:
    """Raise `InvalidModuleError` for an imported or exported function with a parameter or result that is no number.

    So for too many imports, for more than one memory of its own, and for one that is shared.

    Call it only with code that the engine has validated: malformed sections are not looked for again.
    """
    try:
        _check_signatures(code)
    except IndexError:
        raise InvalidModuleError("its imports and exports cannot be read") from None


def one_sentence(message: str) -> str:
    """The cause out of an engine's report of several lines."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else "the engine gives no reason"


class Reader:
    """Reads one part of a binary from its front."""

    def __init__(self, code: bytes, start: int, end: int) -> None:
        self.code = code
        self.position = start
        self.end = end

    def byte(self) -> int:
        """One byte."""
        value = self.code[self.position]
        self.position += 1
        return value

    def number(self) -> int:
        """A number as LEB128, of 64 bits at most. Raises IndexError for one without end, which takes its square."""
        byte = self.code[self.position]
        self.position += 1
        if byte < 0x80:
            return byte
        value = byte & 0x7F
        for shift in range(7, 64, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError

    def take(self) -> bytes:
        """A vector of bytes."""
        size = self.number()
        self.position += size
        return self.code[self.position - size : self.position]


def sections(code: bytes) -> Iterator[tuple[int, Reader]]:
    """The id of each section, and its content. Raises IndexError for a malformed module."""
    # A hostile module has a million: hence the few calls.
    position, end = len(HEAD), len(code)
    while position < end:
        reader = Reader(code, position + 1, end)
        size = reader.number()
        kind, position = code[position], reader.position + size
        reader.end = position
        yield kind, reader


def _check_signatures(code: bytes) -> None:
    passable: list[bool] = []  # by type index: are all parameters and results numbers?
    functions: list[int] = []  # by function index: its type index
    for kind, reader in sections(code):
        if kind == TYPE_SECTION:
            passable = [_function_type(reader) for _ in range(reader.number())]
        elif kind == IMPORT_SECTION:
            count = reader.number()
            if count > MAX_IMPORTS:
                raise InvalidModuleError(f"it has {count} imports, and a plugin may have {MAX_IMPORTS}")
            for _ in range(count):
                _import(reader, functions, passable)
        elif kind == MEMORY_SECTION:
            _memories(reader)
        elif kind == FUNCTION_SECTION:
            functions += [reader.number() for _ in range(reader.number())]
        elif kind == EXPORT_SECTION:
            for _ in range(reader.number()):
                name, export_kind, index = reader.take(), reader.byte(), reader.number()
                if export_kind == ExternalKind.FUNCTION and not passable[functions[index]]:
                    raise InvalidModuleError(_complaint("exported", name))


def _complaint(how: str, name: bytes) -> str:
    return f"its {how} function {name.decode(errors='replace')!r} takes or returns something that is no number"


def _function_type(reader: Reader) -> bool:
    if reader.byte() != FUNCTION_FORM:
        raise InvalidModuleError("it declares types of the garbage collection proposal")
    return NUMBER_TYPES.issuperset(reader.take() + reader.take())


def _import(reader: Reader, functions: list[int], passable: list[bool]) -> None:
    module, name, kind = reader.take(), reader.take(), reader.byte()
    if kind == ExternalKind.FUNCTION:
        functions.append(reader.number())
        if not passable[functions[-1]]:
            raise InvalidModuleError(_complaint("imported", module + b"." + name))
    elif kind == ExternalKind.TABLE:  # element type, limits
        reader.byte()
        _limits(reader)
    elif kind == ExternalKind.MEMORY:
        _limits(reader)
    elif kind == ExternalKind.GLOBAL:  # value type, mutability
        reader.byte()
        reader.byte()
    else:  # a tag: attribute, type index
        reader.byte()
        reader.number()


def _memories(reader: Reader) -> None:
    count = reader.number()
    if count > 1:
        raise InvalidModuleError(f"it has {count} memories, and a plugin has one")
    if count and reader.byte() & LIMITS_ARE_SHARED:
        raise InvalidModuleError("its memory is shared between threads, and a plugin runs in one")


def _limits(reader: Reader) -> None:
    flags = reader.byte()
    reader.number()
    if flags & LIMITS_HAVE_MAXIMUM:
        reader.number()
    if flags & LIMITS_HAVE_PAGE_SIZE:
        reader.number()
