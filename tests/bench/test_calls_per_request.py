"""How many Python functions a request calls: deterministic, so that nobody makes the path longer unseen.

The figures are those of today; they may fall, never rise. One that fell is written down here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench import guests
from tests.bench.apps import BODY_READ, HEADERS, Plugin, Setup, fault
from tests.bench.in_process import Request, calls_of, one_request, started

MOST = {
    "no-op plugin": 25,
    "header plugin": 66,
    "two header plugins": 106,
    "fault injection": 37,
    "a response body that is read": 194,
}


def setup_of(name: str, folder: Path) -> Setup:
    return {
        "no-op plugin": Setup(plugins=(Plugin(str(guests.no_callbacks(folder))),)),
        "header plugin": Setup(plugins=(HEADERS,)),
        "two header plugins": Setup(plugins=(HEADERS, HEADERS)),
        "fault injection": Setup(plugins=(fault("c"),)),
        "a response body that is read": Setup(plugins=(BODY_READ,)),
    }[name]


async def count(setup: Setup) -> int:
    async with started(setup) as app:
        return await calls_of(one_request(app, Request("/64 kB" if BODY_READ in setup.plugins else "/")))


@pytest.mark.parametrize("name", MOST)
def test_a_request_calls_no_more_functions_than_it_did(name: str, tmp_path: Path) -> None:
    assert asyncio.run(count(setup_of(name, tmp_path))) <= MOST[name]
