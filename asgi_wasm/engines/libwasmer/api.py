"""The functions of ``wasm.h`` and ``wasmer.h`` that are needed, and where the library is found."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Iterator
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from asgi_wasm.engines import base
from asgi_wasm.errors import EngineUnavailableError

FUNC, GLOBAL, TABLE, MEMORY = range(4)
KINDS = {FUNC: "func", GLOBAL: "global", TABLE: "table", MEMORY: "memory"}
VALUE_TYPES = {0: base.I32, 1: base.I64, 2: base.F32, 3: base.F64}
VALUE_KINDS = {name: kind for kind, name in VALUE_TYPES.items()}
# Major releases that the tests ran on.
_MAJORS = (7,)
_NAMES = {"darwin": "libwasmer.dylib", "win32": "wasmer.dll"}


class LibraryNotFoundError(EngineUnavailableError):
    """Raised when no library is where it is looked for. Its message says what to do."""


class Bytes(Structure):
    """``wasm_byte_vec_t``."""

    _fields_ = (("size", c_size_t), ("data", POINTER(c_char)))

    @classmethod
    def of(cls, data: bytes) -> Bytes:
        """A vector over Python's bytes, to be read in one call only."""
        made = cls(len(data), ctypes.cast(ctypes.c_char_p(data), POINTER(c_char)))
        made.kept = data
        return made

    def text(self) -> str:
        """A name."""
        return bytes(self.data[: self.size]).decode("utf-8", "replace")


class Vector(Structure):
    """A vector of pointers."""

    _fields_ = (("size", c_size_t), ("data", POINTER(c_void_p)))


class Value(Structure):
    """``wasm_val_t``: a number's bits are the low ones of ``bits``."""

    _fields_ = (("kind", c_uint8), ("bits", c_uint64))


class Values(Structure):
    """``wasm_val_vec_t``."""

    _fields_ = (("size", c_size_t), ("data", POINTER(Value)))


# Proposals that a plugin may not use: on some of them this library ends the process.
REFUSED_FEATURES = ("exceptions", "threads", "memory64", "multi_memory", "tail_call", "relaxed_simd")

# By name without its prefix: result, then parameters; None is no result. Where these are None, none are converted.
_WASM: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "config_new": (c_void_p, ()),
    "engine_new_with_config": (c_void_p, (c_void_p,)),
    "engine_delete": (None, (c_void_p,)),
    "store_new": (c_void_p, (c_void_p,)),
    "store_delete": (None, (c_void_p,)),
    "module_new": (c_void_p, (c_void_p, c_void_p)),
    "module_delete": (None, (c_void_p,)),
    "module_imports": (None, (c_void_p, c_void_p)),
    "module_exports": (None, (c_void_p, c_void_p)),
    "module_serialize": (None, (c_void_p, c_void_p)),
    "module_deserialize": (c_void_p, (c_void_p, c_void_p)),
    "importtype_module": (POINTER(Bytes), (c_void_p,)),
    "importtype_name": (POINTER(Bytes), (c_void_p,)),
    "importtype_type": (c_void_p, (c_void_p,)),
    "importtype_vec_delete": (None, (c_void_p,)),
    "exporttype_name": (POINTER(Bytes), (c_void_p,)),
    "exporttype_type": (c_void_p, (c_void_p,)),
    "exporttype_vec_delete": (None, (c_void_p,)),
    "externtype_kind": (c_uint8, (c_void_p,)),
    "externtype_as_functype_const": (c_void_p, (c_void_p,)),
    "functype_params": (POINTER(Vector), (c_void_p,)),
    "functype_results": (POINTER(Vector), (c_void_p,)),
    "functype_new": (c_void_p, (c_void_p, c_void_p)),
    "functype_delete": (None, (c_void_p,)),
    "valtype_kind": (c_uint8, (c_void_p,)),
    "valtype_new": (c_void_p, (c_uint8,)),
    "valtype_vec_new": (None, (c_void_p, c_size_t, c_void_p)),
    "func_new": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "func_delete": (None, (c_void_p,)),
    "func_as_extern": (c_void_p, (c_void_p,)),
    "func_call": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "instance_new": (c_void_p, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "instance_exports": (None, (c_void_p, c_void_p)),
    "instance_delete": (None, (c_void_p,)),
    "extern_as_func": (c_void_p, (c_void_p,)),
    "extern_as_memory": (c_void_p, (c_void_p,)),
    "extern_vec_delete": (None, (c_void_p,)),
    "memory_data": (c_void_p, (c_void_p,)),
    "memory_data_size": (c_size_t, (c_void_p,)),
    "trap_new": (c_void_p, (c_void_p, c_void_p)),
    "trap_message": (None, (c_void_p, c_void_p)),
    "trap_trace": (None, (c_void_p, c_void_p)),
    "trap_delete": (None, (c_void_p,)),
    "frame_func_index": (c_uint32, (c_void_p,)),
    # A structure of one pointer to a C string, unlike all other names.
    "frame_func_name": (c_void_p, (c_void_p,)),
    "name_delete": (None, (c_void_p,)),
    "frame_vec_delete": (None, (c_void_p,)),
    "byte_vec_delete": (None, (c_void_p,)),
    "config_set_features": (None, (c_void_p, c_void_p)),
    "config_push_middleware": (None, (c_void_p, c_void_p)),
}
_WASMER: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "version": (c_char_p, ()),
    "last_error_length": (c_int, ()),
    "last_error_message": (c_int, (c_char_p, c_int)),
    "features_new": (c_void_p, ()),
    **{f"features_{name}": (ctypes.c_bool, (c_void_p, ctypes.c_bool)) for name in REFUSED_FEATURES},
    "metering_new": (c_void_p, (c_uint64, c_void_p)),
    "metering_as_middleware": (c_void_p, (c_void_p,)),
    "metering_set_remaining_points": (None, (c_void_p, c_uint64)),
    "metering_points_are_exhausted": (ctypes.c_bool, (c_void_p,)),
}


class Api:
    """The library's functions as attributes, by their names without ``wasm_`` or ``wasmer_``."""

    def __init__(self, library: Path | None) -> None:
        """``library`` is a file's path, or None to look for it. Raises `EngineUnavailableError`."""
        self._library, self.path = _load(library)
        try:
            for prefix, functions in (("wasm_", _WASM), ("wasmer_", _WASMER)):
                for name, (result, parameters) in functions.items():
                    function = self._library[prefix + name]
                    function.restype, function.argtypes = result, parameters
                    setattr(self, name, function)
        except AttributeError as error:
            raise EngineUnavailableError(
                f"{self.path} is no libwasmer with metering ({error}): install Wasmer {_MAJORS[-1]}"
            ) from error
        self.version: str = self.version().decode()  # type: ignore[operator]
        if int(self.version.partition(".")[0]) not in _MAJORS:
            raise EngineUnavailableError(f"{self.path} is libwasmer {self.version}, and {_MAJORS[-1]} is what is known")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def last_error(self) -> str:
        """What went wrong last."""
        size = self.last_error_length()
        text = ctypes.create_string_buffer(max(size, 1))
        self.last_error_message(text, size)
        return text.value.decode("utf-8", "replace")


def take_bytes(api: Api, vector: Bytes) -> bytes:
    """A copy of what the library made, which is freed."""
    data = ctypes.string_at(vector.data, vector.size) if vector.size else b""
    api.byte_vec_delete(byref(vector))
    return data


def _places(library: Path | None) -> Iterator[str]:
    if library is not None:
        yield str(library)
        return
    import sys

    name = _NAMES.get(sys.platform, "libwasmer.so")
    for folder in (os.environ.get("WASMER_DIR"), str(Path.home() / ".wasmer")):
        if folder and (Path(folder) / "lib" / name).is_file():
            yield str(Path(folder) / "lib" / name)
    found = ctypes.util.find_library("wasmer")
    if found:
        yield found


def _load(library: Path | None) -> tuple[ctypes.CDLL, str]:
    for place in _places(library):
        try:
            return ctypes.CDLL(place), place
        except OSError as error:
            raise EngineUnavailableError(f"wasmer's library cannot be loaded: {error}") from error
    raise LibraryNotFoundError(
        "install libwasmer (https://wasmer.io: its installer puts it into ~/.wasmer/lib; where it is elsewhere,"
        " WASMER_DIR or the setting wasmer_library says)"
    )
