"""A few turns of each case, so that `make soak` itself does not rot: what is refused leaves no object behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import median

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.settings.limits import Limits
from tests.serving import ROOT
from tests.soak.limits.__main__ import ALL
from tests.soak.limits.case import Case, Seen, at_rest
from tests.soak.limits.taken import LOOKS, Taken, blocks

TIMES = 60
# Not what a request meets, but what keeps a plugin from starting (`tests/worker/test_space_and_time.py`), or a sentence
# of the log alone.
ELSEWHERE = {"compile_ms", "slow_callback_ms"}


@pytest.fixture(scope="module", autouse=True)
def _what_was_there() -> Iterator[None]:
    """Is not looked through by the garbage collector again and again: it may be a million objects of other tests."""
    if hasattr(gc, "freeze"):
        gc.collect()
        gc.freeze()
    yield
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()


async def kept(case: Case, times: int) -> float:
    """Python's blocks for each time over the limit: the middle of three spans, for caches fill and empty meanwhile."""
    async with case.served() as app:
        found = []
        for enough in (times, 2 * times, 3 * times, 4 * times):
            while case.seen.times < enough:
                await case.ask(app, case.seen)
            found.append(await _most(case, app))
        return median(after - before for before, after in pairwise(found)) / times


async def _most(case: Case, app: WasmMiddleware) -> int:
    """What there is at most, of a few looks where VMs fail: now and then a look comes when most of one is gone."""
    looks = []
    for _ in range(4 if case.entry else 1):
        await case.ask(app, case.seen)
        await at_rest(app)
        gc.collect()
        looks.append(blocks())
    return max(looks)


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="this interpreter does not tell what it has")
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_nothing_is_kept_of_what_is_refused(case: Case) -> None:
    assert asyncio.run(kept(case, int(TIMES * max(case.share, 0.25)))) < 0.5


def noticed(name: str, many: int) -> float:
    """What is told to be kept for each time, where ``many`` objects are."""
    case = next(case for case in ALL if case.name == name)
    things: list[object] = []

    async def ask(app: WasmMiddleware, seen: Seen) -> None:
        # The plugin counts in its own.
        await case.ask(app, case.seen)
        things.extend(object() for _ in range(many))
        seen.times += 1

    return asyncio.run(kept(replace(case, ask=ask, seen=Seen()), TIMES))


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="this interpreter does not tell what it has")
# Of a VM that is kept there is much; one more or less may be there at a look.
@pytest.mark.parametrize(("name", "many"), [(ALL[0].name, 1), ("a trap", 20)])
def test_what_is_kept_is_noticed(name: str, many: int) -> None:
    """In a process of its own: what other tests left in caches gives way to less, request by request."""
    code = f"from {__name__} import noticed; print(noticed({name!r}, {many}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.5


def test_each_limit_has_its_case() -> None:
    named = {case.name.partition(",")[0] for case in ALL} | {"memory"} | ELSEWHERE
    assert set(Limits.model_fields) - named == set()


def test_a_slope_is_per_thousand_times() -> None:
    taken = Taken()
    for index in range(LOOKS + 1):
        taken.times[index], taken.rss[index] = 100 * index, 5 * 100 * index + 7
    assert taken.slope(taken.rss) == pytest.approx(5000)
    assert taken.slope(taken.blocks) == 0
