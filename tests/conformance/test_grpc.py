"""What the real Envoy makes of the scripts that `tests/plugins/test_grpc_probe.py` runs here, bad servers included."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.broken_grpc_server import BrokenServer, broken_grpc_server, deaf_server
from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.envoy import Envoy, envoy
from tests.elsewhere import elsewhere
from tests.grpc_server import Server, grpc_server
from tests.plugins.grpc_broken_cases import BROKEN_CASES
from tests.plugins.grpc_cases import CASES, Case, normal, without_details
from tests.serving import dead_port

_WAIT_SECONDS = 60.0
_QUIET_SECONDS = 0.2


@asynccontextmanager
async def grpc_servers() -> AsyncIterator[tuple[Server, BrokenServer]]:
    async with grpc_server() as server, broken_grpc_server() as broken:
        yield server, broken


@pytest.fixture(scope="module")
def running() -> Iterator[Envoy]:
    """One Envoy with a chain for each case, each in a VM of its own."""
    cases = {**CASES, **BROKEN_CASES}
    chains = [
        Chain(slug(name), (PluginEntry("probe", "grpc_probe/c", conf=case.script),)) for name, case in cases.items()
    ]
    with elsewhere(grpc_servers) as (server, broken), deaf_server() as deaf, dead_port() as dead:
        # No app: a request is answered 503, after the probe has seen it.
        apps = dict.fromkeys(map(slug, cases), dead)
        clusters = {"backend": server.port, "broken": broken.port, "dead": dead, "deaf": deaf}
        with envoy(chains, apps, grpc_clusters=clusters) as host:
            yield host


def slug(name: str) -> str:
    """The name as one word: as the VM's id it stands in each line of the log."""
    return name.replace(" ", "-") + "."


def lines(host: Envoy, name: str, count: int) -> list[str]:
    """What the probe of this case logged: ``count`` lines, and whatever comes for a while after them."""

    def found() -> list[str]:
        return [line.text for line in host.log_lines() if line.names[-1] == slug(name)]

    deadline = time.monotonic() + _WAIT_SECONDS
    while len(found()) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(_QUIET_SECONDS)
    return found()


@pytest.mark.parametrize("name", CASES)
def test_case(running: Envoy, name: str) -> None:
    case: Case = CASES[name]
    expected = case.lines if case.envoy is None else case.envoy
    httpx.get(f"http://127.0.0.1:{running.ports[slug(name)]}/")
    assert normal(lines(running, name, len(expected))) == expected


@pytest.mark.parametrize("mode", BROKEN_CASES)
def test_server_that_misbehaves(running: Envoy, mode: str) -> None:
    case = BROKEN_CASES[mode]
    expected = case.lines if case.envoy is None else case.envoy
    httpx.get(f"http://127.0.0.1:{running.ports[slug(mode)]}/")
    assert list(map(without_details, lines(running, mode, len(expected)))) == expected


def test_every_difference_has_a_reason_and_is_one() -> None:
    different = [case for case in (*CASES.values(), *BROKEN_CASES.values()) if case.envoy is not None or case.why]
    assert all(case.why and case.envoy != case.lines for case in different)
