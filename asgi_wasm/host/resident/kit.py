"""The resident half's modules, and how they are put beside a plugin (`engines.companion.Companion`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asgi_wasm.engines.base import Import, Module

if TYPE_CHECKING:
    from asgi_wasm.host.resident.native import Accelerator, NativeKernel

_HERE = Path(__file__).resolve().parent
_NAMES = ("trampolines", "shim", "kernel", "patch")
FILL = ("host", "fill")
GIVE_BODY = ("host", "give_body")
TAKE_BODY = ("host", "take_body")

# Hostcall -> the trampoline in its place, and the kernel's import for what it does not answer.
_HOT = {
    "proxy_get_header_map_value": ("get", "slow_get"),
    "proxy_get_header_map_pairs": ("get_pairs", "slow_pairs"),
    "proxy_get_header_map_size": ("get_size", "slow_size"),
    "proxy_add_header_map_value": ("add", "slow_add"),
    "proxy_replace_header_map_value": ("replace", "slow_replace"),
    "proxy_remove_header_map_value": ("remove", "slow_remove"),
    "proxy_send_local_response": ("respond", "slow_respond"),
    "proxy_get_buffer_bytes": ("get_buffer", "slow_get_buffer"),
    "proxy_get_buffer_status": ("buffer_status", "slow_buffer_status"),
    "proxy_set_buffer_bytes": ("set_buffer", "slow_set_buffer"),
    "proxy_get_current_time_nanoseconds": ("get_time", "slow_time"),
    "proxy_get_property": ("get_property", "slow_property"),
}
_SLOW = {slow: ("env", name) for name, (_, slow) in _HOT.items()} | {
    "fill": FILL,
    "give_body": GIVE_BODY,
    "take_body": TAKE_BODY,
}
_CALLBACKS = (
    "on_context_create",
    "on_request_headers",
    "on_response_headers",
    "on_request_body",
    "on_response_body",
    "on_done",
    "on_log",
    "on_delete",
)
_EXPORTS: dict[str, tuple[str, ...]] = {
    **{name: (f"proxy_{name}",) for name in _CALLBACKS},
    "allocate": ("malloc", "proxy_on_memory_allocate"),
}


@dataclass(frozen=True)
class Kit:
    """The modules, compiled by the engine that is to run them."""

    trampolines: Module
    shim: Module
    kernel: Module
    patch: Module
    accelerator: Accelerator | None = None

    @classmethod
    def load(cls, compiled: Callable[[Path], Module], accelerator: Accelerator | None = None) -> Kit:
        """``compiled`` gives back the module of a file."""
        trampolines, shim, kernel, patch = (compiled(_HERE / f"{name}.wasm") for name in _NAMES)
        return cls(trampolines, shim, kernel, patch, accelerator)

    def close(self) -> None:
        """Let go of their code, for good. Idempotent."""
        for module in (self.trampolines, self.shim, self.kernel, self.patch):
            module.close()

    def native_kernel(self) -> NativeKernel | None:
        """What is to enter an instance's kernel without Python."""
        return None if self.accelerator is None else self.accelerator.Kernel()

    def trampoline(self, imported: Import) -> str | None:
        """Its name for a hostcall that the kernel answers, of the type that the kernel has for it; else None."""
        return _HOT[imported.name][0] if imported.module == "env" and imported.name in _HOT else None

    def slow(self, name: str) -> tuple[str, str] | None:
        """The hostcall in Python behind one that the kernel does not answer this time."""
        return _SLOW.get(name)

    def exports(self, name: str) -> Sequence[str]:
        """The callbacks, and the allocator, that the kernel enters."""
        return _EXPORTS.get(name, ())
