"""Calls into a guest of the package wasmer's and out of it, and how their values travel."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from asgi_wasm.engines import base
from asgi_wasm.engines.traps import Failure, trap_error

MASKS = {base.I32: 0xFFFFFFFF, base.I64: 0xFFFFFFFFFFFFFFFF}
FLOATS = {base.F32: ("<I", "<f"), base.F64: ("<Q", "<d")}

# Names are the module's own: what cannot end a frame is not looked through for its beginning.
_FRAME = re.compile(r"^[ \t]+at (?=.*\)$)(.+) \(.*\)$", re.MULTILINE)


class HostFunctionFailed(Exception):  # noqa: N818  # a signal to the guest's frames, never seen outside
    """Raised in a host function so that wasmer ends the guest's call."""


class BoundFunction:
    """A host function as wasmer is to call it."""

    def __init__(self, function: base.HostFunction, imported: base.Import, failure: Failure) -> None:
        assert imported.type is not None
        self._function: base.HostFunction | None = function
        self._type = imported.type
        self._source = f"{imported.module}.{imported.name}"
        self._failure = failure

    def close(self) -> None:
        self._function = None

    def callback(self) -> Callable[..., Any]:
        params = self._type.params
        result_type = self._type.results[0] if self._type.results else None
        plain = not set(params) - {base.I32}

        def callback(*arguments: Any) -> Any:
            try:
                if plain:
                    values = [value & 0xFFFFFFFF for value in arguments]
                else:
                    values = [_from_wasmer(value, type_) for value, type_ in zip(arguments, params, strict=True)]
                result = self._function(*values)  # type: ignore[misc]  # calling a closed instance is a bug
                return None if result_type is None else _to_wasmer(result, result_type)
            except BaseException as error:
                self._failure.error = error
                self._failure.source = self._source
            raise HostFunctionFailed

        return callback


def bind_guest_function(function: Any, type_: base.FuncType, failure: Failure) -> base.GuestFunction:
    """The callable for an exported function."""
    convert = [index for index, each in enumerate(type_.params) if each != base.I32]
    result_type = type_.results[0] if type_.results else None
    arity = len(type_.params)
    several = len(type_.results) > 1

    def call(*arguments: int) -> int | None:
        values: Any = arguments
        if len(arguments) != arity:
            raise TypeError(f"the guest's function takes {arity} arguments, not {len(arguments)}")
        if convert:
            values = [_to_wasmer(value, each) for value, each in zip(arguments, type_.params, strict=True)]
        try:
            result = function(*values)
        except (RuntimeError, HostFunctionFailed) as error:
            kept = failure.take()
            raise trap_of(error, kept, failure.source) from kept
        if result_type is None:
            return None
        return _from_wasmer(result[0] if several else result, result_type)

    return call


def _from_wasmer(value: Any, type_: str) -> int:
    mask = MASKS.get(type_)
    if mask is not None:
        return int(value & mask)
    bits, own = FLOATS[type_]
    return int(struct.unpack(bits, struct.pack(own, value))[0])


def _to_wasmer(value: int | None, type_: str) -> Any:
    if value is None:
        raise TypeError(f"None where the guest expects an {type_}")
    mask = MASKS.get(type_)
    if mask is not None:
        return value & mask
    bits, own = FLOATS[type_]
    return struct.unpack(own, struct.pack(bits, value))[0]


def trap_of(error: BaseException, kept: BaseException | None, source: str) -> Exception:
    """What to raise for what wasmer raised; ``kept`` is what the host function ``source`` raised, if one did."""
    report = str(error)
    reason = report.partition("\n")[0].removeprefix("RuntimeError: ")
    return trap_error(f"wasm trap: {reason}", _FRAME.findall(report), kept, source)
