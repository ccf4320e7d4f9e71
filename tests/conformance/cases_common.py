"""Requests that every plugin gets: what HTTP allows and what clients do, whatever the plugin is about."""

from __future__ import annotations

from tests.conformance.cases import (
    LAST_CHUNK,
    AwaitBody,
    AwaitCall,
    Burst,
    Close,
    Continued,
    Ends,
    Receive,
    ReceiveGated,
    Release,
    Requests,
    Send,
    ask,
    chunk,
    chunked,
    head,
    pattern,
    request,
)
from tests.conformance.hops import SCHEME_HEADER

_SMALL = b"a small body"
_MEDIUM, _LARGE = 70_000, 5_000_000

METHODS: Requests = {
    "get": ask("GET", "/"),
    "head": ask("HEAD", "/?size=1234"),
    "options": ask("OPTIONS", "/"),
    "trace": ask("TRACE", "/"),
    "delete": ask("DELETE", "/item"),
    "post": ask("POST", "/item", body=_SMALL),
    "put": ask("PUT", "/item", body=_SMALL),
    "patch": ask("PATCH", "/item", body=_SMALL),
    "delete-with-body": ask("DELETE", "/item", body=_SMALL),
    "get-with-body": ask("GET", "/item", body=_SMALL),
    "options-with-body": ask("OPTIONS", "/item", body=_SMALL),
    "head-with-body": ask("HEAD", "/item", body=_SMALL),
    "propfind": ask("PROPFIND", "/folder", body=b"<propfind/>"),
    "purge": ask("PURGE", "/item"),
    "options-star": ask("OPTIONS", "*"),
}

TARGETS: Requests = {
    "query": ask("GET", "/path?a=1&b=2&a=3"),
    "query-empty": ask("GET", "/path?"),
    "query-no-value": ask("GET", "/path?a&b=&=c"),
    "query-question-mark": ask("GET", "/path?a=?&b=/"),
    "query-escapes": ask("GET", "/path?a=%20+%3D%26&b=%E2%82%AC"),
    "query-bad-escape": ask("GET", "/path?a=%&b=%zz"),
    "query-semicolon": ask("GET", "/path?a=1;b=2"),
    "path-escapes": ask("GET", "/a%20b/%E2%82%AC"),
    "path-escaped-letters": ask("GET", "/%61%62c"),
    "path-escaped-slash": ask("GET", "/a%2Fb%2fc"),
    "path-escaped-backslash": ask("GET", "/a%5Cb"),
    "path-escaped-question-mark": ask("GET", "/a%3Fb=c"),
    "path-dots": ask("GET", "/a/./b/../c"),
    "path-dots-above-root": ask("GET", "/../../etc"),
    "path-escaped-dots": ask("GET", "/a/%2e%2E/b"),
    "path-double-slash": ask("GET", "//a///b"),
    "path-parameters": ask("GET", "/a;v=1/b,c@d!$'()*+"),
    "path-bad-escape": ask("GET", "/a%zz%"),
    "path-not-utf8": ask("GET", "/a%ff%fe"),
    "path-long": ask("GET", "/" + "x" * 4000),
    "absolute-form": ask("GET", "http://other.test/path?a=1"),
}

HEADERS: Requests = {
    "headers-none": ask("GET", "/headers"),
    "headers-duplicate": ask("GET", "/headers", [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-a", "1")]),
    "headers-case": ask("GET", "/headers", [("X-Mixed-CASE", "Value"), ("x-mixed-case", "Other")]),
    "headers-cookies": ask("GET", "/headers", [("cookie", "a=1; b=2"), ("accept", "*/*"), ("cookie", "c=3")]),
    "headers-latin-1": ask("GET", "/headers", [("x-latin", b"caf\xe9 \xff\xa0"), ("x-utf-8", "€".encode())]),
    "headers-empty-value": ask("GET", "/headers", [("x-empty", ""), ("x-after", "1")]),
    "headers-white-space": ask("GET", "/headers", [("x-space", "  a  b \t ")]),
    "headers-underscore": ask("GET", "/headers", [("x_under_score", "1")]),
    "headers-long-value": ask("GET", "/headers", [("x-long", "v" * 7000)]),
    "headers-many": ask("GET", "/headers", [(f"x-{number}", str(number)) for number in range(80)]),
    "headers-usual": ask(
        "GET",
        "/headers",
        [
            ("user-agent", "conformance/1.0"),
            ("accept", "text/html,*/*;q=0.8"),
            ("accept-encoding", "gzip, br"),
            ("referer", "http://case.test/from"),
            ("authorization", "Bearer abc.def"),
            ("x-forwarded-for", "192.0.2.7, 198.51.100.1"),
            ("x-request-id", "b5e6bd7a"),
            ("if-none-match", '"etag"'),
            ("range", "bytes=0-10"),
        ],
    ),
    "headers-hop": ask(
        "GET",
        "/headers",
        [("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive"), ("te", "trailers"), ("x-after", "1")],
    ),
    "host-last": (
        Send(head("GET", "/headers", before=[("x-first", "1"), SCHEME_HEADER, ("Host", "last.test")])),
        Receive(),
    ),
    "host-port": (
        Send(head("GET", "/headers", before=[("Host", "Case.Test:8080"), SCHEME_HEADER])),
        Receive(),
    ),
}

BODIES: Requests = {
    "body-length-0": ask("POST", "/body", body=b""),
    "body-70kB": ask("POST", "/body", body=pattern(_MEDIUM)),
    "body-5MB": ask("POST", "/body?body=got", body=pattern(_LARGE)),
    "body-binary": ask("POST", "/body", body=bytes(range(256))),
    "body-chunked": (Send(chunked("POST", "/body", [b"one", b"two", b"three"])), Receive("POST")),
    "body-chunked-one": (Send(chunked("POST", "/body", [_SMALL])), Receive("POST")),
    "body-chunked-empty": (Send(chunked("POST", "/body", [])), Receive("POST")),
    "body-chunked-70kB": (Send(chunked("PUT", "/body", [pattern(7000)] * 10)), Receive("PUT")),
    "body-chunked-with-get": (Send(chunked("GET", "/body", [_SMALL])), Receive("GET")),
    "body-chunked-extension": (
        Send(head("POST", "/body", [("transfer-encoding", "chunked")]) + b"3;a=b\r\nabc\r\n" + LAST_CHUNK),
        Receive("POST"),
    ),
    "body-chunked-trailers": (
        Send(
            head("POST", "/body", [("transfer-encoding", "chunked"), ("trailer", "x-sum")])
            + chunk(b"abc")
            + b"0\r\nx-sum: 7\r\n\r\n"
        ),
        Receive("POST"),
    ),
    "body-in-two-sends": (
        Send(head("POST", "/body", [("content-length", "10")]) + b"01234"),
        AwaitBody(5),
        Send(b"56789"),
        Receive("POST"),
    ),
    "body-streamed": (
        Send(head("POST", "/body", [("transfer-encoding", "chunked")]) + chunk(b"first")),
        AwaitBody(5),
        Send(chunk(b"second")),
        AwaitBody(11),
        Send(LAST_CHUNK),
        Receive("POST"),
    ),
    "expect-100": (
        Send(head("POST", "/body", [("expect", "100-continue"), ("content-length", str(len(_SMALL)))])),
        Continued(),
        Send(_SMALL),
        Receive("POST"),
    ),
}

RESPONSES: Requests = {
    "status-201": ask("POST", "/?status=201&header=location:/item/1", body=_SMALL),
    "status-204": ask("GET", "/?status=204"),
    "status-304": ask("GET", '/?status=304&header=etag:"1"'),
    "status-404": ask("GET", "/?status=404&body=missing"),
    "status-500": ask("GET", "/?status=500&body=broken"),
    "status-302": ask("GET", "/?status=302&header=location:https://case.test/%3Fa&body="),
    "status-299": ask("GET", "/?status=299&body=odd"),
    "response-headers": ask(
        "GET", "/?header=set-cookie:a=1&header=X-Mixed:1&header=set-cookie:b=2&header=x-mixed:2&body=cookies"
    ),
    "response-latin-1": ask("GET", "/?header=x-latin:caf%E9%FF&body=%E9"),
    "response-type": ask("GET", "/?header=content-type:text/html;%20charset%3Dutf-8&body=<p>"),
    "response-empty": ask("GET", "/?body="),
    "response-70kB": ask("GET", f"/?size={_MEDIUM}"),
    "response-5MB": ask("GET", f"/?size={_LARGE}"),
    "response-chunked": ask("GET", "/?size=3000&chunks=3"),
    "response-chunked-5MB": ask("GET", f"/?size={_LARGE}&chunks=50"),
    "response-chunked-empty": ask("GET", "/?size=0&chunks=1"),
    "response-chunked-head": ask("HEAD", "/?size=3000&chunks=3"),
    "response-204-chunked": ask("GET", "/?status=204&size=0&chunks=1"),
    "response-early": ask("POST", "/?early&body=early", body=_SMALL),
    "raise-before": ask("GET", "/?raise=before"),
    "raise-after": (Send(request("GET", "/?raise=after")), Receive(), Ends()),
}

STREAMS: Requests = {
    "events": (
        Send(request("GET", "/events?size=30&chunks=3&gated&header=content-type:text/event-stream")),
        ReceiveGated(3),
    ),
    "gated-length": (Send(request("GET", "/?size=30&gated")), ReceiveGated(0)),
    "echo": (
        Send(head("POST", "/?echo", [("transfer-encoding", "chunked")]) + chunk(b"ping") + chunk(b"pong") + LAST_CHUNK),
        Receive("POST"),
    ),
    "client-leaves-stream": (
        Send(request("GET", "/?size=3000&chunks=3&gated")),
        AwaitCall(),
        Release(),
        Close(),
    ),
    "client-leaves-before-answer": (Send(request("GET", "/?body=late&hold")), AwaitCall(), Close()),
    "client-leaves-in-body": (
        Send(head("POST", "/body", [("content-length", "1000")]) + b"some"),
        AwaitBody(4),
        Close(),
    ),
}

CONNECTIONS: Requests = {
    "keep-alive": (*ask("GET", "/1"), *ask("POST", "/2", body=_SMALL), *ask("HEAD", "/3"), *ask("GET", "/4")),
    "pipelined": (Send(request("GET", "/1?body=1") + request("GET", "/2?body=2")), Receive(), Receive()),
    "connection-close": (*ask("GET", "/", [("connection", "close")]), Ends()),
    "http-1.0": (Send(head("GET", "/?body=old").replace(b"HTTP/1.1", b"HTTP/1.0")), Receive(), Ends()),
}

CONCURRENT: Requests = {
    "burst-100": (Burst(request("POST", "/burst?body=answer", body=_SMALL), 100),),
}

#: By what they show.
EVERY: dict[str, Requests] = {
    "request heads": {**METHODS, **TARGETS, **HEADERS},
    "request bodies": BODIES,
    "responses": RESPONSES,
    "streams, leaving clients": STREAMS,
    "connections": {**CONNECTIONS, **CONCURRENT},
}
