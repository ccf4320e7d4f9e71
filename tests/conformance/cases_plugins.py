"""The chains, and the cases that are about what each plugin does."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.conformance import cases_common as common
from tests.conformance import trap
from tests.conformance.cases import (
    APP_FIELDS,
    LAST_CHUNK,
    AwaitBody,
    Case,
    Close,
    Pause,
    Receive,
    ReceiveGated,
    Send,
    Step,
    ask,
    chunk,
    chunked,
    head,
    pattern,
    request,
)
from tests.conformance.chains import Chain, PluginEntry

_KB, _MB = 1000, 1_000_000


def _conf(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def entry(file: str, conf: Any = "", **more: Any) -> PluginEntry:
    """A plugin; AssemblyScript ones are registered under their folder's name."""
    folder, _, language = file.partition("/")
    root_id = more.pop("root_id", folder if language == "assemblyscript" else "")
    name = more.pop("name", f"{folder}-{language}")
    return PluginEntry(name, file, _conf(conf), root_id, **more)


def chain(name: str, *plugins: PluginEntry, **more: Any) -> Chain:
    """A chain whose plugins are named after it, so that their logs can be told from other chains'."""
    named = [PluginEntry(**{**vars(plugin), "name": f"{name}.{plugin.name}"}) for plugin in plugins]
    return Chain(name, tuple(named), **more)


_HEADERS = {
    "request": {"remove": ["x-a"], "set": {"x-set": "1"}, "add": {"x-added": "2"}},
    "response": {"remove": ["x-remove"], "set": {"x-set": "3"}, "add": {"set-cookie": "c=4"}},
}
_APPEND = {"direction": "both", "mode": "append", "text": "+"}
_LANGUAGES = ("rust", "go", "assemblyscript", "c")
_ABIS = ("010", "020", "021")


def _lifecycle(abi: str) -> str:
    return "lifecycle/abi_" + "_".join(abi)


#: For every plugin, the chain that gets every request of `cases_common`.
DEFAULTS = [
    chain("headers", entry("headers/rust", _HEADERS)),
    chain("body", entry("body/go", _APPEND)),
    chain("body-buffer", entry("body/go", {"direction": "both", "mode": "buffer"}), limit=8 * _MB),
    chain("local-reply", entry("local_reply/assemblyscript", {"phase": "none"})),
    chain("counter", entry("counter/assemblyscript", "conformance")),
    chain("queue", entry("queue/rust", {})),
    chain("trailers", entry("trailers/c")),
    chain("root-id", entry("root_id/assemblyscript", root_id="first")),
    chain("http-auth", entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 20_000})),
    *(chain(f"lifecycle-{abi}", entry(_lifecycle(abi))) for abi in _ABIS),
    *(chain(f"fault-{language}", entry(f"fault_injection/{language}", {"percentage": 0})) for language in _LANGUAGES),
]

#: uvicorn's other parser.
H11 = [
    chain("headers-h11", entry("headers/rust", _HEADERS), http="h11"),
    chain("body-h11", entry("body/go", _APPEND), http="h11"),
    chain("lifecycle-h11", entry(_lifecycle("021")), http="h11"),
]

_Requests = Mapping[str, Sequence[Step]]

SMALL: _Requests = {"get": ask("GET", "/"), "post": ask("POST", "/item?a=1", body=b"abc")}

BODIES: _Requests = {
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

REPLIES: _Requests = {
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
AUTH: _Requests = {
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

PAUSES: _Requests = {
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

_LIMIT = 20_000
LIMITS: _Requests = {
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


def _replies(phase: str) -> list[Chain]:
    name = phase.replace("_", "-")
    return [chain(f"reply-{name}", entry("local_reply/assemblyscript", {"phase": phase, **REPLY_CONFS["plain"]}))]


_PHASES = ("request_headers", "request_body", "response_headers", "response_body")
_folder = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


def _headers(name: str, **conf: Any) -> Chain:
    return chain(f"headers-{name}", entry("headers/rust", conf))


def _body(mode: str, **more: Any) -> Chain:
    conf = {"direction": "both", "mode": mode, "text": "<text>", **more}
    return chain(f"body-{mode}" + "".join(f"-{key.replace('_', '-')}" for key in more), entry("body/go", conf))


def _set(way: str, **fields: str) -> dict[str, Any]:
    return {way: {"set": {name.replace("_", "-"): value for name, value in fields.items()}}}


_UPPER = entry("body/go", {"mode": "upper"}, name="upper")
_BUFFER = entry("body/go", {"mode": "buffer"}, name="buffer")
_FIRST, _SECOND = (
    entry("headers/rust", {"request": {"add": {"x-order": name}}, "response": {"add": {"x-order": name}}}, name=name)
    for name in ("first", "second")
)
_DENY = entry("local_reply/assemblyscript", {"phase": "request_headers", **REPLY_CONFS["plain"]}, name="deny")
_DENY_BODY = entry("local_reply/assemblyscript", {"phase": "request_body", **REPLY_CONFS["plain"]}, name="deny")
_DENY_RESPONSE = entry("local_reply/assemblyscript", {"phase": "response_headers", **REPLY_CONFS["plain"]}, name="deny")
_LIFECYCLE = entry(_lifecycle("021"), name="lifecycle")

#: Chains and the requests that they get, by what they show.
SPECIAL: dict[str, list[tuple[Chain, _Requests]]] = {
    "header changes": [
        (_headers("path", path="/new%20path?q=1"), SMALL),
        (_headers("method", **_set("request", **{":method": "PUT"})), SMALL),
        (_headers("authority", **_set("request", **{":authority": "new.test:81"})), SMALL),
        (_headers("host", **_set("request", host="new.test")), SMALL),
        (_headers("scheme", **_set("request", **{":scheme": "https"})), SMALL),
        (_headers("status", **_set("response", **{":status": "418"})), BODIES),
        (_headers("case", **_set("request", **{"X-Mixed": "1"})), SMALL),
        (_headers("empty", **_set("request", x_empty="")), SMALL),
        (_headers("type", **_set("response", content_type="text/x-new", server="plugin", date="today")), BODIES),
        (_headers("length", **_set("response", content_length="3")), {"post": SMALL["post"]}),
        (
            _headers("replace-duplicates", **_set("request", x_a="new", cookie="new=1")),
            {name: common.HEADERS[name] for name in ("headers-duplicate", "headers-cookies", "headers-case")},
        ),
        (
            _headers("add-duplicates", request={"add": {"x-a": "new", "cookie": "new=1", "host": "new.test"}}),
            {name: common.HEADERS[name] for name in ("headers-duplicate", "headers-cookies")},
        ),
    ],
    "body changes": [
        *((_body(mode), BODIES) for mode in ("prepend", "replace", "upper", "append")),
        (_body("append", keep_content_length=True), {name: BODIES[name] for name in ("get", "post", "post-chunked")}),
        (_body("upper", keep_content_length=True), BODIES),
        (
            chain("body-limit", entry("body/go", {"mode": "buffer"}), limit=_LIMIT),
            LIMITS,
        ),
    ],
    "local replies": [
        *((item, REPLIES) for phase in _PHASES for item in _replies(phase)),
        *(
            (chain(f"reply-{name}", entry("local_reply/assemblyscript", conf)), REPLIES)
            for name, conf in REPLY_CONFS.items()
            if name != "plain"
        ),
        *(
            (
                chain(
                    f"fault-{language}-418", entry(f"fault_injection/{language}", {"http_status": 418, "body": "tea"})
                ),
                REPLIES,
            )
            for language in _LANGUAGES
        ),
    ],
    "pauses": [
        *((chain(f"pause-{abi}", entry(_lifecycle(abi))), PAUSES) for abi in _ABIS),
        (chain("pause-bodies", entry(_lifecycle("021"), allow_on_headers_stop_iteration=True)), QUICK_PAUSES),
    ],
    "HTTP calls": [
        (chain("auth", entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 20_000})), AUTH),
        (
            chain("auth-timeout", entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 100})),
            {"slow": AUTH["slow"]},
        ),
        (chain("auth-refused", entry("http_auth/rust", {"upstream": "nowhere"})), SMALL),
        (chain("auth-unknown", entry("http_auth/rust", {"upstream": "unknown"})), SMALL),
    ],
    "shared data, metrics, properties": [
        (
            chain("counting", entry("counter/assemblyscript", "counting")),
            {
                "first": ask("GET", "/path?a=1", [("x-user", "me")]),
                "second": ask("GET", "/path?b=2", [("x-user", "you")]),
                "other": ask("POST", "/other", body=b"abc"),
            },
        ),
    ],
    "configuration": [
        (chain("root-second", entry("root_id/assemblyscript", root_id="second")), SMALL),
    ],
    "traps": [
        # Rust's SDK panics on a header value that is no UTF-8: once, so it shows what the next request gets.
        *(
            (
                chain(f"panic-{policy}".replace("_", "-"), entry("http_auth/rust", failure_policy=policy)),
                {"then-another": (*ask("GET", "/1", [("x-user", b"\xff")]), *ask("GET", "/2", [("x-user", "good")]))},
            )
            for policy in ("fail_closed", "fail_open", "fail_reload")
        ),
        *(
            (
                chain(
                    f"trap-{phase}-{policy}".replace("_", "-"),
                    entry(str(trap.write(_folder, phase)), name="trap", failure_policy=policy),
                ),
                {"get": ask("GET", "/?body=plain"), "post": ask("POST", "/", body=b"abc")}
                if policy == "fail_open"
                else {"post": ask("POST", "/", body=b"abc")},
            )
            for phase in trap.PHASES
            for policy in ("fail_closed", "fail_open", "fail_reload")
        ),
    ],
    "several plugins": [
        (chain("order", _FIRST, _SECOND), SMALL),
        (chain("two-lifecycles", _LIFECYCLE, entry(_lifecycle("020"), name="other")), QUICK_PAUSES),
        (chain("reply-first", _DENY, _LIFECYCLE), SMALL),
        (chain("reply-second", _FIRST, _LIFECYCLE, _DENY), SMALL),
        (chain("reply-middle", _FIRST, _DENY, _SECOND), REPLIES),
        (chain("reply-middle-body", _FIRST, _DENY_BODY, _LIFECYCLE), REPLIES),
        (chain("reply-middle-response", _FIRST, _DENY_RESPONSE, _LIFECYCLE), REPLIES),
        (
            chain(
                "fault-last",
                _FIRST,
                entry("body/go", _APPEND),
                entry("fault_injection/c", {"http_status": 418, "body": "tea"}),
            ),
            REPLIES,
        ),
        (
            chain("two-bodies", entry("body/go", _APPEND), entry("body/go", {"mode": "append", "text": "x"}, name="x")),
            BODIES,
        ),
        (chain("append-upper", entry("body/go", {"mode": "append", "text": "x"}), _UPPER), BODIES),
        (chain("upper-append", _UPPER, entry("body/go", {"mode": "append", "text": "x"})), BODIES),
        (chain("buffer-upper", _BUFFER, _UPPER), BODIES),
        (chain("upper-buffer", _UPPER, _BUFFER), BODIES),
        (chain("two-buffers", _BUFFER, entry("body/go", {"mode": "buffer"}, name="other")), BODIES),
        (chain("pause-second", _FIRST, _LIFECYCLE), PAUSES),
        (chain("pause-first", _LIFECYCLE, _FIRST, entry("body/go", _APPEND)), PAUSES),
        # Envoy never answers when the second plugin begins to buffer what the first has held beyond the limit.
        (chain("pause-before-buffer", _LIFECYCLE, _BUFFER), QUICK_PAUSES),
        (chain("buffer-before-pause", _BUFFER, _LIFECYCLE), QUICK_PAUSES),
        (
            chain(
                "auth-then-body",
                entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 20_000}),
                entry("body/go", _APPEND),
                entry("local_reply/assemblyscript", {"phase": "none"}),
            ),
            AUTH,
        ),
    ],
    # What the other chains leave out: how a body is cut, and what only Envoy's codec adds.
    "Envoy's framing": [
        (chain("pieces", entry(_lifecycle("021"))), {"post": ask("POST", "/", body=b"abc")}),
        (chain("codec", entry(_lifecycle("021")), level=False), {"chunked": ask("GET", "/?size=30&chunks=3")}),
        (
            chain("no-scheme-header", entry(_lifecycle("021"))),
            {"get": (Send(head("GET", "/", before=[("Host", "case.test")])), Receive())},
        ),
    ],
}


# Whether Envoy's request has reached the app when a plugin ends it in the middle of its body is chance.
_APP = frozenset(f"app.{name}" for name in APP_FIELDS)
_ENDED_IN_BODY = "reply-request-body reply-middle-body body-limit trap-request-body-*"


def _cases(item: Chain, requests: _Requests, shows: str) -> list[Case]:
    ended_in_body = any(fnmatchcase(item.name, pattern) for pattern in _ENDED_IN_BODY.split())
    return [
        Case(
            item.name,
            name,
            steps,
            shows,
            ordered=name not in common.CONCURRENT,
            pieces=item.name == "pieces",
            unsure=_APP if ended_in_body else frozenset(),
            late_ticks=item.name == "pause-bodies",
        )
        for name, steps in requests.items()
    ]


def sdk(plugin: PluginEntry) -> str:
    """The row of `ENVOY.md`'s table that a plugin belongs to; empty for a module that no SDK made."""
    folder, _, language = plugin.file.partition("/")
    if folder == "root_id":
        return "AssemblyScript, older SDK"
    return _SDKS.get(language, "")


_SDKS = {
    "rust": "Rust",
    "go": "Go",
    "assemblyscript": "AssemblyScript",
    "c": "C, ABI 0.2.1",
    "abi_0_1_0": "C, ABI 0.1.0",
    "abi_0_2_0": "C, ABI 0.2.0",
    "abi_0_2_1": "C, ABI 0.2.1",
}

CHAINS = [*DEFAULTS, *H11, *(item for special in SPECIAL.values() for item, _ in special)]
CASES = [
    case
    for shows, requests in common.EVERY.items()
    for item in (*DEFAULTS, *H11)
    for case in _cases(item, requests, shows)
] + [case for shows, special in SPECIAL.items() for item, requests in special for case in _cases(item, requests, shows)]
