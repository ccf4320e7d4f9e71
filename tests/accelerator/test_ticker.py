"""What ticks for the watchdog, without the GIL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_void_p, cast
from typing import Any

import pytest

from asgi_wasm.accelerator import load
from tests.accelerator.apps import ROOT, needs_accelerator

pytestmark = needs_accelerator
_Function = CFUNCTYPE(None, c_void_p)
LONG = 100_000_000


class Counted:
    """A C function that counts its calls, by argument."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.seen: list[int | None] = []
        self._then = then
        self._function = _Function(self._call)
        self.address = cast(self._function, c_void_p).value or 0

    def _call(self, argument: int | None) -> None:
        self.seen.append(argument)
        self._then()


def ticker() -> Any:
    return load().Ticker()


def test_each_is_called_so_many_times() -> None:
    counted = Counted()
    ticker().run(((counted.address, 7), (counted.address, 8)), 0, 3)
    assert counted.seen == [7, 8] * 3
    ticker().run(((counted.address, 9),), 0, 0)
    ticker().run((), 0, 3)
    assert counted.seen == [7, 8] * 3


def test_a_ring_ends_a_run_that_waits() -> None:
    made, heard = ticker(), threading.Event()
    counted = Counted(heard.set)
    thread = threading.Thread(target=made.run, args=(((counted.address, 0),), LONG, 10))
    thread.start()
    assert heard.wait(60)
    made.ring()
    thread.join(60)
    assert not thread.is_alive()
    assert len(counted.seen) == 1


def test_a_ring_before_a_run_ends_it_after_a_turn_and_no_other() -> None:
    made, counted = ticker(), Counted()
    made.ring()
    made.ring()
    made.run(((counted.address, 0),), LONG, 10)
    assert len(counted.seen) == 1
    made.run(((counted.address, 0),), 0, 5)
    assert len(counted.seen) == 6


def test_python_goes_on_meanwhile_and_no_other_run_begins() -> None:
    made = ticker()
    refused: list[str] = []

    def again() -> None:
        with pytest.raises(ValueError, match="it runs already") as caught:
            made.run((), 0, 1)
        refused.append(str(caught.value))
        made.ring()

    made.run(((Counted(again).address, 0),), LONG, 1)
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), TypeError),
        (([], 0, 1), TypeError),
        ((((1,),), 0, 1), TypeError),
        (((1,), 0, 1), TypeError),
        ((((1, "2"),), 0, 1), TypeError),
        (((), -1, 1), ValueError),
        (((), 1 << 32, 1), ValueError),
        (((), 1 << 70, 1), OverflowError),
    ],
)
def test_misuse_is_an_error(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    made = ticker()
    with pytest.raises(error):
        made.run(*arguments)
    made.run((), 0, 1)


FAILING = """
import _testcapi
from asgi_wasm.accelerator import load
Ticker = load().Ticker
failed = 0
for at in range(20):
    _testcapi.set_nomemory(at)
    try:
        made = Ticker()
        made.run(((0, 0),) * 100, 0, 0)
    except MemoryError:
        failed += 1
    finally:
        _testcapi.remove_mem_hooks()
print(failed)
"""


def test_any_allocation_may_fail() -> None:
    pytest.importorskip("_testcapi", reason="this Python cannot make allocations fail")
    found = subprocess.run([sys.executable, "-c", FAILING], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    assert 1 <= int(found.stdout) < 20


def test_it_may_be_let_go_of_in_any_state() -> None:
    rung = ticker()
    rung.ring()
    del rung
    ticker()
