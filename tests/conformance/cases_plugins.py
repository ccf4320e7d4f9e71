"""The cases that are about what each plugin does, and all chains."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.conformance import cases_common as common
from tests.conformance import trap
from tests.conformance.cases import (
    APP_FIELDS,
    Case,
    Receive,
    Requests,
    Send,
    ask,
    head,
)
from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.plugin_chains import ABIS, APPEND, DEFAULTS, H11, LANGUAGES, chain, entry, lifecycle
from tests.conformance.plugin_requests import (
    AUTH,
    BODIES,
    LIMIT,
    LIMITS,
    PAUSES,
    QUICK_PAUSES,
    REPLIES,
    REPLY_CONFS,
    SMALL,
)


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
_LIFECYCLE = entry(lifecycle("021"), name="lifecycle")

#: Chains and the requests that they get, by what they show.
SPECIAL: dict[str, list[tuple[Chain, Requests]]] = {
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
            chain("body-limit", entry("body/go", {"mode": "buffer"}), limit=LIMIT),
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
            for language in LANGUAGES
        ),
    ],
    "pauses": [
        *((chain(f"pause-{abi}", entry(lifecycle(abi))), PAUSES) for abi in ABIS),
        (chain("pause-bodies", entry(lifecycle("021"), allow_on_headers_stop_iteration=True)), QUICK_PAUSES),
    ],
    "HTTP calls": [
        (chain("auth", entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 20_000})), AUTH),
        (
            chain("auth-timeout", entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 100})),
            {"slow": ask("GET", "/auth", [("x-user", "never")])},
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
        (chain("two-lifecycles", _LIFECYCLE, entry(lifecycle("020"), name="other")), QUICK_PAUSES),
        (chain("reply-first", _DENY, _LIFECYCLE), SMALL),
        (chain("reply-second", _FIRST, _LIFECYCLE, _DENY), SMALL),
        (chain("reply-middle", _FIRST, _DENY, _SECOND), REPLIES),
        (chain("reply-middle-body", _FIRST, _DENY_BODY, _LIFECYCLE), REPLIES),
        (chain("reply-middle-response", _FIRST, _DENY_RESPONSE, _LIFECYCLE), REPLIES),
        (
            chain(
                "fault-last",
                _FIRST,
                entry("body/go", APPEND),
                entry("fault_injection/c", {"http_status": 418, "body": "tea"}),
            ),
            REPLIES,
        ),
        (
            chain("two-bodies", entry("body/go", APPEND), entry("body/go", {"mode": "append", "text": "x"}, name="x")),
            BODIES,
        ),
        (chain("append-upper", entry("body/go", {"mode": "append", "text": "x"}), _UPPER), BODIES),
        (chain("upper-append", _UPPER, entry("body/go", {"mode": "append", "text": "x"})), BODIES),
        (chain("buffer-upper", _BUFFER, _UPPER), BODIES),
        (chain("upper-buffer", _UPPER, _BUFFER), BODIES),
        (chain("two-buffers", _BUFFER, entry("body/go", {"mode": "buffer"}, name="other")), BODIES),
        (chain("pause-second", _FIRST, _LIFECYCLE), PAUSES),
        (chain("pause-first", _LIFECYCLE, _FIRST, entry("body/go", APPEND)), PAUSES),
        # Envoy never answers when the second plugin begins to buffer what the first has held beyond the limit.
        (chain("pause-before-buffer", _LIFECYCLE, _BUFFER), QUICK_PAUSES),
        (chain("buffer-before-pause", _BUFFER, _LIFECYCLE), QUICK_PAUSES),
        (
            chain(
                "auth-then-body",
                entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 20_000}),
                entry("body/go", APPEND),
                entry("local_reply/assemblyscript", {"phase": "none"}),
            ),
            AUTH,
        ),
    ],
    # What the other chains leave out: how a body is cut, and what only Envoy's codec adds.
    "Envoy's framing": [
        (chain("pieces", entry(lifecycle("021"))), {"post": ask("POST", "/", body=b"abc")}),
        (chain("codec", entry(lifecycle("021")), level=False), {"chunked": ask("GET", "/?size=30&chunks=3")}),
        (
            chain("no-scheme-header", entry(lifecycle("021"))),
            {"get": (Send(head("GET", "/", before=[("Host", "case.test")])), Receive())},
        ),
    ],
}


# Whether Envoy's request has reached the app when a plugin ends it in the middle of its body is chance.
_APP = frozenset(f"app.{name}" for name in APP_FIELDS)
_ENDED_IN_BODY = "reply-request-body reply-middle-body body-limit trap-request-body-*"


def _cases(item: Chain, requests: Requests, shows: str) -> list[Case]:
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
