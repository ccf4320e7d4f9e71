"""Whether what a phase made of its input is what a plugin test expects, in the format of Google's tester."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from asgi_wasm.logs import escape
from asgi_wasm.testing.suites.stage import PhaseResult

# gRPC has no status here.
_NO_GRPC_STATUS = 0xFFFF_FFFF


def failures(
    expected: Any, result: PhaseResult, read: Callable[[str], bytes], *, is_phase: bool = True
) -> Iterator[str]:
    """What is otherwise than ``expected``, an ``Expectation``; ``read`` gives a file that it names.

    Only what was logged is looked at unless ``is_phase``. Raises what ``read`` raises.
    """
    for matcher in expected.log:
        yield from _mismatch("log", matcher, result.logs, read)
    if not is_phase:
        return
    headers = _joined(result.headers)
    yield from _of_headers(expected, headers)
    for matcher in expected.headers:
        yield from _mismatch("header", matcher, [name + b": " + value for name, value in headers.items()], read)
    for matcher in expected.body:
        yield from _mismatch("body", matcher, [result.body], read)
    yield from _of_immediate(expected, result)


def _joined(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """By name in lower case; values of a repeated one are joined by commas."""
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = headers[key] + b", " + value if key in headers else value
    return headers


def _of_headers(expected: Any, headers: dict[bytes, bytes]) -> Iterator[str]:
    for header in expected.has_header:
        found = headers.get(header.key.lower().encode())
        if found is None:
            yield f"missing header {header.key!r}"
        elif found != header.value:
            yield f"header {header.key!r} is {shown(found)}, expected {shown(header.value)}"
    for header in expected.no_header:
        found = headers.get(header.key.lower().encode())
        if found is not None:
            yield f"header {header.key!r} is {shown(found)}, expected none"


def _of_immediate(expected: Any, result: PhaseResult) -> Iterator[str]:
    found = result.immediate
    if expected.HasField("immediate") != (found is not None):
        yield "expected an immediate response" if found is None else "expected no immediate response"
    if found is None:
        return
    got = {
        "http_status": found.status_code,
        "grpc_status": _NO_GRPC_STATUS if found.grpc_status is None else found.grpc_status,
        "details": found.details.decode("utf-8", "replace"),
    }
    for name, value in got.items():
        wanted = getattr(expected.immediate, name)
        if expected.immediate.HasField(name) and wanted != value:
            yield f"{name} is {value!r}, expected {wanted!r}"


def _mismatch(what: str, matcher: Any, texts: Sequence[bytes], read: Callable[[str], bytes]) -> Iterator[str]:
    if matcher.HasField("regex"):
        try:
            pattern = re.compile(matcher.regex.encode())
        except re.error as error:
            yield f"bad regex {matcher.regex!r}: {error}"
            return
        is_there, words = any(pattern.fullmatch(text) for text in texts), f"regex {matcher.regex!r}"
    elif matcher.HasField("exact") or matcher.HasField("file"):
        exact = matcher.exact if matcher.HasField("exact") else read(matcher.file)
        is_there, words = exact in texts, shown(exact)
    else:
        yield f"a matcher of {what} says neither exact nor regex nor file"
        return
    if is_there == matcher.invert:
        found = ", ".join(map(shown, texts)) or "nothing"
        yield f"{what}: expected {'no ' if matcher.invert else ''}{words}, found {found}"


def shown(text: bytes) -> str:
    """In quotes, on one line."""
    return f"'{escape(text)}'"
