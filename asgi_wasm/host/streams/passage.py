"""The straight way through the plugins of one request: every one lets it pass at once, and holds nothing back.

What is not straight is not done here: `Passage` stops, and a `FilterChain` takes over what it has done so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from asgi_wasm.errors import PluginAwayError, PluginError
from asgi_wasm.host.abi import CONTINUE, LogLevel, MapType
from asgi_wasm.host.directions import HEADERS_MAPS, REQUEST, REQUEST_HEADERS, RESPONSE
from asgi_wasm.host.effects import LocalResponse
from asgi_wasm.host.ports import LimitReachedError, LogOrigin
from asgi_wasm.host.streams.local_reply import detail_words, local_reply
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.host.vm.contexts import VmFailedError
from asgi_wasm.host.vm.log_lines import origin_of, request_id_of

if TYPE_CHECKING:
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.ports import Attributes, Effect, Log
    from asgi_wasm.host.streams.direction import PieceWay
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.contexts import Chain, RootContext, StreamContext, Vm

_BODILESS = 204, 304


class Refusal:
    """Why a filter has no context for a request. ``root`` is None unless its VM failed."""

    __slots__ = ("error", "root")

    def __init__(self, error: PluginError | VmFailedError | LimitReachedError, root: RootContext | None) -> None:
        self.error = error
        self.root = root


def open_context(plugin_filter: Filter, chain: Chain) -> StreamContext | Refusal:
    """Make the filter's context, right before its first callback as Envoy does."""
    root = None
    try:
        root = plugin_filter.root()
        return lifecycle.create_stream(root, chain)
    except LimitReachedError as error:
        return Refusal(error, None)
    except (PluginError, VmFailedError) as error:
        return Refusal(error, root)


def open_later(plugin_filter: Filter, chain: Chain, vms: list[Vm]) -> StreamContext | Refusal:
    """`open_context` where something may have failed: ``vms`` are those that the request has been in, and grow."""
    reason = plugin_filter.failed_with(vms)
    if reason is not None:
        return Refusal(VmFailedError(reason), None)
    opened = open_context(plugin_filter, chain)
    if not isinstance(opened, Refusal):
        vms.append(opened.vm)
    elif opened.root is not None:
        vms.append(opened.root.vm)
    return opened


def vms_of(passage: Passage) -> list[Vm]:
    """The VMs that a request has been in on its straight way."""
    failed = passage.refusal.root if passage.refusal is not None else None
    return [*(context.vm for context in passage.contexts), *([failed.vm] if failed is not None else [])]


def tell_refusal(plugin_filter: Filter, chain: Chain, refusal: Refusal, log: Log) -> None:
    """Say that the filter has no context; where its VM failed, other streams may wait for that."""
    if not isinstance(refusal.error, PluginAwayError):  # of which the log was told when it began
        spec = plugin_filter.spec
        origin = LogOrigin(spec.vm_id, 0, request_id_of(chain))
        log.host(spec.name, LogLevel.ERROR, f"cannot serve a request: {refusal.error}", origin)
    if refusal.root is not None:
        refusal.root.vm.abandon_streams()


def log_failure(context: StreamContext, log: Log) -> None:
    """Say that the context's VM failed, and what that means for the request."""
    spec = context.root.spec
    told = f"its VM failed ({context.vm.failure}); the request gets {spec.failure_policy.value}"
    log.host(spec.name, LogLevel.ERROR, told, origin_of(context))


def end_context(context: StreamContext, step: Callable[[StreamContext], None], log: Log) -> None:
    """One of `lifecycle`'s steps at the end of a stream; a VM that fails there ends its other streams only."""
    try:
        step(context)
    except VmFailedError:
        log_failure(context, log)
        context.vm.abandon_streams()


class Passage:
    """One request and its response (`contexts.Chain`).

    ``hand_over`` gives back the chain that has taken over; it is asked when something from outside wants to act on
    this stream. When `request` or `response` answers false, the next filter after ``passed`` of them is the one that
    stopped: it answered ``verdict`` and may have left effects, or, where that is None, it has failed or has no context
    (``refusal``). ``reply`` is a plugin's answer in the app's stead, once `answer` has taken it.
    """

    __slots__ = (
        "answered_locally",
        "attributes",
        "contexts",
        "deleted",
        "filters",
        "finished",
        "hand_over",
        "local_details",
        "logged",
        "passed",
        "properties",
        "properties_kept",
        "read_only_properties",
        "refusal",
        "reply",
        "request_headers",
        "response_headers",
        "status",
        "verdict",
        "way",
    )

    def __init__(self, filters: Sequence[Filter], attributes: Attributes, hand_over: Callable[[], Chain]) -> None:
        self.filters = filters
        self.attributes = attributes
        self.hand_over = hand_over
        self.properties: dict[bytes, bytes] = {}
        self.read_only_properties: set[bytes] = set()
        self.properties_kept = 0, 0
        self.contexts: list[StreamContext] = []
        self.status = b""
        self.answered_locally = False
        self.local_details = b""
        self.finished = False
        # How many contexts have been.
        self.logged = self.deleted = 0
        self.request_headers: HeaderMap | None = None
        self.response_headers: HeaderMap | None = None
        self.passed = 0
        self.verdict: int | None = None
        self.refusal: Refusal | None = None
        self.reply: bytes | None = None
        # How far its body has come, where its headers have passed all filters.
        self.way: PieceWay | None = None

    def request(self, headers: HeaderMap, end_of_stream: bool, verdict: int | None = None) -> bool:
        """Show the request's headers to each plugin after ``passed`` of them. True when all let them pass at once.

        The first of these may have answered ``verdict`` already.
        """
        self.request_headers = headers
        for index in range(self.passed, len(self.filters)):
            if index == len(self.contexts) and not self._open(self.filters[index]):
                return False
            if not self._passes(self.contexts[index], REQUEST, headers, end_of_stream, verdict):
                return False
            verdict = None
            self.passed += 1
        return True

    def _open(self, plugin_filter: Filter) -> bool:
        if self.refusal is None:
            context = open_context(plugin_filter, self)
            if not isinstance(context, Refusal):
                self.contexts.append(context)
                return True
            self.refusal = context
        return False

    def answer(self) -> HeaderMap | None:
        """Take the local response that the filter which stopped the request left, if it left just that.

        Gives back its headers, which `response` is to show to the plugins; its body, which is not empty, is `reply`.
        """
        if self.verdict is None or self.request_headers is None:
            return None
        context = self.contexts[-1]
        effects = context.vm.effects
        if len(effects) != 1 or not isinstance(effects[0], LocalResponse) or effects[0].context is not context:
            return None
        told = effects[0]
        if told.status_code in _BODILESS:
            return None
        headers, content = local_reply(
            self.request_headers, told.status_code, told.body, told.headers, told.grpc_status
        )
        if not content:
            return None
        effects.clear()
        context.maps[REQUEST_HEADERS] = None
        self.answered_locally, self.local_details, self.reply = True, detail_words(told.details), content
        return headers

    def response(self, headers: HeaderMap, end_of_stream: bool) -> bool:
        """Show the response's headers to each plugin, the last first. True when all let them pass at once."""
        self.response_headers = headers
        self.status = headers.get(b":status") or b""
        self.passed = 0
        return self.go_on_responding(headers, end_of_stream, None)

    def go_on_responding(self, headers: HeaderMap, end_of_stream: bool, verdict: int | None) -> bool:
        """`response` for those after ``passed`` of them; the first of these may have answered ``verdict`` already."""
        for index in range(self.passed, len(self.contexts)):
            context = self.contexts[-1 - index]
            if not self._passes(context, RESPONSE, headers, end_of_stream, verdict):
                return False
            verdict = None
            self.passed += 1
        return True

    def _passes(
        self, context: StreamContext, direction: int, headers: HeaderMap, end_of_stream: bool, verdict: int | None
    ) -> bool:
        self.verdict = None
        if verdict is None:
            try:
                verdict = context.headers(direction, headers, end_of_stream)
            except VmFailedError:
                return False
        elif verdict == CONTINUE:
            context.maps[HEADERS_MAPS[direction]] = None
        if verdict or context.vm.effects:
            self.verdict = verdict
            return False
        return True

    def leave(self) -> None:
        """The client has gone before it had its response; `finish` follows."""
        for context in self.contexts:
            lifecycle.end_callouts(context)

    def finish(self, log: Log) -> None:
        """Log for every context, then done and delete for each, in the order of the request (`FilterChain.finish`)."""
        self.finished = True
        for context in self.contexts[self.logged :]:
            end_context(context, lifecycle.log_stream, log)
        if len(self.contexts) < len(self.filters):
            self._log_others(log)
        for context in self.contexts[self.deleted :]:
            end_context(context, lifecycle.finish_stream, log)

    def _log_others(self, log: Log) -> None:
        """Plugins that the request did not get to are told of its end too (Envoy `Context::log`)."""
        vms = vms_of(self)
        for plugin_filter in self.filters[len(self.contexts) :]:
            if plugin_filter.failed_with(vms) is not None:
                continue
            context = open_later(plugin_filter, self, vms)
            if isinstance(context, Refusal):
                tell_refusal(plugin_filter, self, context, log)
            else:
                self.contexts.append(context)
                end_context(context, lifecycle.log_stream, log)

    # --- `contexts.Chain`

    def logged_map(self, map_type: MapType) -> HeaderMap | None:
        """What `proxy_on_log`, and attributes, may read: there are no trailers here."""
        if map_type is MapType.HTTP_REQUEST_HEADERS:
            return self.request_headers
        return self.response_headers if map_type is MapType.HTTP_RESPONSE_HEADERS else None

    def apply(self, effect: Effect) -> None:
        """Asked from outside of this stream's own callbacks: that is not straight any more."""
        if not self.finished:
            self.hand_over().apply(effect)

    def abandoned(self, context: StreamContext) -> None:
        """Nothing: nothing is held back here, and the next callback tells."""
