"""Where asgi-wasm differs from the real Envoy, with the reason: the whole list. `ENVOY.md`'s table is made from it.

A case that an entry covers must differ in just the fields that the entry names; any other case must not differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from tests.conformance import differences_of_http
from tests.conformance.comparing import Compared
from tests.conformance.difference import (
    ANSWERED,
    APP,
    BODIES,
    CHANGING,
    HOLDING,
    LIFECYCLES,
    LOGGING,
    PAUSING,
    SMALL,
    Cover,
    Difference,
    each,
)

DIFFERENCES = [
    Difference(
        "An app that raises before it answers",
        "plugins see the 500 that the app's server sends",
        "the server's 500 passes no plugin; they get `on_log`, `on_done`, `on_delete`",
        "The server, or the framework's outermost layer, answers outside of every middleware.",
        (
            Cover(each("headers counter root-id", "raise-before"), "client.headers"),
            Cover(each("headers-h11", "raise-before"), "client.headers client.framing"),
            Cover(each("body body-buffer", "raise-before"), "client.headers client.framing client.body"),
            Cover(each("body-h11", "raise-before"), "client.body"),
            Cover(each(f"{LIFECYCLES} local-reply", "raise-before"), "log"),
            Cover(each("lifecycle-h11", "raise-before"), "log client.headers client.framing"),
        ),
    ),
    Difference(
        "The head of a response with a content-length, when a plugin has a callback for response bodies",
        "sent at once",
        "held until the first verdict on the body",
        "So the content-length can be made true, and a local reply or a 503 to the body still reaches the client.",
        (
            Cover(each(f"{HOLDING} {BODIES}", "gated-length"), "client.notes"),
            Cover(
                each("reply-response-body", "post", "post-70kB", "post-chunked", "response-body"),
                "client.status client.headers client.body client.cut log",
            ),
            Cover(each("reply-response-body", "grpc"), "client.headers client.cut"),
            Cover(
                each("reply-response-body", "then-another"),
                f"client.status client.headers client.body client.framing client.cut log {APP}",
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
                each("body-append-keep-content-length", "get", "post-chunked")
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
            Cover(each(BODIES, *ANSWERED, *SMALL, "gated-length"), "client.headers client.framing"),
            Cover(each(BODIES, *SMALL, "head-with-body"), "app.headers"),
            # A body of 70 kB is more than a server reads at once, as a rule.
            Cover(each(BODIES, "body-70kB"), "app.headers", chance=True),
            Cover(each("body body-buffer", "http-1.0"), "client.headers"),
            Cover("body-h11/http-1.0", "client.headers client.framing"),
            Cover(
                each(CHANGING, "get", "post", "post-70kB", "post-chunked", "post-streamed", "response-70kB")
                + " "
                + each(CHANGING, "then-another"),
                "client.headers client.framing",
            ),
            Cover(each(CHANGING, "post", "then-another"), "app.headers"),
            Cover(each(CHANGING, "post-70kB"), "app.headers", chance=True),
            Cover(
                each("body-limit", "under", "request-over", "request-over-chunked", "response-over", "still-serving"),
                "client.headers client.framing",
            ),
            Cover(
                each("fault-last", "get", "post", "post-70kB", "post-chunked", "status-204", "then-another")
                + " "
                + each("fault-last", "response-body", "response-empty", "response-chunked"),
                "client.headers client.framing",
            ),
            Cover(
                each(PAUSING, "post", "post-70kB", "post-chunked")
                + " "
                + each("pause-first pause-before-buffer buffer-before-pause", "post-chunked-empty")
                + " pause-first/post-5MB auth-then-body/post-5MB "
                + each("buffer-before-pause", "reply", "reply-to-post", "reply-to-70kB", "reply-then-another"),
                "client.headers client.framing",
            ),
            Cover(each(PAUSING, "post"), "app.headers"),
            Cover(each(PAUSING, "post-70kB"), "app.headers", chance=True),
        ),
    ),
    Difference(
        "Requests after a trap",
        "`fail_closed`: 503 until a restart; `fail_open`: without the plugin until a restart",
        "get a fresh VM at once, but for one that goes on failing",
        "One bad request should not take the plugin, or the worker, away from all others.",
        (
            Cover("panic-fail-closed/*", f"client.status log {APP}"),
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
        (Cover(each(LOGGING, "echo"), "log"),),
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
    *differences_of_http.DIFFERENCES,
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
