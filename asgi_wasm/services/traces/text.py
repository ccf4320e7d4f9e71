"""Calls as text for people: what was given, what came back, how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from asgi_wasm.host.abi import MapType, ProxyStatus
from asgi_wasm.host.vm.trace import Call, Value
from asgi_wasm.logs import escape

_LONGEST = 80
# Of what a plugin says itself: a panic's message is at its end.
_LONGEST_WORDS = 1000
_OF_STREAMS = (
    MapType.HTTP_REQUEST_HEADERS,
    MapType.HTTP_REQUEST_TRAILERS,
    MapType.HTTP_RESPONSE_HEADERS,
    MapType.HTTP_RESPONSE_TRAILERS,
)
# Envoy's StopAllIterationAndWatermark, of ABI 0.1.0.
_LAST_VERDICT = 4
_OUTPUTS = {1: "stdout", 2: "stderr"}
# Of calls of WASI in a row, which runtimes make by the thousand while they wait.
_MOST_IN_A_ROW = 8
_QUIET = ("malloc", "proxy_on_memory_allocate")
# Parameters that may be negative, and their bits: a counter goes down by -1, and a reply without gRPC has -1.
_SIGNED = {"offset": 64, "grpc_status": 32}
# Their path has NUL between its parts; everybody writes dots.
_OF_PROPERTIES = ("proxy_get_property", "proxy_set_property")


def render(calls: Iterable[Call]) -> str:
    """One line a call, hostcalls below the callback that made them; the allocator is left out."""
    return "\n".join(text for text, _ in lines(calls))


def lines(calls: Iterable[Call]) -> Iterator[tuple[str, Call]]:
    """As `render`, each with its call. What is written to an output piece by piece is told line by line, and of many
    calls of WASI in a row the first ones.
    """
    told = (call for call in calls if call.name not in _QUIET)
    for kind, run in groupby(told, _kind):
        several = [*run]
        first = several[0]
        if isinstance(kind, int):
            text = b"".join(_written(call) for call in several).removesuffix(b"\n")
            for written in text.split(b"\n"):
                yield f"{'  ' * first.depth}{_OUTPUTS[kind]}: {cut(escape(written), _LONGEST_WORDS)}", first
            continue
        most = _MOST_IN_A_ROW if kind == "wasi" else len(several)
        for call in several[:most]:
            yield line(call), call
        if len(several) > most:
            yield f"{'  ' * first.depth}… and {len(several) - most} more calls of WASI", several[-1]


def _kind(call: Call) -> str | int:
    """Which calls may be told as one: those that write to the same output, and WASI's."""
    if call.is_callback or call.name.startswith("proxy_"):
        return ""
    fd = dict(call.arguments).get("fd")
    return fd if fd in _OUTPUTS and "text" in call.given else "wasi"


def _written(call: Call) -> bytes:
    text = call.given["text"]
    return text if isinstance(text, bytes) else b""


def line(call: Call) -> str:
    """``proxy_get_header_map_value(HTTP_REQUEST_HEADERS, key=x-token) = OK value=secret  1.2 µs``"""
    took = f"  {microseconds(call)}" if call.ended else ""
    return f"{'  ' * call.depth}{label(call)}({arguments(call)}){answer(call)}{took}"


def label(call: Call) -> str:
    """Its name without ``proxy_``, with whose it is for a callback."""
    name = call.name.removeprefix("proxy_")
    return f"{call.plugin} #{call.context} {name}" if call.is_callback else name


def arguments(call: Call) -> str:
    """The arguments, with what addresses lead to in their place."""
    if "text" in call.given and not call.name.startswith("proxy_"):
        return f"{call.words.partition(', ')[0]}, text={shown(call.given['text'], _LONGEST_WORDS)}"
    if not call.given and (call.is_callback or not call.name.startswith("proxy_")):
        return call.words
    parts = []
    words = call.words.split(", ") if call.arguments else []
    for (name, value), word in zip(call.arguments, words, strict=True):
        part = name.removesuffix("_data").removesuffix("_size")
        if name.startswith("return_") or (part in call.given and name.endswith("_size")):
            continue
        if part in call.given and name.endswith("_data"):
            most = _LONGEST_WORDS if part == "message" else _LONGEST
            given = call.given[part]
            if part == "path" and call.name in _OF_PROPERTIES and isinstance(given, bytes):
                given = given.replace(b"\0", b".")
            parts.append(f"{part}={shown(given, most)}")
        elif (bits := _SIGNED.get(name)) and value >> (bits - 1) & 1:
            parts.append(f"{name}={(value & (1 << bits) - 1) - (1 << bits)}")
        else:
            # An enumeration's own name says what it is.
            number = word.partition("=")[2]
            parts.append(number if number and not number.isdigit() else word)
    return ", ".join(parts)


def answer(call: Call) -> str:
    """What came back; a callback's 0 or 1 is its action."""
    if call.error:
        return f" failed: {escape(call.error)}"
    if call.result is None:
        return ""
    returned = "".join(f" {name}={shown(value)}" for name, value in call.returned.items())
    mark = " (observed only)" if call.action and call.observed else ""
    if call.decides and call.result > _LAST_VERDICT:
        mark = ", which is no action: it pauses"
    if not call.is_callback and call.result == ProxyStatus.BAD_ARGUMENT:
        mark = _reason(call)
    return f" = {call.action or call.answer}{returned}{mark}"


def _reason(call: Call) -> str:
    """Why a host as Envoy refuses it, where that can be seen from the call alone."""
    if call.name == "proxy_http_call":
        headers = call.given.get("headers")
        there = {name for name, _ in headers} if isinstance(headers, list) else set()
        missing = [name.decode() for name in (b":method", b":path", b":authority") if name not in there]
        return f" (its headers want {', '.join(missing)})" if missing else ""
    if "header_map_" in call.name and dict(call.arguments).get("map_type") in _OF_STREAMS:
        return " (these are there in their own callback and while that pauses, as in Envoy)"
    return ""


def shown(value: Value, most: int = _LONGEST) -> str:
    """A value on one line, cut where it is longer than so many characters."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return cut(escape(value), most)
    return cut("{" + ", ".join(f"{escape(name)}: {escape(text)}" for name, text in value) + "}", most)


def cut(text: str, most: int = _LONGEST) -> str:
    """At most so many characters."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def microseconds(call: Call) -> str:
    """How long it took."""
    took = (call.ended - call.began) / 1000
    return f"{took:.1f} µs" if took < 1000 else f"{took / 1000:.1f} ms"


def head(first: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The head of a message as text: a line, then its headers, sorted by name, for comparisons."""
    fields = sorted((escape(name).lower(), escape(value)) for name, value in headers)
    return "\n".join([first, *(f"{name}: {value}" for name, value in fields)])
