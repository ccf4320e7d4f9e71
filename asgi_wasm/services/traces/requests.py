"""The last requests, each with its callbacks, hostcalls and callouts, kept for whoever looks at them.

A `host.vm.trace.TraceSink`. A request is what its calls have in common (`Call.stream`); a callout's answer comes to a
root context, and is known by its token.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any, cast
from weakref import WeakKeyDictionary

from asgi_wasm.host.codecs.wire import decode_pairs
from asgi_wasm.host.ports import Attributes
from asgi_wasm.host.vm.trace import Call, Value
from asgi_wasm.logs import escape
from asgi_wasm.services.traces.text import answer, arguments

# Of one request: beyond that they are counted only. A plugin may make thousands for a body.
MOST_CALLS = 500
_LONGEST = 2000
# Headers, and keys, whose values are nobody's who looks on.
_SECRET = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key", b"x-auth-token", b"x-csrf-token"}
)
_HIDDEN = b"(hidden)"
# Which callback brings what comes of which hostcall, and how its answer's failure shows.
_ASKING = {"proxy_http_call": "http", "proxy_grpc_call": "grpc", "proxy_grpc_stream": "grpc"}
_ENDING = frozenset({"proxy_on_http_call_response", "proxy_on_grpc_receive", "proxy_on_grpc_close"})
_DELIVERING = _ENDING | {"proxy_on_grpc_receive_initial_metadata", "proxy_on_grpc_receive_trailing_metadata"}
_QUIET = frozenset({"malloc", "proxy_on_memory_allocate"})


@dataclass
class TracedCall:
    """``began`` and ``took`` are microseconds, from the request's first call on; ``took`` is None while it runs."""

    name: str
    plugin: str
    context: int
    is_callback: bool
    depth: int
    arguments: str
    began: float
    took: float | None = None
    answer: str = ""
    error: str = ""


@dataclass
class TracedCallout:
    """A call to an upstream; ``took`` is None until something comes of it."""

    kind: str
    upstream: str
    what: str
    plugin: str
    began: float
    took: float | None = None
    outcome: str = ""


@dataclass(eq=False)
class TracedRequest:
    """One request. ``at`` is seconds since the Unix epoch; ``status`` 0 until there is one."""

    number: int
    at: float
    method: str = ""
    target: str = ""
    request_id: str = ""
    status: int = 0
    answered_by: str = ""
    calls: list[TracedCall] = field(default_factory=list)
    callouts: list[TracedCallout] = field(default_factory=list)
    # Calls beyond `MOST_CALLS`.
    left_out: int = 0

    def __post_init__(self) -> None:
        # By what its callouts' answers are known (`RequestTraces`); no field, which would be shown.
        self.waiting: list[tuple[int, int]] = []

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class RequestTraces:
    """Keeps the last ``most`` of them. All its methods are called in one event loop."""

    reads_memory = True

    def __init__(self, most: int) -> None:
        self.kept: deque[TracedRequest] = deque(maxlen=most)
        self._numbers = count(1)
        # By what the calls of a request have in common, while that is there.
        self._open: WeakKeyDictionary[object, tuple[TracedRequest, int]] = WeakKeyDictionary()
        # Calls under way: the last is the innermost. None for one that is not kept.
        self._stack: list[TracedCall | None] = []
        # Of kept requests, by the id of the VM and the token; the VM is there while it waits, or its callouts are
        # cancelled.
        self._waiting: dict[tuple[int, int], tuple[TracedRequest, int, TracedCallout]] = {}

    def leave_out(self, properties: Mapping[bytes, bytes]) -> None:
        """Forget the request whose plugins keep what they set in just this mapping."""
        for attributes, (request, _) in list(self._open.items()):
            chain = getattr(attributes, "chain", None)
            if chain is not None and chain.properties is properties and request in self.kept:
                self.kept.remove(request)
                self._forget(request)

    def _forget(self, request: TracedRequest) -> None:
        """Its callouts' answers are nobody's: they would keep it, with its calls, for as long as the worker lives."""
        for key in request.waiting:
            if self._waiting.get(key, (None,))[0] is request:
                del self._waiting[key]
        request.waiting.clear()

    # --- host.vm.trace.TraceSink

    def begin(self, call: Call) -> None:
        """Keep it, if it is of a request."""
        now = time.perf_counter_ns()
        request, zero = self._request_of(call, now)
        made = None
        if request is not None and call.name not in _QUIET:
            if len(request.calls) >= MOST_CALLS:
                request.left_out += 1
            else:
                depth = sum(each is not None for each in self._stack)
                name = call.name.removeprefix("proxy_")
                made = TracedCall(name, call.plugin, call.context, call.is_callback, depth, "", (now - zero) / 1000)
                request.calls.append(made)
        self._stack.append(made)

    def end(self, call: Call) -> None:
        """With what came of it."""
        now = time.perf_counter_ns()
        made = self._stack.pop() if self._stack else None
        request, zero = self._request_of(call, now)
        if request is None or made is None:
            return
        made.took = (now - zero) / 1000 - made.began
        shown = _without_secrets(call)
        made.arguments = _cut(arguments(shown))
        made.answer, made.error = _cut(answer(shown).removeprefix(" = ")), _cut(escape(call.error))
        if call.name in _ASKING and call.answer == "OK":
            self._asked(call, request, zero, now)
        elif call.is_callback and call.stream is not None:
            _settle(request, call)

    # ---

    def _request_of(self, call: Call, now: int) -> tuple[TracedRequest | None, int]:
        """The request that it is of, and when that began."""
        if call.stream is None:
            return self._delivered(call, now) if call.is_callback else (None, 0)
        known = self._open.get(call.stream)
        if known is None:
            request = TracedRequest(next(self._numbers), time.time())
            known = self._open[call.stream] = request, now
            if len(self.kept) == self.kept.maxlen:
                self._forget(self.kept[0])
            self.kept.append(request)
        request = known[0]
        if not request.method:
            attributes = cast(Attributes, call.stream)
            request.method = _text(attributes.get((b"request", b"method")))
            request.target = _cut(_text(attributes.get((b"request", b"path"))))
            request.request_id = _cut(_text(attributes.get((b"request", b"id"))))
        return known

    def _asked(self, call: Call, request: TracedRequest, zero: int, now: int) -> None:
        """A callout begins."""
        token = call.returned.get("token")
        headers = call.given.get("headers")
        named = dict(headers) if isinstance(headers, list) else {}
        if call.name == "proxy_http_call":
            what = f"{_text(named.get(b':method'))} {_text(named.get(b':path'))}"
        else:
            what = f"/{_text(call.given.get('service'))}/{_text(call.given.get('method'))}"
        upstream = _text(call.given.get("upstream"))
        made = TracedCallout(_ASKING[call.name], upstream, _cut(what), call.plugin, (now - zero) / 1000)
        request.callouts.append(made)
        if isinstance(token, int) and request in self.kept:
            key = id(call.vm), token
            self._waiting[key] = request, zero, made
            request.waiting.append(key)

    def _delivered(self, call: Call, now: int) -> tuple[TracedRequest | None, int]:
        """A callout's answer is its request's, though a root context has it."""
        if call.name not in _DELIVERING or len(call.arguments) < 2:
            return None, 0
        key = id(call.vm), call.arguments[1][1]
        known = self._waiting.get(key)
        if known is None:
            return None, 0
        request, zero, callout = known
        if callout.took is None and call.name in _ENDING:
            callout.took = (now - zero) / 1000 - callout.began
            callout.outcome = _outcome(call)
        return request, zero


def _without_secrets(call: Call) -> Call:
    """With what is nobody's who looks on left out; other sinks have the call as it is."""
    is_secret = _names_secret(call.given.get("key")) or _leads_to_secret(call.given.get("path"))
    if call.name == "proxy_get_header_map_pairs" and isinstance(data := call.returned.get("data"), bytes):
        call = replace(call, returned={"pairs": decode_pairs(data)})
    given, returned = (
        {name: value if name in ("key", "path") else _shown(value, is_secret) for name, value in values.items()}
        for values in (call.given, call.returned)
    )
    return replace(call, given=given, returned=returned)


def _names_secret(name: object) -> bool:
    return isinstance(name, bytes) and name.lower() in _SECRET


def _leads_to_secret(path: object) -> bool:
    """A property that is such a header, or all of them."""
    parts = path.split(b"\0") if isinstance(path, bytes) else []
    return len(parts) > 1 and parts[1] == b"headers" and (len(parts) == 2 or _names_secret(parts[2]))


def _shown(value: Value, is_secret: bool) -> Value:
    if isinstance(value, list):
        return [(name, _HIDDEN if name.lower() in _SECRET else text) for name, text in value]
    return _HIDDEN if is_secret and isinstance(value, bytes) else value


def _settle(request: TracedRequest, call: Call) -> None:
    """What is known by now of the answer."""
    attributes: Any = call.stream
    code = attributes.get((b"response", b"code"))
    if isinstance(code, int):
        request.status = code
    chain = getattr(attributes, "chain", None)
    if chain is not None and code is not None:
        request.answered_by = "plugin or host" if chain.answered_locally else "app"


def _outcome(call: Call) -> str:
    numbers: Mapping[str, int] = dict(call.arguments)
    if call.name == "proxy_on_http_call_response":
        return "response" if numbers.get("num_headers") else "failure"
    return "response" if call.name == "proxy_on_grpc_receive" else f"status {numbers.get('grpc_status', 0)}"


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return escape(value)
    return "" if value is None else escape(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


__all__ = ["MOST_CALLS", "RequestTraces", "TracedCall", "TracedCallout", "TracedRequest"]
