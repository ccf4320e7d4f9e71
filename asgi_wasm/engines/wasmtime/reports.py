"""Wasmtime's own report of a trap, which spans several lines."""

from __future__ import annotations

import re
from ctypes import POINTER, Structure, byref, c_char, c_size_t, c_void_p
from typing import Any

from wasmtime import _ffi as ffi

from asgi_wasm.engines.binary import one_sentence
from asgi_wasm.engines.traps import trap_error
from asgi_wasm.errors import TrapError

# `    0:   0x4f - my_module!my_function`; file and line may follow on a line of their own. Names are the module's own:
# matches stay on a line, so that each is looked at once.
_FRAME = re.compile(r"^ *\d+: +0x[0-9a-f]+ - [^!\n]*!(.+)$", re.MULTILINE)


class _Bytes(Structure):
    """``wasm_byte_vec_t``."""

    _fields_ = (("size", c_size_t), ("data", POINTER(c_char)))


def _function(name: str) -> Any:
    # A function object of our own, without the bindings' checks of arguments.
    function = ffi.dll[name]
    function.restype = None
    return function


_error_message = _function("wasmtime_error_message")
_error_delete = _function("wasmtime_error_delete")
_trap_message = _function("wasm_trap_message")
_trap_delete = _function("wasm_trap_delete")
_bytes_delete = _function("wasm_byte_vec_delete")


def report(error: int | None, trap: c_void_p) -> str:
    """Wasmtime's text for the error of that address, else for the trap; either is freed, and ``trap`` set to null.

    It calls no function written in Python, so that an error met at the limit of recursion is freed too. (The wheel's
    classes free theirs in `__del__`, where the RecursionError is reported as unraisable.)
    """
    text = _Bytes()
    if error:
        pointer = c_void_p(error)
        _error_message(pointer, byref(text))
        _error_delete(pointer)
    else:
        _trap_message(trap, byref(text))
        _trap_delete(trap)
        trap.value = None
    message: Any = text.data[: text.size]  # bytes, as it is a slice of c_char
    _bytes_delete(byref(text))
    return str(message, "utf-8", "replace").rstrip("\0")


def trap_from_report(report: str, error: BaseException | None, source: str) -> TrapError:
    """The `TrapError` for wasmtime's ``report``, given what a host function raised, if any."""
    return trap_error(one_sentence(report), _FRAME.findall(report), error, source)


def trap_at_limit(error: BaseException | None) -> TrapError:
    """The same where Python has no level left to tell of it: it calls no function written in Python."""
    trap = TrapError.__new__(TrapError, "Python's limit of recursion was reached around the guest")
    trap.__cause__ = error
    return trap
