"""Foreign functions called by the plugin callouts."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm import foreign_function
from tests.plugins.callouts import conf, plugged, said

OK, NOT_FOUND, BAD_ARGUMENT, SERIALIZATION_FAILURE, INTERNAL_FAILURE = 0, 1, 2, 3, 10


def results(caplog: pytest.LogCaptureFixture, callback: str = "configure") -> list[tuple[int, bytes]]:
    """Status and result of each foreign function and property step of a callback."""
    found = []
    for line in said(caplog, f"^{callback} (foreign|get|set) "):
        status, _, result = line.partition(" = ")[2].partition(" ")
        found.append((int(status), bytes.fromhex(result)))
    return found


async def configured(caplog: pytest.LogCaptureFixture, *steps: str, functions: Any = ()) -> list[tuple[int, bytes]]:
    """What the steps of `on_configure` give."""
    async with plugged(conf(configure=steps), foreign_functions=functions):
        pass
    return results(caplog)


@foreign_function("upper")
def upper(arguments: bytes) -> bytes:
    return arguments.upper()


def answers(caplog: pytest.LogCaptureFixture) -> list[str]:
    return said(caplog, "^foreign_function ")
