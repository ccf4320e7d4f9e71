"""Where asgi-wasm differs from the real Envoy, with the reason: the whole list. `ENVOY.md`'s table is made from it.

A case that an entry covers must differ in just the fields that the entry names; any other case must not differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.conformance.cases import APP_FIELDS
from tests.conformance.cases_plugins import DEFAULTS, H11
from tests.conformance.runner import Compared


@dataclass(frozen=True)
class Cover:
    """Cases, as patterns of their ids separated by spaces, and the fields in which they differ.

    ``as_here`` makes of Envoy's value what it must be here; without it any other value will do. ``chance``: they may
    also be equal, by when bytes arrive.
    """

    cases: str
    fields: str
    as_here: Callable[[Any], Any] | None = None
    chance: bool = False


@dataclass(frozen=True)
class Difference:
    """One row of `ENVOY.md`'s table."""

    what: str
    envoy: str
    here: str
    why: str
    covers: tuple[Cover, ...]
    # The test of `test_plugins` that shows it, where no case can.
    test: str = ""


def _headers(change: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]) -> Callable[[Any], Any]:
    return lambda messages: [change(headers) for headers in messages]


def _without(*dropped: tuple[str, str]) -> Callable[[Any], Any]:
    return _headers(lambda headers: [header for header in headers if header not in dropped])


def _with_value(name: str, old: str, new: str) -> Callable[[Any], Any]:
    """Headers in which one value, and what the plugin `headers` copies of it, is another one."""
    names = (name, "x-seen-path" if name == "path" else "x-seen-authority")

    def change(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(key, new if key in names and value == old else value) for key, value in headers]

    return _headers(change)


def _with_space(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, "a  b \t " if name == "x-space" else value) for name, value in headers]


def _with_sum(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    at = headers.index(("trailer", "x-sum")) + 1
    counted = [(name, str(int(value) + 1) if name == "x-seen-count" else value) for name, value in headers]
    return [*counted[:at], ("x-sum", "7"), *counted[at:]]


_APP = " ".join(f"app.{name}" for name in APP_FIELDS)
_HTTPTOOLS = " ".join(chain.name for chain in DEFAULTS)
# Chains whose plugins change the headers of requests, which are then written anew.
_CHANGED = ("headers", "body", "body-buffer", "http-auth")
_UNCHANGED = " ".join(chain.name for chain in DEFAULTS if chain.name not in _CHANGED)
_H11 = " ".join(chain.name for chain in H11)
_EVERY = f"{_HTTPTOOLS} {_H11}"
# Chains whose plugins log their callbacks, write headers into responses, or change bodies.
_LIFECYCLES = "lifecycle-010 lifecycle-020 lifecycle-021"
_LOGGING = f"{_LIFECYCLES} lifecycle-h11 local-reply"
_WRITING = "headers headers-h11 counter root-id"
_BODIES = "body body-buffer body-h11"
_CHANGING = (
    "body-prepend body-replace body-upper body-append two-bodies append-upper upper-append buffer-upper upper-buffer "
    "two-buffers"
)
_PAUSING = "pause-first pause-before-buffer buffer-before-pause auth-then-body"
# Cases whose small body is there when the app is called; others whose response has a length of the app's.
_SMALL = (
    *("post", "put", "patch", "delete-with-body", "get-with-body", "options-with-body", "propfind"),
    *("body-binary", "status-201", "response-early", "keep-alive", "burst-100"),
)
_ANSWERED = (
    *("body-70kB", "body-5MB", "body-chunked", "body-chunked-one", "body-chunked-empty", "body-chunked-70kB"),
    *("body-chunked-with-get", "body-chunked-extension", "body-chunked-trailers", "body-in-two-sends", "body-streamed"),
    *("expect-100", "status-404", "status-500", "status-299", "response-headers", "response-latin-1", "response-type"),
    *("response-70kB", "response-5MB", "pipelined"),
)
# Plugins that export a callback for response bodies, and do not change the content-length before; SDKs export it.
_HOLDING = f"headers headers-h11 counter queue root-id trailers http-auth fault-rust fault-go {_LOGGING}"
_HOLDING += " fault-assemblyscript"


def _each(chains: str, *names: str) -> str:
    return " ".join(f"{chain}/{name}" for chain in chains.split() for name in names)


_NO_LENGTH = _without(("content-length", "0"))

DIFFERENCES = [
    Difference(
        "An app that raises before it answers",
        "plugins see the 500 that the app's server sends",
        "the server's 500 passes no plugin; they get `on_log`, `on_done`, `on_delete`",
        "The server, or the framework's outermost layer, answers outside of every middleware.",
        (
            Cover(_each("headers counter root-id", "raise-before"), "client.headers"),
            Cover(_each("headers-h11", "raise-before"), "client.headers client.framing"),
            Cover(_each("body body-buffer", "raise-before"), "client.headers client.framing client.body"),
            Cover(_each("body-h11", "raise-before"), "client.body"),
            Cover(_each(f"{_LIFECYCLES} local-reply", "raise-before"), "log"),
            Cover(_each("lifecycle-h11", "raise-before"), "log client.headers client.framing"),
        ),
    ),
    Difference(
        "The head of a response with a content-length, when a plugin has a callback for response bodies",
        "sent at once",
        "held until the first verdict on the body",
        "So the content-length can be made true, and a local reply or a 503 to the body still reaches the client.",
        (
            Cover(_each(f"{_HOLDING} {_BODIES}", "gated-length"), "client.notes"),
            Cover(
                _each("reply-response-body", "post", "post-70kB", "post-chunked", "response-body"),
                "client.status client.headers client.body client.cut log",
            ),
            Cover(_each("reply-response-body", "grpc"), "client.headers client.cut"),
            Cover(
                _each("reply-response-body", "then-another"),
                f"client.status client.headers client.body client.framing client.cut log {_APP}",
            ),
            Cover(
                "trap-response-body-fail-closed/post trap-response-body-fail-reload/post",
                "client.status client.headers client.cut",
            ),
        ),
    ),
    Difference(
        "A content-length that a plugin has made wrong",
        "sent as it is: bodies are cut off, or the app's server answers 400",
        "made true in a response that has not started; the app reads the whole body",
        "A plugin that forgets it should not break the connection.",
        (
            Cover(
                _each("body-append-keep-content-length", "get", "post-chunked")
                + " body-upper-keep-content-length/response-70kB",
                "client.headers client.body",
            ),
            Cover(
                "body-append-keep-content-length/post",
                "client.status client.headers client.body app.headers app.size app.body",
            ),
        ),
    ),
    Difference(
        "A content-length that a plugin took away, where the whole body is known",
        "the body goes on in chunks",
        "it is said again, and true, to the client and to the app",
        "What reads uploads needs it (Django's multipart forms), and so do clients that show how far they are.",
        (
            Cover(_each(_BODIES, *_ANSWERED, *_SMALL, "gated-length"), "client.headers client.framing"),
            Cover(_each(_BODIES, *_SMALL, "head-with-body"), "app.headers"),
            # A body of 70 kB is more than a server reads at once, as a rule.
            Cover(_each(_BODIES, "body-70kB"), "app.headers", chance=True),
            Cover(_each("body body-buffer", "http-1.0"), "client.headers"),
            Cover("body-h11/http-1.0", "client.headers client.framing"),
            Cover(
                _each(_CHANGING, "get", "post", "post-70kB", "post-chunked", "post-streamed", "response-70kB")
                + " "
                + _each(_CHANGING, "then-another"),
                "client.headers client.framing",
            ),
            Cover(_each(_CHANGING, "post", "then-another"), "app.headers"),
            Cover(_each(_CHANGING, "post-70kB"), "app.headers", chance=True),
            Cover(
                _each("body-limit", "under", "request-over", "request-over-chunked", "response-over", "still-serving"),
                "client.headers client.framing",
            ),
            Cover(
                _each("fault-last", "get", "post", "post-70kB", "post-chunked", "status-204", "then-another")
                + " "
                + _each("fault-last", "response-body", "response-empty", "response-chunked"),
                "client.headers client.framing",
            ),
            Cover(
                _each(_PAUSING, "post", "post-70kB", "post-chunked")
                + " "
                + _each("pause-first pause-before-buffer buffer-before-pause", "post-chunked-empty")
                + " pause-first/post-5MB auth-then-body/post-5MB "
                + _each("buffer-before-pause", "reply", "reply-to-post", "reply-to-70kB", "reply-then-another"),
                "client.headers client.framing",
            ),
            Cover(_each(_PAUSING, "post"), "app.headers"),
            Cover(_each(_PAUSING, "post-70kB"), "app.headers", chance=True),
        ),
    ),
    Difference(
        "Requests after a trap",
        "`fail_closed`: 503 until a restart; `fail_open`: without the plugin until a restart",
        "get a fresh VM at once, but for one that goes on failing",
        "One bad request should not take the plugin, or the worker, away from all others.",
        (
            Cover("panic-fail-closed/*", f"client.status log {_APP}"),
            Cover("panic-fail-open/*", "log app.headers"),
        ),
    ),
    Difference(
        "A plugin with `fail_open` that refuses its configuration",
        "Envoy does not start",
        "the server starts, and the plugin is passed by",
        "`fail_open` says that the plugin can be done without.",
        (),
        test="test_fail_open_lets_a_server_start_only_here",
    ),
    Difference(
        "When request-body callbacks run",
        "as the body arrives",
        "as the app reads it, and not when it does not; what is there already, before the app is called",
        "ASGI apps pull. A body that nobody reads harms nobody, and nothing has to be held meanwhile.",
        (Cover(_each(_LOGGING, "echo"), "log"),),
    ),
    Difference(
        "Where an HTTP/1 body ends",
        "in an empty last piece",
        "in the last piece, when it is known to be that",
        "ASGI servers say so; it spares a callback.",
        (Cover("pieces/post", "log"),),
    ),
    Difference(
        "A body that comes in one piece, to a plugin that buffers",
        "held for the empty last piece, so the limit applies",
        "shown to the plugin at once: nothing is held, so no limit applies",
        "The limit bounds what the host holds, and the piece is in memory already.",
        (Cover("body-limit/response-over", "client.body client.cut"),),
    ),
    Difference(
        "`transfer-encoding` of a response",
        "in the header map when the app's server made chunks",
        "not there",
        "The server frames the response after the plugins.",
        (Cover("codec/chunked", "log"),),
    ),
    Difference(
        "`x-forwarded-proto`",
        "added to a request that has none",
        "not added",
        "It is for a proxy to say; here `:scheme` says it.",
        (Cover("no-scheme-header/get", "log app.headers"),),
    ),
    Difference(
        "`:scheme` that a plugin changes",
        "not carried by HTTP/1 to the app",
        'the app\'s `scope["scheme"]`',
        "An ASGI scope can carry it.",
        (Cover(_each("headers-scheme", "get", "post"), "app.scheme"),),
    ),
    Difference(
        "`content-length: 0` for the app of a request without a body",
        "added for methods that usually have one, and for OPTIONS",
        "as the client, or the plugin, left it",
        "ASGI tells the end of a body otherwise.",
        (
            Cover(_each(_EVERY, "options", "purge"), "app.headers", _NO_LENGTH),
            Cover("headers-method/get", "app.headers", _NO_LENGTH),
        ),
    ),
    Difference(
        "`/path?` with nothing after the question mark",
        "the plugin sees `/path?`",
        "the plugin sees `/path`",
        "An ASGI scope does not tell the two apart.",
        (
            Cover(_each("headers headers-h11", "query-empty"), "app.headers", _with_value("path", "/path?", "/path")),
            Cover("queue/query-empty", "log"),
        ),
    ),
    Difference(
        "A target that is a whole URL (`GET http://other.test/path`)",
        "its host is the `:authority`",
        "the Host header is; with h11 the URL is the `:path`",
        "uvicorn hands it on so.",
        (
            Cover(_each(_HTTPTOOLS, "absolute-form"), "app.headers", _with_value("host", "other.test", "case.test")),
            Cover(_each(_H11, "absolute-form"), "app.headers app.path app.decoded_path"),
        ),
    ),
    Difference(
        "`OPTIONS *`",
        "answered 404 before its plugins",
        "like any request",
        "ASGI apps may answer it.",
        (
            Cover(_each(_EVERY, "options-star"), f"client.status {_APP}"),
            Cover(_each(_WRITING, "options-star"), "client.headers"),
            Cover(_each(f"{_LOGGING} queue http-auth", "options-star"), "log"),
        ),
    ),
    Difference(
        "White space after a header's value",
        "left out",
        "kept with httptools, unless a plugin changes a header; left out with h11",
        "uvicorn hands it on so.",
        (Cover(_each(_UNCHANGED, "headers-white-space"), "app.headers", _headers(_with_space)),),
    ),
    Difference(
        "The content-length of a local response with status 204 or 304 that has a body",
        "sent, without the body",
        "left out, like the body",
        "A 204 must not have one (RFC 9110 8.6), and servers wait for as many bytes.",
        (
            Cover(
                _each(
                    "reply-204",
                    "get",
                    "head",
                    "post",
                    "post-70kB",
                    "post-chunked",
                    "response-body",
                    "response-empty",
                    "response-chunked",
                    "status-204",
                    "then-another",
                ),
                "client.headers",
                _without(("content-length", "8")),
            ),
        ),
    ),
    Difference(
        "Trailers of a request",
        "left out",
        "among the headers, with httptools, when they come with them",
        "uvicorn hands them on so.",
        (
            Cover(_each(_HTTPTOOLS, "body-chunked-trailers"), "app.headers", _headers(_with_sum)),
            Cover(_each(_LIFECYCLES, "body-chunked-trailers"), "log"),
        ),
    ),
    Difference(
        "A body of unknown length for an HTTP/1.0 client",
        "ended by closing the connection",
        "in chunks, with httptools",
        "uvicorn frames it so.",
        (Cover(_each("body body-buffer", "http-1.0"), "client.framing"),),
    ),
]


def covering(case_id: str) -> Iterator[Cover]:
    """The entries for a case."""
    for difference in DIFFERENCES:
        for cover in difference.covers:
            if any(fnmatchcase(case_id, pattern) for pattern in cover.cases.split()):
                yield cover


def unexplained(case_id: str, compared: Compared) -> list[str]:
    """The fields of a case that are not as they must be: different and not listed, or listed and not different."""
    covers: dict[str, Cover] = {field: cover for cover in covering(case_id) for field in cover.fields.split()}
    return [
        field
        for field in compared.envoy
        if not _as_listed(compared.envoy[field], compared.asgi_wasm[field], covers.get(field))
    ]


def _as_listed(envoy: Any, here: Any, cover: Cover | None) -> bool:
    if cover is None:
        return bool(envoy == here)
    if cover.chance and envoy == here:
        return True
    return bool(envoy != here and (cover.as_here is None or cover.as_here(envoy) == here))
