"""How many Python functions a request calls: deterministic, so that nobody makes the path longer unseen.

The figures are those of today; they may fall, never rise. One that fell is written down here.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import guests
from tests.bench.apps import BODY_CHANGED, BODY_READ, HEADERS, Plugin, Setup, fault
from tests.bench.in_process import Request, calls_of, one_request, started
from tests.extras import NO_ACCELERATOR

# From CPython 3.12 on, a function more a crossing asks whether there are levels left for a callback.
_ANOTHER = 0 if sys.version_info < (3, 12) else 1
MOST = {
    "no-op plugin": 15 + _ANOTHER,
    "header plugin": 26 + 3 * _ANOTHER,
    "two header plugins": 43 + 8 * _ANOTHER,
    "fault injection": 15 + 2 * _ANOTHER,
    "fault injection in Rust": 28 + 4 * _ANOTHER,
    "a response body that is read": 39 + 3 * _ANOTHER,
    "a response body that is changed": 45 + 3 * _ANOTHER,
    # Some are the event loop's, by its version: it has a task for what is read before the app is called.
    "a request body that is changed": 120,
    "a request body that is not read": 1020 + 3 * _ANOTHER,
}
# The accelerator asks Python for it there alone: two functions a crossing.
_ASKED = 2 * _ANOTHER
MOST_ACCELERATED = {
    "no-op plugin": 2 + _ASKED,
    "header plugin": 2 + 2 * _ASKED,
    "two header plugins": 2 + 2 * _ASKED,
    "fault injection": _ASKED,
    "fault injection in Rust": _ASKED,
    "a response body that is read": 2 + 3 * _ASKED,
    "a response body that is changed": 2 + 3 * _ASKED,
    "a request body that is changed": 47 + 4 * _ASKED,
    "a request body that is not read": 3 + 2 * _ASKED,
}


def setup_of(name: str, folder: Path, accelerator: str) -> Setup:
    setup = {
        "no-op plugin": Setup(plugins=(Plugin(str(guests.no_callbacks(folder))),)),
        "header plugin": Setup(plugins=(HEADERS,)),
        "two header plugins": Setup(plugins=(HEADERS, HEADERS)),
        "fault injection": Setup(plugins=(fault("c"),)),
        # As all that are made with a kit, it has a callback for everything.
        "fault injection in Rust": Setup(plugins=(fault("rust"),)),
        "a response body that is read": Setup(plugins=(BODY_READ,)),
        "a response body that is changed": Setup(plugins=(BODY_CHANGED,)),
        "a request body that is changed": Setup(plugins=(BODY_CHANGED,)),
        "a request body that is not read": Setup(plugins=(HEADERS,)),
    }[name]
    return replace(setup, settings={"accelerator": accelerator})


def request_of(name: str) -> Request:
    if name == "a request body that is not read":
        return Request("/upload", b"x" * 65_536, pieces=1000)
    if "request body" in name:
        return Request("/upload", b"x" * 65_536)
    return Request("/64 kB" if "response body" in name else "/")


async def count(setup: Setup, request: Request) -> int:
    async with started(setup) as app:
        return await calls_of(one_request(app, request))


@pytest.mark.parametrize("name", MOST)
async def test_a_request_calls_no_more_functions_than_it_did(name: str, tmp_path: Path) -> None:
    assert await count(setup_of(name, tmp_path, "off"), request_of(name)) <= MOST[name]


@pytest.mark.skipif(NO_ACCELERATOR != "", reason=NO_ACCELERATOR)
@pytest.mark.parametrize("name", MOST_ACCELERATED)
async def test_the_accelerator_calls_no_more_functions_than_it_did(name: str, tmp_path: Path) -> None:
    assert await count(setup_of(name, tmp_path, "required"), request_of(name)) <= MOST_ACCELERATED[name]
