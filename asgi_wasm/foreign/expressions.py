"""Envoy's foreign functions for expressions in CEL: `expr_create`, `expr_evaluate`, `expr_delete` (extra ``cel``).

Followed: Envoy `source/extensions/common/wasm/foreign.cc`, and `serializeValue` of its `context.cc`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from asgi_wasm.cel import ATTRIBUTES, MISSING, CelMissingError, Expression, WrongExpressionError
from asgi_wasm.host.abi import HostcallError, LogLevel, ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.hostcalls import properties
from asgi_wasm.host.hostcalls.system import acting_context

if TYPE_CHECKING:
    from cel_expr_python.cel import Value

    from asgi_wasm.host.codecs.wire import PropertyValue
    from asgi_wasm.host.vm.contexts import Context, RootContext
    from asgi_wasm.host.vm.vm import ForeignFunction, WasmVM

# Of one root context. Envoy has no limit; each takes some kilobytes until it is deleted.
MOST_EXPRESSIONS = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class _Table:
    """The expressions of a root context, by token."""

    def __init__(self) -> None:
        self.next = 0
        self.known: dict[int, Expression] = {}


class Expressions:
    """The three functions of one worker. Without the extra they are answered as unknown, and the log says so once."""

    def __init__(self) -> None:
        self._tables: WeakKeyDictionary[RootContext, _Table] = WeakKeyDictionary()
        self._told = False

    @property
    def functions(self) -> Mapping[str, ForeignFunction]:
        """The foreign functions `expr_create`, `expr_evaluate` and `expr_delete`, by name."""
        return {"expr_create": self.create, "expr_evaluate": self.evaluate, "expr_delete": self.delete}

    def create(self, vm: WasmVM, arguments: bytes) -> bytes:
        """A token for an expression, four bytes little endian. BAD_ARGUMENT for one that is wrong.

        INTERNAL_FAILURE beyond `MOST_EXPRESSIONS`.
        """
        table = self._table(vm)
        if len(table.known) >= MOST_EXPRESSIONS:
            raise HostcallError(ProxyStatus.INTERNAL_FAILURE)
        try:
            made = Expression(arguments.decode("utf-8"))
        except CelMissingError:
            self._tell_missing(vm)
            raise HostcallError(ProxyStatus.NOT_FOUND) from None
        except UnicodeDecodeError:
            raise HostcallError(ProxyStatus.BAD_ARGUMENT) from None
        except WrongExpressionError as error:
            # As in Envoy, a number is taken before the functions are looked up.
            table.next += error.unknown_function
            vm.log_lines.host(LogLevel.INFO, f"expr_create: the expression is wrong: {error}")
            raise HostcallError(ProxyStatus.BAD_ARGUMENT) from None
        token, table.next = table.next, table.next + 1
        table.known[token] = made
        return struct.pack("<I", token & 0xFFFF_FFFF)

    def evaluate(self, vm: WasmVM, arguments: bytes) -> bytes:
        """The value of an expression for the context whose callback runs, whichever is the effective one.

        BAD_ARGUMENT for no token, NOT_FOUND for an unknown one, INTERNAL_FAILURE for an error (an attribute that is not
        there), SERIALIZATION_FAILURE for a value without bytes: null, a type, all of ``request``.
        """
        table, token = self._table(vm), _token(arguments)
        made = table.known.get(token)
        if made is None:
            self._check(vm)
            raise HostcallError(ProxyStatus.NOT_FOUND)
        if made.text.strip() in ATTRIBUTES:
            raise HostcallError(ProxyStatus.SERIALIZATION_FAILURE)
        context = _running(vm)
        state = _filter_state(context) if made.wants_state else None
        try:
            value = made.evaluate(lambda path: _read(context, path), state)
        except RuntimeError:
            raise HostcallError(ProxyStatus.INTERNAL_FAILURE) from None
        return _encoded(value)

    def delete(self, vm: WasmVM, arguments: bytes) -> None:
        """Forget an expression; OK for an unknown one. BAD_ARGUMENT for no token."""
        self._check(vm)
        self._table(vm).known.pop(_token(arguments), None)

    def _table(self, vm: WasmVM) -> _Table:
        root = _running(vm).root
        table = self._tables.get(root)
        if table is None:
            table = self._tables[root] = _Table()
        return table

    def _check(self, vm: WasmVM) -> None:
        """Raises `HostcallError` NOT_FOUND where there is no CEL, of which there can be no token either."""
        try:
            import cel_expr_python  # noqa: F401
        except ImportError:
            self._tell_missing(vm)
            raise HostcallError(ProxyStatus.NOT_FOUND) from None

    def _tell_missing(self, vm: WasmVM) -> None:
        if not self._told:
            self._told = True
            vm.log_lines.host(LogLevel.WARN, f"calls expr_create or the like, which {MISSING}")


def _running(vm: WasmVM) -> Context:
    """Whose callback runs; a stream that a kernel serves is made for it."""
    acting = acting_context(vm)
    return vm.current or acting


def _token(arguments: bytes) -> int:
    if len(arguments) != 4:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    return int.from_bytes(arguments, "little")


def _read(context: Context, path: tuple[bytes, ...]) -> PropertyValue | None:
    """An attribute as `proxy_get_property` has it; what plugins set as bytes, all else that is text as text."""
    try:
        value = properties.find(context, b"\0".join(path))
    except HostcallError:
        return None
    own = context.stream is not None and path[0] in context.stream.chain.properties
    # Attributes of two parts, and headers, are text by themselves.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) and len(path) == 1 and not own else value


def _filter_state(context: Context) -> dict[bytes, bytes]:
    kept = {} if context.stream is None else context.stream.chain.properties
    prefix = b"filter_state\0"
    return {
        key.removeprefix(prefix) if key.startswith(prefix) else b"wasm." + key: value for key, value in kept.items()
    }


def _encoded(value: Value) -> bytes:
    kind, plain = value.type().name().partition("<")[0], value.value()
    if kind == "ERROR":
        raise HostcallError(ProxyStatus.INTERNAL_FAILURE)
    if kind == "LIST":
        return encode_pairs([(_encoded(item), b"") for item in plain]) or bytes(4)
    if kind == "MAP":
        pairs = [(_encoded_key(key), _encoded(item)) for key, item in plain.items()]
        return encode_pairs(pairs) or bytes(4)
    return _encoded_plain(kind, plain)


def _encoded_key(key: object) -> bytes:
    kinds = {bool: "BOOL", int: "INT", str: "STRING"}
    return _encoded_plain(kinds.get(type(key), ""), key)


def _encoded_plain(kind: str, plain: object) -> bytes:
    match kind, plain:
        case "STRING", str():
            return plain.encode("utf-8")
        case "BYTES", bytes() | bytearray():
            return bytes(plain)
        case "BOOL", bool():
            return bytes([plain])
        case "INT", int():
            return struct.pack("<q", plain)
        case "UINT", int():
            return struct.pack("<Q", plain)
        case "DOUBLE", float():
            return struct.pack("<d", plain)
        case "DURATION", timedelta():
            return struct.pack("<q", plain // _MICROSECOND * 1000)
        case "TIMESTAMP", datetime():
            return struct.pack("<q", (plain - _EPOCH) // _MICROSECOND * 1000)
    raise HostcallError(ProxyStatus.SERIALIZATION_FAILURE)
