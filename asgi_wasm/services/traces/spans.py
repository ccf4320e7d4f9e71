"""Spans of OpenTelemetry: one for each plugin and phase of a request, and one for each callout.

A `host.vm.trace.TraceSink`. Only opentelemetry-api is used; without an SDK that an app sets up, its spans are nothing.
Followed: OpenTelemetry's semantic conventions for HTTP and RPC client spans, where they have a name for a thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from asgi_wasm.host.codecs.wire import Pairs
from asgi_wasm.host.effects import EndCallouts, GrpcCall, GrpcStream, HttpCall
from asgi_wasm.host.ports import Effect
from asgi_wasm.host.vm.trace import Call

_ENDING = {
    "proxy_on_http_call_response": "response",
    "proxy_on_grpc_receive": "response",
    "proxy_on_grpc_close": "close",
}
_ALLOCATORS = ("malloc", "proxy_on_memory_allocate")


class SpanTrace:
    """Of one event loop. ``tracer`` is the app's own unless it is given."""

    # The arguments that are of interest are numbers.
    reads_memory = False

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("asgi_wasm")
        # The phases that run now, the innermost last; None for a call that is no phase.
        self._stack: list[Span | None] = []
        # By VM, the last phase that ran: what it asked for is carried out when it is over.
        self._last: WeakKeyDictionary[object, Span] = WeakKeyDictionary()
        # The parent of a request's phases, by what its calls have in common.
        self._parents: WeakKeyDictionary[object, Context] = WeakKeyDictionary()
        self._callouts: dict[tuple[int, int], Span] = {}

    # --- host.vm.trace.TraceSink

    def begin(self, call: Call) -> None:
        """A phase begins; a local response is an event of its phase."""
        if not call.is_callback or call.name in _ALLOCATORS:
            if call.name == "proxy_send_local_response":
                self._event("wasm.local_response", {"http.response.status_code": dict(call.arguments)["status_code"]})
            return
        phase = call.name.removeprefix("proxy_").removeprefix("on_")
        attributes: dict[str, str | int] = {
            "wasm.plugin": call.plugin,
            "wasm.context_id": call.context,
            "wasm.phase": phase,
        }
        span = self._tracer.start_span(f"{call.plugin} {phase}", context=self._parent(call), attributes=attributes)
        self._stack.append(span)
        self._last[call.vm] = span

    def end(self, call: Call) -> None:
        """A phase is over, with what the plugin decided; a trap is its error."""
        if not call.is_callback or call.name in _ALLOCATORS:
            return
        span = self._stack.pop()
        if span is None:
            return
        decides = call.name.endswith(("_headers", "_body", "_trailers"))
        if decides and call.result is not None:
            span.set_attribute("wasm.action", call.action.lower() or call.answer)
        if call.error:
            span.add_event("wasm.failure", {"exception.message": call.error})
            span.set_status(Status(StatusCode.ERROR, call.error))
        span.end()

    def _event(self, name: str, attributes: dict[str, Any]) -> None:
        if self._stack and (span := self._stack[-1]) is not None:
            span.add_event(name, attributes)

    def _parent(self, call: Call) -> Context:
        """What surrounds it: an instrumentation outside of us, or else what the request itself says."""
        if call.stream is None:
            return self._of_callout(call) or get_current()
        known = self._parents.get(call.stream)
        if known is None:
            known = get_current()
            if not trace.get_current_span(known).get_span_context().is_valid:
                known = propagate.extract(_carrier(call.stream))
            self._parents[call.stream] = known
        return known

    # --- callouts

    def carried(self, effect: Effect) -> Effect:
        """A callout with the trace's headers, which the plugin's own win over; anything else as it is."""
        carry = _CARRIED.get(type(effect))
        return effect if carry is None else carry(self, effect)

    def _http(self, effect: HttpCall) -> Effect:
        named = dict(effect.headers)
        attributes = {
            "http.request.method": named.get(b":method", b"").decode("latin-1"),
            "url.path": named.get(b":path", b"").partition(b"?")[0].decode("latin-1"),
        }
        told = self._begin(effect, f"HTTP {effect.upstream}", attributes)
        return replace(effect, headers=[*effect.headers, *(pair for pair in told if pair[0] not in named)])

    def _grpc(self, effect: GrpcCall | GrpcStream) -> Effect:
        named = dict(effect.metadata)
        attributes = {"rpc.system": "grpc", "rpc.method": effect.path.lstrip("/")}
        told = self._begin(effect, f"gRPC {effect.upstream}", attributes)
        return replace(effect, metadata=[*effect.metadata, *(pair for pair in told if pair[0] not in named)])

    def _ended(self, effect: EndCallouts) -> Effect:
        self._forget(effect.root.vm)
        return effect

    def _begin(self, effect: HttpCall | GrpcCall | GrpcStream, name: str, attributes: Mapping[str, str]) -> Pairs:
        """The span of a callout begins; the headers that carry it on."""
        last = self._last.get(effect.root.vm)
        span = self._tracer.start_span(
            name,
            context=get_current() if last is None else trace.set_span_in_context(last),
            kind=SpanKind.CLIENT,
            attributes={"wasm.plugin": effect.root.spec.name, "wasm.upstream": effect.upstream, **attributes},
        )
        self._callouts[id(effect.root.vm), effect.token] = span
        told: dict[str, str] = {}
        propagate.inject(told, trace.set_span_in_context(span))
        return [(key.encode(), value.encode()) for key, value in told.items()]

    def _of_callout(self, call: Call) -> Context | None:
        """The span of the callout that this callback is about, which ends when its answer is there."""
        numbers = dict(call.arguments)
        key = id(call.vm), numbers.get("token", 0)
        span = self._callouts.get(key)
        if span is None or not call.name.startswith(("proxy_on_http_call", "proxy_on_grpc")):
            return None
        if call.name in _ENDING:
            del self._callouts[key]
            failed = numbers.get("grpc_status", 0) if "grpc_status" in numbers else not numbers.get("num_headers", 1)
            if "grpc_status" in numbers:
                span.set_attribute("rpc.grpc.status_code", numbers["grpc_status"])
            if failed:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
        return trace.set_span_in_context(span)

    def _forget(self, vm: object) -> None:
        """Its callouts were cancelled."""
        for key in [key for key in self._callouts if key[0] == id(vm)]:
            self._callouts.pop(key).end()


def _carrier(stream: object) -> dict[str, str]:
    attributes: Any = stream
    found = {}
    for name in propagate.get_global_textmap().fields:
        value = attributes.get((b"request", b"headers", name.lower().encode()))
        if isinstance(value, bytes):
            found[name] = value.decode("latin-1")
    return found


__all__: Sequence[str] = ["SpanTrace"]


# By the kind of an effect, what becomes of it.
_CARRIED: dict[type[Effect], Callable[[SpanTrace, Any], Effect]] = {
    HttpCall: SpanTrace._http,
    GrpcCall: SpanTrace._grpc,
    GrpcStream: SpanTrace._grpc,
    EndCallouts: SpanTrace._ended,
}
