"""The accelerator's types are for us alone: misuse is an error, no crash."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from asgi_wasm.accelerator import load
from tests.accelerator.apps import needs_accelerator


@needs_accelerator
def test_a_running_loop_is_known_from_another() -> None:
    accelerator = load()

    async def mark() -> object:
        found = accelerator.loop_mark()
        await asyncio.sleep(0)
        assert accelerator.loop_mark() is found
        return found

    # Kept, so that none takes the other's place.
    first, second = asyncio.run(mark()), asyncio.run(mark())
    if sys.version_info < (3, 12):
        assert None not in (first, second)
        assert first is not second
        assert accelerator.loop_mark() not in (first, second)
    else:
        assert first is second is None


@needs_accelerator
def test_its_types_are_not_to_be_misused() -> None:
    module: Any = load()
    for made in (module.Stream, module.Upload):
        with pytest.raises(TypeError, match="is made by Course"):
            made()
    with pytest.raises(TypeError):
        module.Course()
    with pytest.raises(TypeError, match="subclass of Stream"):
        module.Course(int, int, None, None, [], None, None, (), 0, {}, {}, {}, int, None, None, None, None, None, None)
    kernel = module.Kernel()
    with pytest.raises(TypeError):
        kernel.attach(1)
    for wrong in ((), (1, 2, "piece", True), (1, 2, b"piece"), ("1", 2, b"piece", True), (-1, 2, b"piece", True)):
        with pytest.raises((TypeError, OverflowError)):
            kernel.show(*wrong)
    with pytest.raises(RuntimeError, match="attached to nothing"):
        kernel.show(1, 2, b"piece", True)
    kernel.close()
    kernel.close()
