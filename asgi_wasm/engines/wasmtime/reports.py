"""Wasmtime's own report of a trap, which spans several lines."""

from __future__ import annotations

import re

from asgi_wasm.engines.binary import one_sentence
from asgi_wasm.engines.traps import trap_error
from asgi_wasm.errors import TrapError

# `    0:   0x4f - my_module!my_function`; file and line may follow on a line of their own.
_FRAME = re.compile(r"^\s*\d+:\s+0x[0-9a-f]+ - [^!]*!(.+)$", re.MULTILINE)


def trap_from_report(report: str, error: BaseException | None, source: str) -> TrapError:
    """The `TrapError` for wasmtime's ``report``, given what a host function raised, if any."""
    return trap_error(one_sentence(report), _FRAME.findall(report), error, source)
