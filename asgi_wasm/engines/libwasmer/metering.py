"""The time limit of a guest, by wasmer's metering: each entry has so many instructions.

Compiled code counts them wherever it may jump, and traps when there are none left. So a limit in milliseconds is one of
instructions here, as many as a guest executes in that time at most.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asgi_wasm.engines.base import TimeLimit
    from asgi_wasm.engines.libwasmer.api import Api

# Instructions of a second: more than metered code executes on a fast machine (1.5 of these billions were measured), so
# that no plugin is stopped before its time.
PER_SECOND = 4_000_000_000
NEVER = (1 << 63) - 1
# Globals that metering exports.
COUNTERS = frozenset(("wasmer_metering_remaining_points", "wasmer_metering_points_exhausted"))


def points(limit: TimeLimit | None) -> int:
    """The instructions of one entry."""
    return int(limit.seconds * PER_SECOND) if limit is not None and limit.seconds else NEVER


def push_metering(api: Api, config: Any) -> None:
    """Let what is compiled by this configuration count its instructions.

    Each of the plain ones is one. Who says so is a C function (of the C library: whether a number is below 128), since
    the compiler's threads ask for each instruction; those of the first standard have the first numbers.
    """
    cost = ctypes.CDLL(None).isascii
    middleware = api.metering_as_middleware(api.metering_new(ctypes.c_uint64(PER_SECOND), cost))
    api.config_push_middleware(config, middleware)
