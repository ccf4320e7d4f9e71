"""HTTP calls over HTTP/2: trailers of requests and answers in both hosts. Those of HTTP/1 are in `test_callouts`."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, TrailersReceived

from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.hosts import both, settle
from tests.elsewhere import elsewhere
from tests.plugins.callouts import conf, http

_SERVICE_TIME = "answer header x-envoy-upstream-service-time"

Pairs = list[tuple[bytes, bytes]]
OK: Pairs = [(b":status", b"200"), (b"x-up", b"a")]

# Path -> head, body, trailers; a body of None: the trailers follow the head at once.
ANSWERS: dict[bytes, tuple[Pairs, bytes | None, Pairs]] = {
    b"/none": (OK, b"ok", []),
    b"/after-a-body": (OK, b"ok", [(b"x-t", b"1")]),
    b"/after-an-empty-body": (OK, b"", [(b"x-t", b"1")]),
    b"/after-the-head": (OK, None, [(b"x-t", b"1")]),
    b"/many": (OK, b"ok", [(b"x-t", b"1"), (b"x-t", b"2"), (b"x-empty", b"")]),
    b"/after-length": ([*OK, (b"content-length", b"2")], b"ok", [(b"x-t", b"1")]),
    b"/announced": ([*OK, (b"trailer", b"x-t")], b"ok", [(b"x-t", b"1")]),
    b"/404": ([(b":status", b"404")], b"no", [(b"x-t", b"1")]),
    b"/pseudo": (OK, b"ok", [(b":status", b"500")]),
    b"/hop": (OK, b"ok", [(b"connection", b"close")]),
    b"/length-in-trailers": (OK, b"ok", [(b"content-length", b"9")]),
    b"/true-length-in-trailers": (OK, b"ok", [(b"content-length", b"2")]),
    b"/coded-in-trailers": (OK, b"ok", [(b"transfer-encoding", b"chunked")]),
    b"/te-in-trailers": (OK, b"ok", [(b"te", b"trailers")]),
    b"/host-in-trailers": (OK, b"ok", [(b"host", b"a")]),
    b"/upper-in-trailers": (OK, b"ok", [(b"X-T", b"a")]),
    b"/hop-in-head": ([*OK, (b"connection", b"close")], b"ok", []),
    b"/two-statuses": ([*OK, (b":status", b"200")], b"ok", []),
    b"/path-in-head": ([(b":path", b"/"), *OK], b"ok", []),
    b"/coded-head": ([*OK, (b"transfer-encoding", b"chunked")], b"ok", []),
}
# Each on a connection of its own, since it may cost that.
BROKEN = (
    *("pseudo", "hop", "length-in-trailers", "true-length-in-trailers", "coded-in-trailers", "te-in-trailers"),
    *("host-in-trailers", "upper-in-trailers", "hop-in-head", "coded-head", "two-statuses", "path-in-head"),
)
CALLS = {
    **{name: http(path) for path in ANSWERS if (name := path.decode()[1:]) not in BROKEN},
    "of the request, after a body": http(b"/none?sent", method=b"POST", body=b"ab", trailers=[(b"x-t", b"1")]),
    "of the request, without a body": http(b"/none?bare", trailers=[(b"x-t", b"1")]),
    "of the request, twice": http(b"/none?twice", body=b"a", trailers=[(b"x-t", b"1"), (b"x-t", b"2"), (b"x-e", b"")]),
}


@dataclass
class Seen:
    """A request as the server had it."""

    path: bytes
    body: bytes = b""
    trailers: Pairs = field(default_factory=list)


class Serving(asyncio.Protocol):
    """One connection."""

    def __init__(self, seen: list[Seen]) -> None:
        self._seen = seen
        self._h2 = H2Connection(
            H2Configuration(False, None, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self._streams: dict[int, Seen] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._h2.initiate_connection()
        transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            stream = getattr(event, "stream_id", 0) or 0
            if isinstance(event, RequestReceived):
                self._streams[stream] = Seen(dict(event.headers or [])[b":path"])
            elif isinstance(event, TrailersReceived):
                self._streams[stream].trailers = [(bytes(name), bytes(value)) for name, value in event.headers or []]
            elif isinstance(event, DataReceived):
                self._streams[stream].body += event.data or b""
            elif isinstance(event, StreamEnded):
                self._answer(stream)
        self._transport.write(self._h2.data_to_send())

    def _answer(self, stream: int) -> None:
        seen = self._streams.pop(stream)
        self._seen.append(seen)
        head, body, trailers = ANSWERS[seen.path.partition(b"?")[0]]
        self._h2.send_headers(stream, head)
        if body is not None:
            self._h2.send_data(stream, body, end_stream=not trailers)
        if trailers:
            self._h2.send_headers(stream, trailers, end_stream=True)


@asynccontextmanager
async def upstream() -> AsyncIterator[tuple[int, list[Seen]]]:
    """The server: its port and what it has seen."""
    seen: list[Seen] = []
    server = await asyncio.get_running_loop().create_server(lambda: Serving(seen), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], seen
    server.close()


def by_call(lines: list[str], calls: Iterable[str]) -> dict[str, list[str]]:
    """Case to what the plugin logged of its answer."""
    owners: dict[str, str] = {}
    answers: dict[str, list[str]] = defaultdict(list)
    names, token = iter(calls), ""
    for line in lines:
        if line.startswith("request_headers http"):
            owners[line.rpartition(" ")[2]] = next(names)
        elif match := re.match(r"answer (\d+) (\d+) (\d+) (\d+)$", line):
            token = match[1]
            answers[token].append(f"body {match[3]} trailers {match[4]}")
        elif not line.startswith((_SERVICE_TIME, "answer status", "answer without")):
            answers[token].append(line)
    return {owner: answers[token] for token, owner in owners.items()}


def test_trailers_over_http2() -> None:
    chains = {"calls": CALLS, **{name: {name: http(f"/{name}".encode())} for name in BROKEN}}
    made = [
        Chain(name, (PluginEntry("callouts", "callouts/c", conf=conf(request_headers=list(calls.values()))),))
        for name, calls in chains.items()
    ]
    logged: list[dict[str, list[str]]] = []
    requests = []
    with elsewhere(upstream) as (port, seen), both(made, http2_clusters={"up": port}) as hosts:
        for host in (hosts.envoy, hosts.asgi_wasm):
            found: dict[str, list[str]] = {}
            for name, calls in chains.items():
                known = len(host.log_lines())
                httpx.get(f"http://127.0.0.1:{host.ports[name]}/")
                found |= by_call([line.text for line in settle(host, 1.0)[known:]], calls)
            logged.append(found)
            requests.append(sorted((each.path, each.body, each.trailers) for each in seen))
            seen.clear()
    theirs, ours = logged
    assert theirs.keys() == ours.keys() == {*CALLS, *BROKEN}
    assert {name: (theirs[name], ours[name]) for name in theirs if theirs[name] != ours[name]} == {}
    assert requests[0] == requests[1] and len(requests[0]) == len(CALLS) + len(BROKEN)
    assert "answer trailer x-t: 1" in ours["after-a-body"]
