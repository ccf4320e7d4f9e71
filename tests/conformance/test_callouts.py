"""HTTP calls and Envoy's foreign functions: what the plugin `callouts` sends, is answered and logs in both hosts."""

from __future__ import annotations

import asyncio
import re
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from asgi_wasm.host.codecs.protobuf import encode
from asgi_wasm.host.codecs.wire import encode_pairs
from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.hosts import both, settle
from tests.plugins.callouts import conf, foreign, get, http, put, raw_http
from tests.serving import dead_port
from tests.upstreams import Raw, raw

_WAIT_SECONDS = 30.0
# Envoy adds these of its own.
_OWN_HEADERS = re.compile(rb"^x-envoy-")
_SERVICE_TIME = "answer header x-envoy-upstream-service-time"

_ANSWERS = {
    b"/ok": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Up: a\r\nX-Up: b\r\n\r\nok",
    b"/none": b"",
    b"/garbage": b"nonsense\r\n\r\n",
    b"/bad-head": b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    b"/head-cut": b"HTTP/1.1 200 OK\r\ncont",
    b"/body-cut": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut",
    b"/trailers": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n",
    b"/204": b"HTTP/1.1 204 No\r\n\r\n",
    b"/302": b"HTTP/1.1 302 Found\r\nlocation: /ok\r\ncontent-length: 0\r\n\r\n",
    b"/early": b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"/until-close": b"HTTP/1.1 200 OK\r\n\r\nabc",
    b"/silent": None,
    # What an answer may not be, and what it may be, though few are.
    b"/reset": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
    b"/http-1-0": b"HTTP/1.0 200 OK\r\n\r\nold",
    b"/http-0-9": b"just a body",
    b"/http-2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"/http-1-2": b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"/no-reason": b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
    b"/bare-line-feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    b"/empty-line-first": b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"/status-99": b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
    b"/status-600": b"HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n",
    b"/status-999": b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
    b"/status-1000": b"HTTP/1.1 1000 Odd\r\ncontent-length: 0\r\n\r\n",
    b"/status-2x": b"HTTP/1.1 2x0 Odd\r\ncontent-length: 0\r\n\r\n",
    b"/switching": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxyz",
    b"/continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"/processing": b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"/interim-alone": b"HTTP/1.1 103 Early\r\n\r\n",
    b"/204-with-body": b"HTTP/1.1 204 No\r\ncontent-length: 3\r\n\r\nabc",
    b"/204-chunked": b"HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"/205-with-body": b"HTTP/1.1 205 Reset\r\ncontent-length: 3\r\n\r\nabc",
    b"/304-with-length": b"HTTP/1.1 304 No\r\ncontent-length: 3\r\n\r\n",
    b"/two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde",
    b"/same-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    b"/joined-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
    b"/negative-length": b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nabc",
    b"/signed-length": b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
    b"/no-length": b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\nabc",
    b"/huge-length": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\nabc",
    b"/length-and-chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"/coded": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"/coded-alone": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
    b"/chunked-twice": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"/bad-chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    b"/chunk-extension": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
    b"/chunk-too-long": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    b"/chunk-cut": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    b"/trailers-cut": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-t: 1\r\n",
    b"/folded": b"HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    b"/space-before-colon": b"HTTP/1.1 200 OK\r\nx-a : b\r\ncontent-length: 0\r\n\r\n",
    b"/nameless": b"HTTP/1.1 200 OK\r\n: b\r\ncontent-length: 0\r\n\r\n",
    b"/nul": b"HTTP/1.1 200 OK\r\nx-a: a\0b\r\ncontent-length: 0\r\n\r\n",
    b"/bell": b"HTTP/1.1 200 OK\r\nx-a: a\x07b\r\ncontent-length: 0\r\n\r\n",
    b"/underscore": b"HTTP/1.1 200 OK\r\nx_a: b\r\nX-B:\tc \r\ncontent-length: 0\r\n\r\n",
    b"/empty-value": b"HTTP/1.1 200 OK\r\nx-a:\r\ncontent-length: 0\r\n\r\n",
    b"/hop": b"HTTP/1.1 200 OK\r\nconnection: close, x-a\r\nx-a: b\r\nkeep-alive: 5\r\ncontent-length: 0\r\n\r\n",
    b"/keep-alive": b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\nproxy-connection: a\r\ncontent-length: 0\r\n\r\n",
    b"/204-length-0": b"HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n",
    b"/204-length-00": b"HTTP/1.1 204 No\r\ncontent-length: 00\r\n\r\n",
    b"/200-length-00": b"HTTP/1.1 200 OK\r\ncontent-length: 02\r\n\r\nok",
    b"/interim-cut": b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200",
    b"/101-fields": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 100 + b"content-length: 0\r\n\r\n",
    b"/delete": b"HTTP/1.1 200 OK\r\nx-a: a\x7fb\r\ncontent-length: 0\r\n\r\n",
    b"/many-fields": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 99 + b"content-length: 0\r\n\r\n",
    b"/too-many-fields": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 150 + b"content-length: 0\r\n\r\n",
    b"/wide-field": b"HTTP/1.1 200 OK\r\nx-a: " + b"v" * 50_000 + b"\r\ncontent-length: 0\r\n\r\n",
    b"/too-wide-field": b"HTTP/1.1 200 OK\r\nx-a: " + b"v" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    b"/surplus": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
}

CALLS = {
    **{path.decode()[1:]: http(path + b"?", timeout=500 if path == b"/silent" else 0) for path in _ANSWERS},
    "refused": http(upstream="dead"),
    "unknown upstream": http(upstream="unknown"),
    "negative timeout": http(timeout=0xFFFFFFFF),
    "no headers": raw_http(b""),
    "no method": raw_http(encode_pairs([(b":path", b"/ok"), (b":authority", b"a")])),
    "no path": raw_http(encode_pairs([(b":method", b"GET"), (b":authority", b"a")])),
    "no authority": raw_http(encode_pairs([(b":method", b"GET"), (b":path", b"/ok")])),
    "host alone": raw_http(encode_pairs([(b":method", b"GET"), (b":path", b"/ok?host"), (b"host", b"only.test")])),
    "host and authority": http(b"/ok?both", more=[(b"host", b"b.test")]),
    "value with a line break": http(more=[(b"x-bad", b"a\r\nb: c")]),
    "name with a space": http(more=[(b"x bad", b"a")]),
    "latin-1": http(b"/ok?latin", more=[(b"x-l", b"caf\xe9")]),
    "duplicates": http(b"/ok?dup", more=[(b"X-D", b"1"), (b"x-d", b"2"), (b"x-e", b"")]),
    "unknown method": http(b"/ok?brew", method=b"BREW"),
    "put": http(b"/ok?put", method=b"PUT"),
    "delete": http(b"/ok?delete", method=b"DELETE"),
    "small letters": http(b"/ok?get", method=b"get"),
    "head": http(b"/ok?head", method=b"HEAD"),
    "connect": http(b"/ok?connect", method=b"CONNECT"),
    "dots in the path": http(b"/a/../ok?x=%2F"),
    "body": http(b"/ok?body", method=b"POST", body=b"\0\xff"),
    "body with a wrong length": http(b"/ok?length", more=[(b"content-length", b"99")], body=b"abc"),
    "trailers of the request": http(b"/ok?trailers", body=b"ab", trailers=[(b"x-t", b"1")]),
    "scheme": http(b"/ok?scheme", more=[(b":scheme", b"https")]),
    "path with a space": http(b"/o k"),
    "path beyond ASCII": http(b"/ok?\xe9"),
}
# Case: why the answer differs, or the request.
DIFFERENCES = {
    "path with a space": "no path that HTTP does not allow is sent here, Envoy sends it",
    "path beyond ASCII": "no path that HTTP does not allow is sent here, Envoy sends it",
    **dict.fromkeys(("status-99", "status-1000"), "a status has three digits, from 100 (RFC 9110 15)"),
    "switching": "nobody asked for another protocol: no answer here",
    **dict.fromkeys(("same-lengths", "joined-lengths"), "one length that is said twice is one (RFC 9110 8.6)"),
    "chunk-too-long": "the answer is broken here, and what came of it one in Envoy",
}


def _answer(line: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes | None:
    target = line.split(b" ")[1] if line.count(b" ") == 2 else b""
    return _ANSWERS.get(target.partition(b"?")[0], b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")


@contextmanager
def upstream() -> Iterator[tuple[int, Raw]]:
    """A server on an event loop of its own; it closes after each answer."""
    found: list[tuple[int, Raw, asyncio.AbstractEventLoop, asyncio.Event]] = []
    started = threading.Event()

    async def serve() -> None:
        async with raw(_answer, closes=True) as (port, seen):
            over = asyncio.Event()
            found.append((port, seen, asyncio.get_running_loop(), over))
            started.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(_WAIT_SECONDS)
    port, seen, loop, over = found[0]
    try:
        yield port, seen
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(_WAIT_SECONDS)


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
    with upstream() as (port, server), dead_port() as dead:
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


def _signatures() -> list[str]:
    key, other = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()
    der, pem = serialization.Encoding.DER, serialization.Encoding.PEM
    pkcs8, spki = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
    plain = serialization.NoEncryption()
    private, public = key.private_bytes(der, pkcs8, plain), key.public_key().public_bytes(der, spki)
    private_pem, public_pem = key.private_bytes(pem, pkcs8, plain), key.public_key().public_bytes(pem, spki)
    signature = key.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
    signs = [
        [(1, b"sha256"), (2, private), (3, b"text")],
        [(1, b"SHA512"), (4, private_pem), (3, b"")],
        [(1, b"md5"), (2, private)],
        [(1, b"md5"), (2, b"junk")],
        [(1, b"md5")],
        [(1, b"sha256"), (2, b"junk")],
        [(1, b"sha256"), (4, b"junk")],
        [(1, b"sha256"), (2, public)],
        [(1, b"sha256"), (2, private), (4, private_pem)],
        [(1, b"sha256"), (2, other.private_bytes(der, pkcs8, plain))],
        [(1, b"sha\xff256"), (2, private)],
    ]
    verifies = [
        [(1, b"sha256"), (2, public), (3, signature), (4, b"text")],
        [(1, b"sha256"), (5, public_pem), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, public), (3, signature), (4, b"other")],
        [(1, b"sha1"), (2, public), (3, signature), (4, b"text")],
        [(1, b"sha3"), (2, public), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, b"junk"), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, other.public_key().public_bytes(der, spki)), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, public), (5, public_pem)],
        [(1, b"sha256"), (3, signature)],
    ]
    return [
        *(foreign("sign", encode(fields)) for fields in signs),
        *(foreign("verify_signature", encode(fields)) for fields in verifies),
        foreign("sign", b"\xff"),
        foreign("verify_signature", b"\xff"),
    ]


def _declare(name: bytes, read_only: int = 0, kind: int = 0, span: int = 0) -> str:
    return foreign("declare_property", encode([(1, name), (2, read_only), (3, kind), (4, b"schema"), (5, span)]))


def _filter_state(key: bytes, value: bytes) -> str:
    return foreign("set_envoy_filter_state", encode([(1, key), (2, value)]))


def test_foreign_functions_answer_alike() -> None:
    packed = zlib.compress(b"hello" * 100)
    script = conf(
        configure=[
            _declare(b"once", 1),
            _declare(b"once"),
            *(_declare(b"kind%d" % kind, 0, kind, kind % 3) for kind in (1, 2, 3, 9)),
            foreign("declare_property", b"\xff"),
            foreign("declare_property", encode([(1, b"\xff")])),
            foreign("declare_property"),
            _filter_state(b"envoy.string", b"v"),
            foreign("clear_route_cache"),
            put(b"p", b"v"),
        ],
        request_headers=[
            *(
                foreign("uncompress", data)
                for data in (packed, packed + b"tail", packed[:-4], packed[:9], b"junk", b"")
            ),
            foreign("compress"),
            foreign("nobody"),
            get(b"once"),
            put(b"once", b"1"),
            put(b"once", b"2"),
            get(b"once"),
            *(step for kind in (1, 2, 3, 9) for step in (put(b"kind%d" % kind, b"v"), get(b"kind%d" % kind))),
            _declare(b"late", 1),
            _declare(b"late", 1),
            put(b"late", b"1"),
            put(b"late", b"2"),
            get(b"late"),
            _filter_state(b"envoy.string", b"v"),
            get(b"filter_state\0envoy.string"),
            _filter_state(b"unknown", b"v"),
            _filter_state(b"envoy.string", b"\xff"),
            foreign("set_envoy_filter_state", b"\xff"),
            foreign("clear_route_cache", b"x"),
            *_signatures(),
        ],
        log=[_filter_state(b"envoy.string", b"late"), get(b"filter_state\0envoy.string")],
    )
    with both([Chain("functions", (PluginEntry("callouts", "callouts/c", conf=script),))]) as hosts:
        logged = []
        for host in (hosts.envoy, hosts.asgi_wasm):
            httpx.get(f"http://127.0.0.1:{host.ports['functions']}/")
            logged.append([line.text for line in settle(host)])
    # Envoy configures each plugin several times: on the main thread, and for each worker.
    count = sum(line.startswith("configure") for line in logged[1])
    theirs = [line for line in logged[0] if line.startswith("configure")]
    assert theirs == [line for line in logged[1] if line.startswith("configure")] * (len(theirs) // count)
    assert [line for line in logged[0] if not line.startswith("configure")] == logged[1][count:]
