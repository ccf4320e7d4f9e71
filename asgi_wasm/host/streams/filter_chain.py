"""The plugins of one request, in order: both directions, local responses, failures, the end.

Followed: Envoy `source/common/http/filter_manager.cc`; Envoy `source/extensions/common/wasm/context.cc`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asgi_wasm.host.abi import MapType, StreamType
from asgi_wasm.host.directions import REQUEST, RESPONSE
from asgi_wasm.host.effects import CloseStream, ContinueStream, LocalResponse
from asgi_wasm.host.host_metrics import NO_HOST_METRICS, HostMetrics
from asgi_wasm.host.streams.direction import Direction, PieceWay
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.streams.local_reply import FAILED_CLOSED, OVER_LIMIT, HostAnswer, detail_words, local_reply
from asgi_wasm.host.streams.passage import Passage, Refusal, end_context, log_failure, open_later, tell_refusal, vms_of
from asgi_wasm.host.streams.stage import ResponseSink, Sink, Stage
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.limits import StreamLimits
from asgi_wasm.specs import FailurePolicy

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import Pairs
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.ports import Attributes, Effect, Log
    from asgi_wasm.host.vm.contexts import StreamContext, Vm

# Who answers: the app, until another does in its stead; as `HostMetrics.request_ended` is told.
APP, PLUGIN, HOST, NOBODY = "app", "plugin", "host", "nobody"


class FilterChain:
    """One request and its response on their way through the plugins.

    The ASGI border feeds `request` and `respond`, `response` and calls `finish` once, whatever happened.
    """

    def __init__(
        self,
        filters: Sequence[Filter],
        request_sink: Sink,
        response_sink: ResponseSink,
        attributes: Attributes,
        limits: StreamLimits,
        log: Log,
        host_metrics: HostMetrics = NO_HOST_METRICS,
    ) -> None:
        self.attributes = attributes
        # What plugins set by `proxy_set_property`, for later plugins and for the app.
        self.properties: dict[bytes, bytes] = {}
        self.read_only_properties: set[bytes] = set()
        self.properties_kept = 0, 0
        self.contexts: list[StreamContext] = []
        self.answered_by = APP
        self.local_details = b""
        # `finish` was called: the contexts are being logged and deleted, and there is nobody left to answer.
        self.is_finished = False
        self.request = Direction(
            REQUEST, [Stage(index) for index in range(len(filters))], request_sink, limits.request_body, self
        )
        self.response: Direction | None = None
        # A filter that the passage before this chain could not open a context for.
        self._refusal: Refusal | None = None
        # Those that the request has been in.
        self._vms: list[Vm] = []
        # What the app, or a local response, had as `:status` before any plugin saw it.
        self.status = b""
        self._filters = filters
        self._response_sink = response_sink
        self._limits = limits
        self._log = log
        self._host_metrics = host_metrics

    @property
    def answered_locally(self) -> bool:
        """Whether whatever the app still says is not for the client."""
        return self.answered_by is not APP

    def adopt(self, passage: Passage) -> None:
        """Take over the contexts of a request that has gone the straight way so far, and what its plugins set."""
        self.properties, self.read_only_properties = passage.properties, passage.read_only_properties
        self.contexts, self._refusal = passage.contexts, passage.refusal
        self._vms = vms_of(passage)
        for stage, context in zip(self.request.stages, self.contexts):  # noqa: B905  # some may be without a context
            stage.context = context
            context.chain = self

    # --- the two directions

    def respond(
        self,
        headers: HeaderMap,
        end_of_stream: bool,
        *,
        passed: int = 0,
        verdict: int | None = None,
        size: int | None = None,
    ) -> Direction:
        """The response's headers; its body and trailers go to the direction that this gives back.

        Only plugins that saw the request see the response, the last first. ``passed`` and ``verdict``: see
        `Direction.headers`. ``size``: see `ResponseSink.received`.
        """
        response = self._respond(headers)
        self._response_sink.received(size, response)
        response.headers(headers, end_of_stream, passed=passed, verdict=verdict)
        return response

    def adopt_response(self, headers: HeaderMap) -> None:
        """Take over a response whose headers have passed every plugin."""
        response = self._respond(headers)
        self._response_sink.received(None, response)
        response.adopt(headers, len(response.stages))

    def _respond(self, headers: HeaderMap) -> Direction:
        stages = [Stage(index, context) for index, context in enumerate(reversed(self.contexts))]
        self.response = Direction(RESPONSE, stages, self._response_sink, self._limits.response_body, self)
        self.status = headers.get(b":status") or b""
        return self.response

    def leave(self) -> None:
        """The client has gone before it had its response; `finish` follows."""
        for context in self.contexts:
            lifecycle.end_callouts(context)

    def finish(self) -> None:
        """Log for every context, then done and delete for each, in the order of the request. Idempotent.

        Plugins that the request did not get to are told of its end too (Envoy `Context::log`).
        """
        if self.is_finished:
            return
        self.is_finished = True
        self.request.close()
        if self.response is not None:
            self.response.close()
        for stage in self.request.stages:
            if stage.context is None and not (stage.skipped or self._filters[stage.index].failed_with(self._vms)):
                self._open(stage)
            if stage.context is not None:
                end_context(stage.context, lifecycle.log_stream, self._log)
        for context in self.contexts:
            end_context(context, lifecycle.finish_stream, self._log)
        if self._host_metrics.enabled:
            self._host_metrics.request_ended(NOBODY if self.response is None else self.answered_by)

    def release(self) -> None:
        """After `finish`: let go of what refers back to it, so that nothing waits for the garbage collector."""
        self.request.release()
        if self.response is not None:
            self.response.release()
        self.contexts = []
        del self.attributes

    def logged_map(self, map_type: MapType) -> HeaderMap | None:
        """What `proxy_on_log` may read: Envoy offers no request trailers there."""
        if map_type is MapType.HTTP_REQUEST_HEADERS:
            return self.request.headers_map
        if self.response is None or map_type is MapType.HTTP_REQUEST_TRAILERS:
            return None
        wants_headers = map_type is MapType.HTTP_RESPONSE_HEADERS
        return self.response.headers_map if wants_headers else self.response.trailers_map

    # --- what directions (`stage.Owner`), and contexts (`vm.contexts.Chain`), ask

    def open(self, stage: Stage) -> StreamContext | None:
        """Make the filter's context, right before its first callback as Envoy does."""
        self._open(stage)
        if stage.skipped:
            spec = self._filters[stage.index].spec
            self._apply_policy(spec.failure_policy, spec.name)
        return stage.context

    def _open(self, stage: Stage) -> None:
        plugin_filter = self._filters[stage.index]
        opened, self._refusal = self._refusal or open_later(plugin_filter, self, self._vms), None
        if isinstance(opened, Refusal):
            stage.skipped = True
            tell_refusal(plugin_filter, self, opened, self._log)
        else:
            stage.context = opened
            self.contexts.append(opened)

    def failed(self, context: StreamContext) -> None:
        """A callback trapped, or its VM had failed before."""
        log_failure(context, self._log)
        context.failed = True
        self._apply_policy(context.root.spec.failure_policy, context.root.spec.name)
        context.vm.abandon_streams()

    def abandoned(self, context: StreamContext) -> None:
        """The context's VM failed elsewhere: what it holds here would be held for ever."""
        directions = [way for way in (self.request, self.response) if way is not None and way.held_by(context)]
        if directions and not context.failed:
            self.failed(context)
            for direction in directions:
                direction.resume(context)

    def overflow(self, direction: int) -> None:
        """A body that is held is over the limit."""
        self.refuse(OVER_LIMIT[direction])

    def _apply_policy(self, policy: FailurePolicy, plugin: str) -> None:
        self._host_metrics.policy_applied(plugin, policy.value)
        if policy is not FailurePolicy.FAIL_OPEN:
            self.refuse(FAILED_CLOSED)

    def apply(self, effect: Effect) -> None:
        """Carry out what a plugin asked for on this stream. Nothing once the stream is over (`on_log` and later)."""
        if not self.is_finished:
            APPLIED_BY[type(effect)](self, effect)

    def _resume(self, effect: ContinueStream) -> None:
        direction = self.request if effect.stream_type is StreamType.HTTP_REQUEST else self.response
        if direction is not None:
            direction.resume(effect.context)

    def answer(
        self, status: int, body: bytes, headers: Pairs, grpc_status: int | None, *, details: bytes, by: str = HOST
    ) -> None:
        """Answer in the app's stead, if that is still possible.

        Before any response, the answer goes through the response callbacks of the plugins that saw the request.
        While a response, or an answer, is on its way through them, another answer replaces it and they do not see it.
        Once the response has started, all that can be done is to end it; a second answer is not looked at then.
        """
        response = self.response
        if self.answered_locally and (response is None or response.closed or self._response_sink.started):
            return
        self.answered_by = by
        self.local_details = detail_words(details)
        self.request.close()
        reply, content = local_reply(self.request.headers_map or HeaderMap(), status, body, headers, grpc_status)
        if self.response is None:
            self._answer_through(reply, content)
        elif not self._response_sink.started:
            self.response.close()
            self.response.headers_map = reply
            self.status = reply.get(b":status") or b""
            self._response_sink.received(len(content), self.response)
            self._response_sink.headers(reply, not content)
            if content:
                self._response_sink.data(content, True)
        else:
            self.reset("a local response came after the response had started")

    def _answer_through(
        self,
        reply: HeaderMap,
        content: bytes,
        *,
        passed: int = 0,
        verdict: int | None = None,
        way: PieceWay | None = None,
    ) -> None:
        """Let an answer pass the plugins that saw the request. ``way`` is that of the body, if some have seen it."""
        response = self.respond(reply, not content, passed=passed, verdict=verdict, size=len(content))
        if content and not response.closed:
            response.data(content, True, way)

    def adopt_answer(self, passage: Passage) -> None:
        """Take over a plugin's answer, at which a plugin has stopped on its way to the client."""
        assert passage.response_headers is not None and passage.reply is not None
        self.answered_by = PLUGIN
        self.local_details = passage.local_details
        self.request.headers_map = passage.request_headers
        self.request.close()
        headers, content = passage.response_headers, passage.reply
        self._answer_through(headers, content, passed=passage.passed, verdict=passage.verdict, way=passage.way)

    def refuse(self, answer: HostAnswer) -> None:
        """Answer by the host itself."""
        self.answer(answer.status, answer.body, [], None, details=answer.details)

    def reset(self, reason: str) -> None:
        """End both directions and the client's connection."""
        self.answered_by = NOBODY
        self.request.close()
        if self.response is not None:
            self.response.close()
        self._response_sink.reset(reason)


# Every effect on a stream, and how a chain carries it out.
APPLIED_BY: Mapping[type[Effect], Callable[[FilterChain, Any], None]] = {
    LocalResponse: lambda chain, reply: chain.answer(
        reply.status_code, reply.body, reply.headers, reply.grpc_status, details=reply.details, by=PLUGIN
    ),
    ContinueStream: FilterChain._resume,
    CloseStream: lambda chain, close: chain.reset(f"plugin {close.context.root.spec.name!r} closed the stream"),
}
