"""On the wire: never more bytes than announced, and too few end the connection; nothing is raised for a plugin."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.servers.conftest import SERVERS, why_no_server
from tests.servers.test_raw import exchange, request
from tests.serving import ROOT, Server, free_port, launch


@pytest.fixture(scope="module", params=[name for name in SERVERS if name != "daphne"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Not daphne: it leaves a connection open on which an app has left a response unfinished, bare or not."""
    if reason := why_no_server(request.param):
        pytest.skip(reason)
    port = free_port()
    parts = [part.replace("PORT", str(port)) for part in SERVERS[request.param]]
    command = [part.replace("tests.servers.app:app", "tests.servers.changing:app") for part in parts]
    with launch([sys.executable, "-m", *command], port, env={"PYTHONUNBUFFERED": "1"}, cwd=ROOT) as running:
        yield running


def test_a_longer_body_is_cut_to_its_length(server: Server) -> None:
    """What follows in the pipeline is not read as a part of it, nor it as a response of its own."""
    got = exchange(server, request("GET /grow") + request("GET /bare", "Connection: close"))
    heads, bodies = got.count(b"HTTP/1.1 200"), [part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1 200")]
    # The last two bytes are the first of what looks like a response.
    assert (heads, bodies[1:]) == (2, [b"0.1.HT", b"0.1.2."]), got
    assert server.logs("plugin 'growing' made it longer than the 6 bytes of its head")


def test_a_shorter_body_ends_the_connection(server: Server) -> None:
    got = exchange(server, request("GET /cut") + request("GET /bare", "Connection: close"))
    assert got.count(b"HTTP/1.1 200") == 1 and got.partition(b"\r\n\r\n")[2].startswith(b"0.1."), got
    assert server.logs("plugin 'cutting' left 1 of 6 bytes out of it")


def test_nothing_was_raised(server: Server) -> None:
    """Runs last."""
    assert "Traceback" not in server.log(), server.log()
