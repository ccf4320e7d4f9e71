"""Wasmer on any Python: its shared library, libwasmer 7, by the standard C API of WebAssembly (``wasm.h``) and ctypes.

What it lacks: memory limits, which that API has no word for. Its time limit is one of instructions (`metering`), and
one of time where the guest calls the host; nobody is told of a guest that is slow.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping
from ctypes import byref
from pathlib import Path

from asgi_wasm.engines import base
from asgi_wasm.engines.binary import check_header, check_signatures, one_sentence
from asgi_wasm.engines.libwasmer.api import Api, Bytes, LibraryNotFoundError, take_bytes
from asgi_wasm.engines.libwasmer.compiled import Compiled, Owner
from asgi_wasm.engines.libwasmer.instance import LibwasmerInstance
from asgi_wasm.engines.linking import find_functions
from asgi_wasm.engines.threads import CompilerThreads
from asgi_wasm.errors import InvalidModuleError

__all__ = ["LibraryNotFoundError", "LibwasmerEngine", "LibwasmerModule"]

# It may crash on compiled code that was cut short, hence a digest before it.
SEAL = b"asgi-wasm libwasmer 1\n"


class LibwasmerEngine:
    """`base.Engine` by libwasmer. Raises `EngineUnavailableError` where the library cannot be found, or is another."""

    name = "wasmer"
    limits_memory = False
    limits_time = True

    def __init__(self, library: Path | None = None) -> None:
        self.api = Api(library)

    @property
    def fingerprint(self) -> str:
        """The library's version and the platform."""
        return f"wasmer-{self.api.version}-c-api-metering-1-{sys.platform}-{platform.machine()}"

    def compile(self, code: bytes) -> LibwasmerModule:
        """`base.Engine.compile`, with an engine of its own, since a metering counts for one module only."""
        check_header(code)
        CompilerThreads.require(self.name)
        owner = Owner(self.api)
        owner.module = self.api.module_new(owner.store, byref(Bytes.of(code)))
        if not owner.module:
            raise InvalidModuleError(f"wasmer refuses it: {one_sentence(self.api.last_error())}")
        check_signatures(code)
        return LibwasmerModule(self.api, owner)

    def deserialize(self, compiled: bytes) -> LibwasmerModule:
        """`base.Engine.deserialize`. A digest is compared first: it may crash on code that was cut short."""
        start = len(SEAL) + hashlib.sha256().digest_size
        payload = compiled[start:]
        if compiled[:start] != SEAL + hashlib.sha256(payload).digest():
            raise InvalidModuleError("the compiled code is not wasmer's, or damaged")
        owner = Owner(self.api)
        owner.module = self.api.module_deserialize(owner.store, byref(Bytes.of(payload)))
        if not owner.module:
            raise InvalidModuleError(f"wasmer refuses the compiled code: {one_sentence(self.api.last_error())}")
        return LibwasmerModule(self.api, owner)

    def deserialize_file(self, path: Path) -> LibwasmerModule:
        """Read, not mapped: ``wasm.h`` maps no files."""
        return self.deserialize(path.read_bytes())


class LibwasmerModule(Compiled):
    """A module of libwasmer's (`base.Module`), each of whose instances has a store of its own."""

    def instantiate(
        self,
        functions: Mapping[tuple[str, str], base.HostFunction],
        *,
        memory_limit: int,
        table_limit: int = base.DEFAULT_TABLE_LIMIT,
        time_limit: base.TimeLimit | None = None,
    ) -> LibwasmerInstance:
        """`base.Module.instantiate`. Limits of memory are not kept, that of time by instructions."""
        return LibwasmerInstance(self, find_functions(self.imports, functions), time_limit)

    def serialize(self) -> bytes:
        """Wasmer's own format, after a mark and a digest."""
        out = Bytes()
        self.api.module_serialize(self.owner.module, byref(out))
        payload = take_bytes(self.api, out)
        return SEAL + hashlib.sha256(payload).digest() + payload
