"""Requests for the chains that show what a plugin does, and what plugins answer by themselves."""

from __future__ import annotations

from typing import Any

from tests.conformance.cases import (
    LAST_CHUNK,
    AwaitBody,
    Close,
    Pause,
    Receive,
    ReceiveGated,
    Requests,
    Send,
    ask,
    chunk,
    chunked,
    head,
    pattern,
    request,
)

_KB, _MB = 1000, 1_000_000

SMALL: Requests = {"get": ask("GET", "/"), "post": ask("POST", "/item?a=1", body=b"abc")}

BODIES: Requests = {
    "get": ask("GET", "/?body=plain"),
    "post": ask("POST", "/body", [("x-after", "1")], body=b"abcdefg"),
    "post-empty": ask("POST", "/body", body=b""),
    "post-70kB": ask("POST", "/body", body=pattern(70 * _KB)),
    "post-chunked": (Send(chunked("POST", "/body", [b"abc", b"DEF"])), Receive("POST")),
    "post-streamed": (
        Send(head("POST", "/body", [("transfer-encoding", "chunked")]) + chunk(b"first")),
        AwaitBody(5),
        Send(chunk(b"second") + LAST_CHUNK),
        Receive("POST"),
    ),
    "head": ask("HEAD", "/?size=70"),
    "status-204": ask("GET", "/?status=204"),
    "status-304": ask("GET", "/?status=304"),
    "response-empty": ask("GET", "/?body="),
    "response-70kB": ask("GET", f"/?size={70 * _KB}"),
    "response-chunked": ask("GET", "/?size=3000&chunks=3"),
    "events": (Send(request("GET", "/?size=30&chunks=3&gated")), ReceiveGated(3)),
    "then-another": (*ask("POST", "/1", body=b"one"), *ask("GET", "/2?body=two")),
}

REPLIES: Requests = {
    "get": ask("GET", "/"),
    "head": ask("HEAD", "/?size=10"),
    "post": ask("POST", "/body", body=b"abcdefg"),
    "post-70kB": (Send(request("POST", "/body", body=pattern(70 * _KB))), Receive("POST")),
    "post-chunked": (Send(chunked("POST", "/body", [b"abc", b"def"])), Receive("POST")),
    "response-body": ask("GET", "/?body=plain&header=x-app:1"),
    "response-empty": ask("GET", "/?body=&header=x-app:1"),
    "response-chunked": ask("GET", "/?size=300&chunks=3"),
    "status-204": ask("GET", "/?status=204"),
    "grpc": ask("POST", "/service/Method", [("content-type", "application/grpc"), ("te", "trailers")], b"\0\0\0\0\0"),
    "then-another": (*ask("GET", "/?body=1"), *ask("GET", "/?body=2")),
}

REPLY_CONFS: dict[str, dict[str, Any]] = {
    "plain": {"http_status": 403, "body": "denied", "headers": {"x-why": "policy"}},
    "no-body": {"http_status": 401},
    "typed": {"body": "{}", "headers": {"Content-Type": "application/json", "x-a": "1", "server": "plugin"}},
    "length": {"body": "12345", "headers": {"content-length": "3"}},
    "redirect": {"http_status": 302, "headers": {"location": "/elsewhere"}},
    "204": {"http_status": 204, "body": "ignored?"},
    "304": {"http_status": 304, "headers": {"etag": '"1"'}},
    "599": {"http_status": 599, "body": "odd"},
    "grpc-status": {"http_status": 403, "body": "dénied 100%", "grpc_status": 9, "details": "some details"},
}

# What they get is in `upstream`.
_USERS = ("good", "empty", "large", "bad", "broken", "cut", "head-cut", "body-cut", "no-http")
AUTH: Requests = {
    **{user: ask("GET", "/auth", [("x-user", user)]) for user in _USERS},
    "nobody": ask("GET", "/auth"),
    "post": ask("POST", "/auth", [("x-user", "good")], b"a body that waits"),
    "post-70kB": ask("POST", "/auth", [("x-user", "good")], pattern(70 * _KB)),
    "post-5MB": ask("POST", "/auth?body=got", [("x-user", "slow")], pattern(5 * _MB)),
    "post-chunked": (Send(chunked("POST", "/auth", [b"abc", b"def"], [("x-user", "good")])), Receive("POST")),
    "post-denied": ask("POST", "/auth", [("x-user", "bad")], b"a body that nobody gets"),
    "slow": ask("GET", "/auth", [("x-user", "slow")]),
    "head": ask("HEAD", "/auth", [("x-user", "good")]),
    "client-leaves": (Send(request("GET", "/auth", [("x-user", "slow")])), Close()),
}

PAUSES: Requests = {
    "get": ask("GET", "/", [("x-lifecycle", "pause")]),
    "post": ask("POST", "/", [("x-lifecycle", "pause")], b"abc"),
    "post-70kB": ask("POST", "/", [("x-lifecycle", "pause")], pattern(70 * _KB)),
    "post-5MB": ask("POST", "/?body=got", [("x-lifecycle", "pause")], pattern(5 * _MB)),
    "post-chunked": (Send(chunked("POST", "/", [b"abc", b"def"], [("x-lifecycle", "pause")])), Receive("POST")),
    "post-chunked-empty": (Send(chunked("POST", "/", [], [("x-lifecycle", "pause")])), Receive("POST")),
    "head": ask("HEAD", "/", [("x-lifecycle", "pause")]),
    "reply": ask("GET", "/", [("x-lifecycle", "reply")]),
    "reply-to-post": ask("POST", "/", [("x-lifecycle", "reply")], b"abc"),
    "reply-to-70kB": ask("POST", "/", [("x-lifecycle", "reply")], pattern(70 * _KB)),
    "reply-then-another": (*ask("GET", "/1", [("x-lifecycle", "reply")]), *ask("GET", "/2")),
}

# Without the body that takes longer than the pause's tick.
QUICK_PAUSES = {name: steps for name, steps in PAUSES.items() if name != "post-5MB"}

LIMIT = 20_000
LIMITS: Requests = {
    "under": ask("POST", "/", body=pattern(10_000)),
    # In two pieces: nothing is held of a body that comes in one.
    "request-over": (
        Send(head("POST", "/", [("content-length", "100000")]) + pattern(10_000)),
        Pause(),
        Send(pattern(90_000)),
        Receive("POST"),
    ),
    "request-over-chunked": (
        Send(head("POST", "/", [("transfer-encoding", "chunked")]) + chunk(pattern(10_000))),
        Pause(),
        Send(chunk(pattern(10_000)) * 9 + LAST_CHUNK),
        Receive("POST"),
    ),
    "response-over": ask("GET", "/?size=100000"),
    "response-over-chunked": ask("GET", "/?size=100000&chunks=10"),
    "still-serving": ask("POST", "/", body=b"abc"),
}
