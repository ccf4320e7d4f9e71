"""A request on its way to the app: shown to the plugins, then written into the app's scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.exchange.endings import headers_dropped
from asgi_wasm.asgi.exchange.environment import Environment
from asgi_wasm.asgi.messages import rewriting, translate
from asgi_wasm.asgi.messages.lengths import said_by
from asgi_wasm.asgi.own_scope import guarded_scope

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.sides import RequestSide
    from asgi_wasm.asgi.types import Scope
    from asgi_wasm.host.plan import Plan
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.streams.passage import Passage


class AppRequest:
    """Feeds the chain with a request's head, and makes the app's scope of what the plugins left of it."""

    def __init__(
        self,
        environment: Environment,
        plan: Plan,
        chain: FilterChain,
        scope: Scope,
        to_app: RequestSide,
        passage: Passage | None,
    ) -> None:
        """``passage`` is what has been done already."""
        self._environment = environment
        self._plan = plan
        self._chain = chain
        self._server_scope = scope
        self._to_app = to_app
        self._passage = passage

    def feed(self, *, ends: bool) -> HeaderMap:
        """Show the head to the plugins. It ``ends`` the request where no body follows."""
        passage, request, length = self._passage, self._chain.request, self._to_app.length
        if passage is None or passage.request_headers is None:
            headers = translate.request_headers(self._server_scope)
            request.headers(headers, ends)
        else:
            headers = passage.request_headers
            if passage.reply is not None:
                self._chain.adopt_answer(passage)
            else:
                request.headers(headers, ends, passed=passage.passed, verdict=passage.verdict)
        length.own, length.way = said_by(self._server_scope["headers"]), request
        return headers

    @property
    def size_ahead(self) -> int:
        """The size of a body of which plugins should see what is there before the app is called; 0 where there is none.

        They may change it, and the app is then told its true length. Who asked for a 100 (Continue) is not given one
        for this (RFC 9110 10.1.1).
        """
        size = self._to_app.length.own
        if not size or not self._plan.changes_body.request or translate.expects_continue(self._server_scope):
            return 0
        return size

    def scope(self, headers: HeaderMap) -> dict[str, Any] | None:
        """The app's scope; None where plugins wrote a method, scheme or path that no request line can carry."""
        scope = guarded_scope(self._server_scope, self._plan, self._chain.properties)
        if headers.changed:
            if not rewriting.is_target_sendable(headers):
                return None
            if dropped := rewriting.apply_request_headers(scope, headers):
                headers_dropped(self._environment, self._plan.filters, dropped)
        if headers.changed or self._plan.changes_body.request:
            self._say_length(scope)
        return scope

    def _say_length(self, scope: dict[str, Any]) -> None:
        """Say in the app's scope how long the body is."""
        length, may_change = self._to_app.length, self._plan.changes_body.request
        scope["headers"] = length.settle(scope["headers"], self._to_app.size, may_change=may_change)
        if length.announced is not None:
            # It says where the body ends as well (RFC 9112 6.2).
            scope["headers"] = [field for field in scope["headers"] if field[0] != b"transfer-encoding"]
