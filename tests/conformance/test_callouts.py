"""HTTP calls: what the plugin `callouts` sends, is answered and logs in both hosts."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import AbstractAsyncContextManager

import httpx

from tests.conformance.callout_cases import ANSWERS, CALLS, DIFFERENCES
from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.hosts import both, settle
from tests.elsewhere import elsewhere
from tests.plugins.callouts import conf
from tests.serving import dead_port
from tests.upstreams import Raw, raw

# Envoy adds these of its own.
_OWN_HEADERS = re.compile(rb"^x-envoy-")
_SERVICE_TIME = "answer header x-envoy-upstream-service-time"


def _answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes | None:
    target = line.split(b" ")[1] if line.count(b" ") == 2 else b""
    return ANSWERS.get(target.partition(b"?")[0], b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")


def upstream() -> AbstractAsyncContextManager[tuple[int, Raw]]:
    """It closes after each answer."""
    return raw(_answer, closes=True)


def sent(heads: list[bytes], bodies: list[bytes]) -> list[tuple[bytes, list[bytes], bytes]]:
    """Requests in the order of their lines: line, headers without their order, body."""
    found = []
    for head, body in zip(heads, bodies, strict=True):
        line, *fields = head[:-4].split(b"\r\n")
        if b"dup" not in line:
            fields.sort()
        found.append((line, [field for field in fields if not _OWN_HEADERS.match(field)], body))
    return sorted(found)


def by_call(lines: list[str]) -> dict[str, list[str]]:
    """Case to what was logged of it: its status, and the answer that its token got."""
    found: dict[str, list[str]] = {}
    answers: dict[str, list[str]] = defaultdict(list)
    names, token = iter(CALLS), ""
    owners: dict[str, str] = {}
    for line in lines:
        if line.startswith("request_headers http"):
            name = next(names)
            found[name] = [line]
            owners[line.rpartition(" ")[2]] = name
        elif match := re.match(r"answer (\d+) (\d+) (\d+) (\d+)$", line):
            token = match[1]
            answers[token].append(f"body {match[3]} trailers {match[4]}")
        elif not line.startswith((_SERVICE_TIME, "answer status", "answer without")):
            # The status is that of the last failure, of whichever call.
            answers[token].append(line)
    for token, answer in answers.items():
        found[owners[token]] += answer
    return found


def test_calls_are_sent_and_answered_alike() -> None:
    entry = PluginEntry("callouts", "callouts/c", conf=conf(request_headers=list(CALLS.values())))
    with elsewhere(upstream) as (port, server), dead_port() as dead:
        clusters = {"up": port, "dead": dead}
        with both([Chain("calls", (entry,))], clusters) as hosts:
            logged, requests = [], []
            for host in (hosts.envoy, hosts.asgi_wasm):
                httpx.get(f"http://127.0.0.1:{host.ports['calls']}/")
                logged.append(by_call([line.text for line in settle(host, 1.0)]))
                requests.append(sent(server.heads, server.bodies))
                server.heads.clear()
                server.bodies.clear()
    theirs, ours = logged
    assert theirs.keys() == ours.keys() == CALLS.keys()
    assert {name for name in CALLS if theirs[name] != ours[name]} == DIFFERENCES.keys()
    # Both of the strange paths are what only Envoy sent.
    assert [line for line, _, _ in requests[0] if b"/o k" in line or b"\xe9" in line] != []
    assert [item for item in requests[0] if b"/o k" not in item[0] and b"\xe9" not in item[0]] == requests[1]
