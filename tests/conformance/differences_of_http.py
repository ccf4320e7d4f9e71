"""Where HTTP differs, as ASGI and its servers have it."""

from __future__ import annotations

from tests.conformance.difference import (
    APP,
    EVERY,
    LIFECYCLES,
    LOGGING,
    NO_LENGTH,
    ON_H11,
    ON_HTTPTOOLS,
    UNCHANGED,
    WRITING,
    Cover,
    Difference,
    each,
    headers_as,
    with_space,
    with_sum,
    with_value,
    without,
)

DIFFERENCES = [
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
        (Cover(each("headers-scheme", "get", "post"), "app.scheme"),),
    ),
    Difference(
        "`content-length: 0` for the app of a request without a body",
        "added for methods that usually have one, and for OPTIONS",
        "as the client, or the plugin, left it",
        "ASGI tells the end of a body otherwise.",
        (
            Cover(each(EVERY, "options", "purge"), "app.headers", NO_LENGTH),
            Cover("headers-method/get", "app.headers", NO_LENGTH),
        ),
    ),
    Difference(
        "`/path?` with nothing after the question mark",
        "the plugin sees `/path?`",
        "the plugin sees `/path`",
        "An ASGI scope does not tell the two apart.",
        (
            Cover(each("headers headers-h11", "query-empty"), "app.headers", with_value("path", "/path?", "/path")),
            Cover("queue/query-empty", "log"),
        ),
    ),
    Difference(
        "A target that is a whole URL (`GET http://other.test/path`)",
        "its host is the `:authority`",
        "the Host header is; with h11 the URL is the `:path`",
        "uvicorn hands it on so.",
        (
            Cover(each(ON_HTTPTOOLS, "absolute-form"), "app.headers", with_value("host", "other.test", "case.test")),
            Cover(each(ON_H11, "absolute-form"), "app.headers app.path app.decoded_path"),
        ),
    ),
    Difference(
        "`OPTIONS *`",
        "answered 404 before its plugins",
        "like any request",
        "ASGI apps may answer it.",
        (
            Cover(each(EVERY, "options-star"), f"client.status {APP}"),
            Cover(each(WRITING, "options-star"), "client.headers"),
            Cover(each(f"{LOGGING} queue http-auth", "options-star"), "log"),
        ),
    ),
    Difference(
        "White space after a header's value",
        "left out",
        "kept with httptools, unless a plugin changes a header; left out with h11",
        "uvicorn hands it on so.",
        (Cover(each(UNCHANGED, "headers-white-space"), "app.headers", headers_as(with_space)),),
    ),
    Difference(
        "The content-length of a local response with status 204 or 304 that has a body",
        "sent, without the body",
        "left out, like the body",
        "A 204 must not have one (RFC 9110 8.6), and servers wait for as many bytes.",
        (
            Cover(
                each(
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
                without(("content-length", "8")),
            ),
        ),
    ),
    Difference(
        "Trailers of a request",
        "left out",
        "among the headers, with httptools, when they come with them",
        "uvicorn hands them on so.",
        (
            Cover(each(ON_HTTPTOOLS, "body-chunked-trailers"), "app.headers", headers_as(with_sum)),
            Cover(each(LIFECYCLES, "body-chunked-trailers"), "log"),
        ),
    ),
    Difference(
        "A body of unknown length for an HTTP/1.0 client",
        "ended by closing the connection",
        "in chunks, with httptools",
        "uvicorn frames it so.",
        (Cover(each("body body-buffer", "http-1.0"), "client.framing"),),
    ),
]
