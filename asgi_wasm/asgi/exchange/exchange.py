"""One HTTP request and its response between server, plugins and app.

Here is the order of it all, from the first message to the end; `states` says how far each side is. `client` hears the
client, and waits (`waiting`); `app_request` makes the app's scope, `app_response` hears the app; `sides` are the far
ends of the filter chain, `outlet` is the way from there to the server.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.exchange.app_request import AppRequest
from asgi_wasm.asgi.exchange.app_response import BODY_MESSAGES, AppResponse
from asgi_wasm.asgi.exchange.client import Client, Reader
from asgi_wasm.asgi.exchange.endings import has_left, headers_dropped, tell, tell_cut, tell_raised
from asgi_wasm.asgi.exchange.environment import Environment, make_chain
from asgi_wasm.asgi.exchange.outlet import Outlet
from asgi_wasm.asgi.exchange.sides import RequestSide, ResponseSide
from asgi_wasm.asgi.exchange.states import ClientState, ResponseState
from asgi_wasm.asgi.own_scope import BYPASSING_EXTENSIONS, share_scope
from asgi_wasm.asgi.properties import ScopeAttributes, properties_of
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.streams.filter_chain import APP
from asgi_wasm.host.streams.local_reply import BODY_TOO_SHORT, UNSENDABLE_TARGET

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.progress import Progress
    from asgi_wasm.asgi.messages.first import Told
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.plan import Plan
    from asgi_wasm.host.streams.direction import PieceWay
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.host.streams.passage import Passage


class HttpExchange:
    """Runs one exchange: `run`, or `adopt` when the app has been called already, `receive` and `send` for it, `end`."""

    def __init__(
        self,
        environment: Environment,
        plan: Plan,
        scope: Scope,
        receive: Receive,
        send: Send,
        told: Told,
        passage: Passage | None = None,
    ) -> None:
        """``passage`` is what has been done already; it is taken over."""
        self._environment, self._plan, self._passage = environment, plan, passage
        self._server_scope = scope
        # Weakly: a cycle would keep the server's connection until the garbage collector comes.
        me, kind = weakref.proxy(self), type(self)
        wake = partial(kind._wake, me)
        self._to_app = RequestSide(wake, partial(kind._break_off, me))
        trailers = "http.response.trailers" in (scope.get("extensions") or {})
        ends, version = (wake, partial(headers_dropped, environment, plan.filters)), scope.get("http_version") or "1.1"
        self._to_client = to_client = ResponseSide(scope["method"], *ends, trailers=trailers, version=version)
        self._outlet = Outlet(send, to_client.messages, lambda: me._client.leaves(), partial(kind._went, me))
        # A passage of ours has no other attributes.
        attributes: Any = ScopeAttributes(scope) if passage is None else passage.attributes
        self._attributes: ScopeAttributes = attributes
        attributes.bytes_sent = lambda: to_client.bytes_out
        self._chain = chain = make_chain(environment, plan.filters, self._to_app, to_client, attributes)
        if passage is not None:
            chain.adopt(passage)
        else:
            chain.properties = properties_of(scope)
        self._client = Client(environment, chain, receive, told, plan, self._to_app, self._outlet, attributes)
        self._app = AppResponse(chain, to_client, scope["method"], passage, may_change=plan.changes_body.response)

    def __del__(self) -> None:
        # Here and not in `end`, since an app may call `send` after its request is over, and is to hear why that is no
        # use; now nobody can any more. What is left are cycles, with all that plugins wrote into headers.
        chain: FilterChain | None = getattr(self, "_chain", None)
        if chain is not None and chain.is_finished:
            chain.release()

    async def run(self, progress: Progress | None = None) -> None:
        """Serve a request of whose body plugins may have seen some. Raises what the app raises, until one answers."""
        try:
            client, to_app = self._client, self._to_app
            request = AppRequest(self._environment, self._plan, self._chain, self._server_scope, to_app, self._passage)
            self._outlet.drivers += 1
            headers = request.feed(ends=client.state is not ClientState.SENDING)
            self._outlet.drivers -= 1
            if progress is not None:
                client.adopt(progress)
            while not (to_app.forwarded or self._chain.answered_locally or client.gone):
                await client.step()
            await self._outlet.flush()
            if to_app.forwarded and not self._is_over and (size := request.size_ahead):
                await client.read_ahead(size, progress)
            if to_app.forwarded and not self._is_over:
                await self._call_app(request.scope(headers))
            await self.conclude()
        except Exception as error:
            # Some servers take what follows CONNECT for the tunnel's (h11).
            if not (self._chain.answered_locally and self._server_scope["method"] == "CONNECT"):
                raise
            sentence = f"the server does not take a plugin's answer to CONNECT as a response: {error}"
            tell(self._environment, LogLevel.ERROR, sentence)
        finally:
            await self.end()

    @property
    def _is_over(self) -> bool:
        """Whether nothing that the app still says can reach the client."""
        return self._chain.answered_by is not APP or self._to_client.reset_reason is not None

    def _break_off(self, reason: str) -> None:
        """The app cannot have the whole body that it was promised."""
        tell(self._environment, LogLevel.ERROR, f"a request was broken off: {reason}")
        self._chain.refuse(BODY_TOO_SHORT)

    # --- the app

    async def _call_app(self, scope: dict[str, Any] | None) -> None:
        if scope is None:
            self._chain.refuse(UNSENDABLE_TARGET)
            return
        self._app.method = scope["method"]
        self._client.reader = Reader.CHAIN if self._chain.request.reads_body else Reader.APP
        try:
            await self._environment.app(scope, self.receive, self.send)
        except Exception as error:
            if not self.excuses(error):
                await self.conclude_raised()
                raise
        finally:
            share_scope(scope, self._server_scope)

    def excuses(self, error: Exception) -> bool:
        """Whether what the app raised is of no account any more."""
        if self._is_over:
            tell_raised(error)
        return self._is_over

    async def receive(self) -> Message:
        """The app's `receive`."""
        client, messages = self._client, self._to_app.messages
        while True:
            if messages:
                return messages.popleft()
            if client.unread:
                return client.unread.pop(0)
            if self._is_over or client.gone or client.reader is Reader.WITHHELD:
                return {"type": "http.disconnect"}
            if client.reading is not None or client.app_is_reading or self._chain.request.paused_by is not None:
                await client.step()
            else:
                await client.read_for_app()
            await self._outlet.flush()

    async def send(self, message: Message, way: PieceWay | None = None) -> None:
        """The app's `send`. ``way`` is that of a piece of the body that some plugins have seen already."""
        if self._is_over:
            if message.get("more_body", False):
                # As to a client that has gone (ASGI 2.4); an endless stream would otherwise never be told to end.
                raise OSError("a plugin has answered in the app's stead")
            return
        for context in self._chain.contexts[:1]:
            # The app may call `send` from anywhere.
            context.vm.check_thread()
        client, outlet = self._client, self._outlet
        outlet.drivers += 1
        try:
            taken = self._app.take(message, way)
        finally:
            outlet.drivers -= 1
        await outlet.flush()
        if not taken:
            await self._pass(message)
        response = self._chain.response
        while response is not None and not response.closed and not response.wants_data and not client.gone:
            await client.step()
            await outlet.flush()
        if response is not None and response.paused_by is not None:
            client.watch_pause()

    async def _pass(self, message: Message) -> None:
        """Hand a message to the server as it is, in its place."""
        kind, to_client = message["type"], self._to_client
        if kind in BYPASSING_EXTENSIONS and self._app.takes_unseen():
            if to_client.may_change:
                raise RuntimeError(f"{kind!r} is not among the extensions of this scope: a plugin reads the body.")
            await self._wait_until(lambda: to_client.started)
            self._app.take_unseen(message, is_over=self._is_over or not to_client.started)
            await self._outlet.flush()
            return
        if kind in BODY_MESSAGES and self._app.state is not ResponseState.IDLE:
            self._app.check_ended(kind)
            # After its end: the server is to judge, when all that is held back has gone out.
            await self._wait_until(lambda: to_client.complete)
        if not self._is_over:
            await self._outlet.send(message)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Await what lets the app go on, or a reason for which it need not."""
        while not (condition() or self._is_over or self._client.gone):
            await self._client.step()
            await self._outlet.flush()

    # --- from the far ends; see `Waiter`, `Outlet`

    def _wake(self) -> None:
        """Something reached a far end. When no call of ours is there to send it, a task is made for that."""
        self._client.wake()
        if not self._outlet.drivers:
            self._outlet.flush_soon()

    def _went(self) -> None:
        """The server has been handed all there was."""
        if self._to_client.state is ResponseState.DONE and not self._to_client.messages:
            self.finish()

    # --- in the middle of a request

    def adopt(self, progress: Progress) -> FilterChain:
        """Take over a request whose app is running."""
        passage = self._passage
        assert passage is not None and passage.request_headers is not None
        self._chain.request.adopt(passage.request_headers, len(self._chain.request.stages))
        self._to_app.run(progress, self._server_scope["headers"], self._chain.request)
        self._client.adopt(progress)
        self._app.method = progress.method
        if progress.response is not None and passage.response_headers is not None:
            self._app.adopt(progress, passage.response_headers)
        return self._chain

    async def receive_heard(self, message: Message, way: PieceWay | None) -> Message:
        """`receive` for an app that began to listen before the request was taken over, after what the client said."""
        self._client.hear(message, way)
        await self._outlet.flush()
        return await self.receive()

    def hear_nothing(self) -> None:
        """The app has ceased to listen, and began before the request was taken over."""
        self._client.hear_nothing()

    # --- the end

    async def conclude(self) -> None:
        """Wait, once the app has ended, for what a plugin still holds back."""
        client = self._client
        if client.reader is not Reader.WITHHELD:
            # Nobody is left to read what the client says, but that it goes.
            client.reader = Reader.NOBODY
        if self._app.state is ResponseState.TRAILERS:
            self._outlet.drivers += 1
            self._app.end_without_trailers()
            self._outlet.drivers -= 1
        while not self._attributes.finished and self._is_response_pending:
            await client.step()
            await self._outlet.flush()
        await self._outlet.flush()

    async def conclude_raised(self) -> None:
        """`conclude` for an app that raised. A response that it has not ended will not become whole by waiting."""
        if self._app.body_ended:
            await self.conclude()

    @property
    def _is_response_pending(self) -> bool:
        """Whether a plugin holds back a response, or its end, that the client still waits for."""
        response = self._chain.response
        if response is None or response.closed or response.paused_by is None or self._client.gone:
            return False
        return not self._to_client.complete and self._to_client.reset_reason is None

    def finish(self) -> None:
        """End the stream for the plugins: once, when the last of the response has been handed to the server (as in
        Envoy, whatever the app does afterwards), else when the exchange ends.
        """
        if self._attributes.finished:
            return
        self._attributes.finished = True
        client = self._client
        if client.pause_timer is not None:
            client.forget_pause()
        if client.reader is not Reader.APP and client.state is ClientState.SENDING:
            # Of a body that plugins were to see, no more reaches the app.
            client.reader = Reader.WITHHELD
        if has_left(client.state is ClientState.GONE, self._to_client.state is ResponseState.DONE):
            self._chain.leave()
        self._chain.finish()

    async def end(self) -> None:
        """Finish, whatever happened."""
        if not self._attributes.finished:
            self.finish()
        tell_cut(self._environment, self._to_client, self._to_app)
        await self._client.close(self._outlet.give_task())
