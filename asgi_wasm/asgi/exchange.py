"""One HTTP request and its response between server, plugins and app."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi import translate
from asgi_wasm.asgi.environment import (
    BYPASSING_EXTENSIONS,
    Environment,
    give_up,
    guarded_scope,
    has_left,
    headers_dropped,
    make_chain,
    paused_by,
    share_scope,
    tell_cut,
)
from asgi_wasm.asgi.first import begin_reading
from asgi_wasm.asgi.lengths import said_by
from asgi_wasm.asgi.outlet import Outlet
from asgi_wasm.asgi.properties import ScopeAttributes, properties_of
from asgi_wasm.asgi.sides import RequestSide, ResponseSide
from asgi_wasm.host.streams.header_map import HeaderMap

if TYPE_CHECKING:
    from asgi_wasm.asgi.first import Told
    from asgi_wasm.asgi.types import Message, Receive, Scope, Send
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.streams.direction import Direction
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.host.streams.passage import Passage

from asgi_wasm.logs import get_logger

logger = get_logger("asgi_wasm.host")

# What an app sends after the head, by these or against the protocol.
_BODY_MESSAGES = frozenset({"http.response.body", "http.response.trailers", *BYPASSING_EXTENSIONS})

# How many times `pause_timeout` a pause may last while the client sends.
LONGEST_PAUSE = 10
SECOND_START = "Expected ASGI message 'http.response.body', but got a second 'http.response.start'."


@dataclass
class Progress:
    """How far a request has come, on the ASGI side, by the time that an exchange takes it over."""

    client_ended: bool
    # The request's method, as the app sees it.
    method: str
    # See `first.Told`; None once the app has it.
    first: Message | None = None
    client_gone: bool = False
    # The app awaits the server's own `receive` at this moment.
    app_is_reading: bool = False
    # The app's start message, once its headers are on their way to the client.
    response: Message | None = None
    bytes_out: int = 0
    complete: bool = False


class HttpExchange:
    """Runs one exchange: `run`, or `adopt` when the app has been called already, `receive` and `send` for it, `end`."""

    def __init__(
        self,
        environment: Environment,
        filters: Sequence[Filter],
        scope: Scope,
        receive: Receive,
        send: Send,
        told: Told,
        passage: Passage | None = None,
    ) -> None:
        """``passage`` is what has been done already; it is taken over."""
        self._environment = environment
        self._server_scope = scope
        self._server_receive = receive
        self._filters = filters
        # Weakly: a cycle would keep the server's connection until the garbage collector comes.
        me, kind = weakref.proxy(self), type(self)
        wake = partial(kind._wake, me)
        self._to_app = RequestSide(wake, partial(kind._break_off, me))
        trailers = "http.response.trailers" in (scope.get("extensions") or {})
        ends, version = (wake, partial(headers_dropped, environment, filters)), scope.get("http_version") or "1.1"
        self._to_client = ResponseSide(scope["method"], *ends, trailers=trailers, version=version)
        to_client, went = self._to_client, (partial(kind._client_went, me), partial(kind._response_went, me))
        self._outlet = Outlet(send, to_client.messages, *went)
        # A passage of ours has no other attributes.
        attributes: Any = ScopeAttributes(scope) if passage is None else passage.attributes
        self._attributes: ScopeAttributes = attributes
        self._chain = make_chain(environment, filters, self._to_app, self._to_client, self._attributes)
        self._passage = passage
        if passage is not None:
            self._chain.adopt(passage)
        else:
            self._chain.properties = properties_of(scope)
        self._attributes.bytes_sent = lambda: to_client.bytes_out
        # The client's side.
        self._client_ended = told.ends
        # Not only the headers told of the end.
        self._heard_end = told.first is not None
        self._client_gone = False
        # What the app may still read though it is not for the chain.
        self._unread: list[Message] = [] if told.first is None else [told.first]
        # A body that the chain need not see goes to the app directly.
        self._bypassed = False
        # The app has sent the last piece of a body, and the response has none or is at its end.
        self._app_ended = False
        self._response_ended = False
        # The stream is over for the plugins, and they have not seen the whole request.
        self._unseen = False
        # The app promised trailers, and has not sent the last; the body has ended before them.
        self._owes_trailers = self._awaits_trailers = False
        # The request's, as the app sees it: a plugin may have turned it.
        self._app_method: str = scope["method"]
        # The app is over: nobody is left to read what the client says.
        self._concluding = False
        self._trailers: list[tuple[bytes, bytes]] = []
        # Only one of them at a time: an app may receive in one task and send in another.
        self._reading = told.reading
        self._app_is_reading = False
        # Set while a resume, an answer or a piece of body that came from outside our own calls is not sent yet.
        self._change: asyncio.Future[None] | None = None
        self._driving = 0
        self._pause_timer: asyncio.TimerHandle | None = None
        self._paused_since = 0.0

    async def run(self) -> None:
        """Serve the request. Raises what the app raises, unless a plugin has answered already."""
        try:
            self._driving += 1
            headers = self._feed_request()
            self._driving -= 1
            self._to_app.length.own, self._to_app.length.way = (
                said_by(self._server_scope["headers"]),
                self._chain.request,
            )
            while not (self._to_app.forwarded or self._chain.answered_locally or self._client_gone):
                await self._step()
            await self._outlet.flush()
            if self._to_app.forwarded and not self._over:
                await self._read_ahead()
            if self._to_app.forwarded and not self._over:
                await self._call_app(headers)
            await self.conclude()
        except Exception as error:
            if not self._is_tunnel:
                raise
            logger.error("the server does not take a plugin's answer to CONNECT as a response: %s", error)
        finally:
            await self.end()

    @property
    def _is_tunnel(self) -> bool:
        """Whether a plugin has answered CONNECT: some servers take what follows for the tunnel's (h11)."""
        return self._chain.answered_locally and self._server_scope["method"] == "CONNECT"

    def _feed_request(self) -> HeaderMap:
        passage, passed = self._passage, 0
        if passage is None or passage.request_headers is None:
            headers, verdict = translate.request_headers(self._server_scope), None
        else:
            headers, passed, verdict = passage.request_headers, passage.passed, passage.verdict
            if passage.reply is not None:
                self._chain.adopt_answer(passage)
                return headers
        self._chain.request.headers(headers, self._client_ended, passed=passed, verdict=verdict)
        return headers

    async def conclude(self) -> None:
        """Wait, once the app has ended, for what a plugin still holds back."""
        self._concluding = True
        if self._awaits_trailers:
            self._end_without_trailers()
        while self._response_pending:
            await self._step()
            await self._outlet.flush()
        await self._outlet.flush()

    async def conclude_raised(self) -> None:
        """`conclude` for an app that raised. A response that it has not ended will not become whole by waiting."""
        if self._app_ended:
            await self.conclude()

    def _end_without_trailers(self) -> None:
        """End a response whose app promised trailers and ended without them."""
        response = self._chain.response
        if self._app_ended and response is not None and not response.closed:
            self._awaits_trailers = False
            self._driving += 1
            response.data(b"", True)
            self._driving -= 1

    def finish(self) -> None:
        """End the stream for the plugins: once, when the last of the response has been handed to the server (as in
        Envoy, whatever the app does afterwards), else when the exchange ends.
        """
        if self._attributes.finished:
            return
        self._attributes.finished = True
        if self._pause_timer is not None:
            self._forget_pause()
        # Of a body that plugins were to see, no more reaches the app: to it, the client has gone.
        self._unseen = not (self._client_ended or self._bypassed)
        if has_left(self._client_gone, self._to_client.complete):
            self._chain.leave()
        self._chain.finish()

    async def end(self) -> None:
        """Finish, whatever happened."""
        self.finish()
        await self._close()

    # --- in the middle of a request

    def adopt(self, progress: Progress) -> FilterChain:
        """Take over a request whose app is running."""
        passage = self._passage
        assert passage is not None and passage.request_headers is not None
        self._chain.request.adopt(passage.request_headers, len(self._chain.request.stages))
        self._to_app.forwarded = self._bypassed = True
        self._client_ended, self._client_gone = progress.client_ended, progress.client_gone
        self._app_method = progress.method
        self._app_is_reading = progress.app_is_reading
        if progress.response is not None and passage.response_headers is not None:
            self._chain.adopt_response(passage.response_headers)
            self._to_client.adopt(progress.response, passage.response_headers, progress.bytes_out)
            self._to_client.complete = self._app_ended = self._response_ended = progress.complete
        return self._chain

    def hear(self, message: Message) -> None:
        """What the client said to an app that began to listen before the request was taken over."""
        self._app_is_reading = False
        self._hear(message)
        self._notify()

    # --- the app

    async def _read_ahead(self) -> None:
        """Let plugins see what is there of a body that they may change, so that the app is told its true length.

        Nothing is waited for, and who asked for a 100 (Continue) is not given one for this (RFC 9110 10.1.1).
        """
        own = self._to_app.length.own
        if not own or not self._chain.request.may_change or translate.expects_continue(self._server_scope):
            return
        while not (self._client_ended or self._client_gone or self._over):
            if self._reading is None:
                self._reading = await begin_reading(self._server_receive)
            # No further than one piece, and the end where it is an empty one.
            if not self._hear_reading() or self._attributes.request_size < own:
                return

    def _frame_request(self, scope: dict[str, Any], changed: bool) -> None:
        """Say in the app's scope how long the body is."""
        request, length = self._chain.request, self._to_app.length
        if changed or request.may_change:
            scope["headers"] = length.settle(scope["headers"], self._to_app.size, may_change=request.may_change)
            if length.announced is not None:
                # It says where the body ends as well (RFC 9112 6.2).
                scope["headers"] = [field for field in scope["headers"] if field[0] != b"transfer-encoding"]

    async def _call_app(self, headers: HeaderMap) -> None:
        scope = guarded_scope(self._server_scope, self._filters, self._chain.properties)
        if headers.changed and not translate.is_target_sendable(headers):
            self._chain.refuse_request()
            return
        if headers.changed and (dropped := translate.apply_request_headers(scope, headers)):
            self._headers_dropped(dropped)
        self._frame_request(scope, headers.changed)
        self._app_method = scope["method"]
        self._bypassed = not self._chain.request.reads_body
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
        if not self._over:
            return False
        # The client has its answer; the app was told of a disconnect, and most frameworks raise on that.
        logger.info("the app raised %s after a plugin had answered", type(error).__name__, exc_info=error)
        return True

    async def receive(self) -> Message:
        """The app's `receive`."""
        while True:
            if self._to_app.messages:
                return self._to_app.messages.popleft()
            if self._unread:
                return self._unread.pop(0)
            if self._over or self._client_gone or self._unseen:
                return {"type": "http.disconnect"}
            if self._reading is None and not self._app_is_reading and self._chain.request.paused_by is None:
                # Nothing to wait for but the client: no task is needed.
                self._app_is_reading = True
                try:
                    self._hear(await self._server_receive())
                finally:
                    self._app_is_reading = False
                    self._notify()
            else:
                await self._step()
            await self._outlet.flush()

    async def send(self, message: Message) -> None:
        """The app's `send`."""
        if self._over:
            if message.get("more_body", False):
                # As to a client that has gone (ASGI 2.4); an endless stream would otherwise never be told to end.
                raise OSError("a plugin has answered in the app's stead")
            return
        for context in self._chain.contexts[:1]:
            # The app may call `send` from anywhere.
            context.vm.check_thread()
        self._driving += 1
        try:
            passes = self._take(message)
        finally:
            self._driving -= 1
        await self._outlet.flush()
        if passes:
            await self._pass(message)
        response = self._chain.response
        while response is not None and not response.closed and not response.wants_data and not self._client_gone:
            await self._step()
            await self._outlet.flush()
        if response is not None and response.paused_by is not None:
            self._watch_pause()

    def _take(self, message: Message) -> bool:
        """Feed a message of the app to the chain. True when it is not for the chain and passes unchanged."""
        kind = message["type"]
        response = self._chain.response
        if kind == "http.response.start" and response is None:
            self._take_start(message)
        elif kind == "http.response.start":
            # The server cannot tell: the first may still be held back.
            raise RuntimeError(SECOND_START)
        elif kind == "http.response.body" and response is not None and not self._app_ended:
            self._take_body(message)
        elif kind == "http.response.trailers" and response is not None and self._owes_trailers and self._app_ended:
            self._take_trailers(message, response)
        else:
            return True
        return False

    async def _pass(self, message: Message) -> None:
        """Hand a message to the server as it is, in its place."""
        response, kind = self._chain.response, message["type"]
        client = self._to_client
        if response is not None and kind in BYPASSING_EXTENSIONS and not self._app_ended:
            if client.may_change:
                raise RuntimeError(f"{kind!r} is not among the extensions of this scope: a plugin reads the body.")
            await self._wait_until(lambda: client.started)
            self._take_unseen(message)
            await self._outlet.flush()
            return
        if response is not None and kind in _BODY_MESSAGES:
            # After its end: the server is to judge, when all that is held back has gone out.
            await self._wait_until(lambda: client.complete)
        if not self._over:
            await self._outlet.send(message)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Await what lets the app go on, or a reason for which it need not."""
        while not (condition() or self._over or self._client_gone):
            await self._step()
            await self._outlet.flush()

    def _take_start(self, message: Message) -> None:
        passage = self._passage
        self._owes_trailers = bool(message.get("trailers"))
        way: dict[str, Any] = {}
        if passage is None or passage.response_headers is None:
            headers = translate.response_headers(message)
        else:
            headers, way = passage.response_headers, {"passed": passage.passed, "verdict": passage.verdict}
        may_change = False
        for context in self._chain.contexts:
            may_change = may_change or context.vm.on_body[1] is not None
        self._to_client.begin(message, headers, may_change=may_change)
        # A passage takes no other responses than those with a body.
        end = not (way or translate.may_have_body(self._app_method, message["status"]))
        if not (end or way) and self._to_client.length.own == 0:
            end = not self._owes_trailers
        self._chain.respond(headers, end, **way)
        self._response_ended = end

    def _take_body(self, message: Message) -> None:
        response = self._chain.response
        more = message.get("more_body", False)
        self._app_ended = not more
        if response is None or response.closed or self._response_ended:
            return
        data = message.get("body", b"")
        self._response_ended = not more
        self._awaits_trailers = self._owes_trailers and not more
        if data or not (more or self._owes_trailers):
            response.data(bytes(data), not more and not self._owes_trailers)

    def _take_trailers(self, message: Message, response: Direction) -> None:
        self._trailers += translate.header_pairs(message)
        if not message.get("more_trailers", False):
            self._owes_trailers = False
            if self._awaits_trailers and not response.closed:
                self._awaits_trailers = False
                response.trailers(HeaderMap(self._trailers))

    def _take_unseen(self, message: Message) -> None:
        """A piece of the body by an extension that plugins do not see, and do not ask to."""
        more = message.get("more_body", False)
        self._app_ended = not more
        if not (self._over or self._response_ended):
            self._response_ended = not more
            self._awaits_trailers = self._owes_trailers and not more
            self._to_client.unseen(message)

    # --- the client

    @property
    def _over(self) -> bool:
        """Whether nothing that the app still says can reach the client."""
        return self._chain.answered_locally or self._to_client.reset_reason is not None

    @property
    def _response_pending(self) -> bool:
        """Whether a plugin holds back a response, or its end, that the client still waits for."""
        if self._client_gone or self._to_client.complete or self._to_client.reset_reason is not None:
            return False
        response = self._chain.response
        return response is not None and not response.closed and response.paused_by is not None

    async def _step(self) -> None:
        """Await one thing that can change the exchange: a message of the client, or something from outside."""
        if self._hear_reading():
            return
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        waiting: set[asyncio.Future[Any]] = {self._change}
        if self._may_read:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._server_receive())
            waiting.add(self._reading)
        if paused_by(self._chain) is not None:
            self._watch_pause()
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._hear_reading()

    def _hear_reading(self) -> bool:
        """Take what was read meanwhile, without awaiting: an app may cancel its `receive` at the first await."""
        reading = self._reading
        if reading is None or not reading.done():
            return False
        self._reading = None
        try:
            self._hear(reading.result())
        finally:
            self._notify()
        return True

    @property
    def _may_read(self) -> bool:
        """Whether the client may be heard: not by two at once, and no further than the app reads or a plugin holds.

        After its last word all that can come is that it goes.
        """
        if self._client_gone or self._app_is_reading:
            return False
        if self._concluding:
            return True
        unread = self._unread or self._to_app.messages
        if unread:
            return not unread[-1].get("more_body", False)
        return self._client_ended or self._bypassed or self._chain.request.wants_data

    def _watch_pause(self) -> None:
        """A plugin holds something: give up when nothing more happens for too long."""
        if self._pause_timer is None:
            self._paused_since = asyncio.get_running_loop().time()
            self._arm_pause()

    def _arm_pause(self) -> None:
        loop, seconds = asyncio.get_running_loop(), self._environment.pause_timeout
        # Pieces of the client's renew it, but not for ever: it may drip them.
        left = self._paused_since + LONGEST_PAUSE * seconds - loop.time()
        self._pause_timer = loop.call_later(max(0.0, min(seconds, left)), self._give_up)

    def _renew_pause(self) -> None:
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._arm_pause()

    def _forget_pause(self) -> None:
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None

    def _give_up(self) -> None:
        self._pause_timer = None
        give_up(self._environment, self._chain)

    def _hear(self, message: Message) -> None:
        """Take a message of the client."""
        if message["type"] == "http.disconnect":
            self._client_gone = True
        elif message["type"] != "http.request":
            self._unread.append(message)
        elif self._concluding:
            self._client_ended = not message.get("more_body", False)
        elif self._client_ended:
            self._hear_after_end(message)
        else:
            self._hear_body(message)

    def _hear_after_end(self, message: Message) -> None:
        """What comes after the end, or where headers told that there is no body: they never make one vanish."""
        data, more = message.get("body"), message.get("more_body", False)
        if not any(plugin_filter.sees_request_body for plugin_filter in self._filters):
            self._unread.append(message)
        elif data and not self._heard_end:
            self._client_ended = False
            self._bypassed = self._to_app.forwarded and not self._chain.request.reads_body
            self._hear_body(message)
        elif data:
            logger.warning("what came after a request's end is kept from the app: no plugin has seen it")
        elif not (more and not self._heard_end):
            # An empty piece before the end is no body (httpx's `ASGITransport` sends one with every GET).
            self._heard_end = True
            self._unread.append(message)

    def _hear_body(self, message: Message) -> None:
        body = message.get("body", b"")
        self._client_ended = self._heard_end = not message.get("more_body", False)
        self._attributes.request_size += len(body)
        if self._bypassed:
            self._unread.append(message)
        elif body or self._client_ended:
            self._renew_pause()
            self._driving += 1
            try:
                self._chain.request.data(bytes(body), self._client_ended)
            finally:
                self._driving -= 1

    def _break_off(self, reason: str) -> None:
        """The app cannot have the whole body that it was promised."""
        logger.error("a request was broken off: %s", reason)
        self._chain.break_off()

    def _notify(self) -> None:
        """Let every `_step` look again."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def _wake(self) -> None:
        """Something reached a far end. When no call of ours is there to send it, a task is made for that."""
        if self._pause_timer is not None:
            self._forget_pause()
            if paused_by(self._chain) is not None:
                self._watch_pause()
        self._notify()
        if not self._driving:
            self._outlet.flush_soon()

    def _response_went(self) -> None:
        if self._to_client.complete and not self._to_client.messages:
            self.finish()

    def _client_went(self) -> None:
        self._client_gone = True
        self._notify()

    async def _close(self) -> None:
        if self._pause_timer is not None:
            self._forget_pause()
        client = self._to_client
        if client.reset_reason is not None or client.length.cut is not None:
            tell_cut(client)
        if self._to_app.length.cut is not None:
            logger.error("a request's body was cut to its length: %s", self._to_app.length.cut)
        tasks: list[asyncio.Future[Any]] = []
        reading, self._reading = self._reading, None
        for task in (reading, self._outlet.give_task()):
            if task is not None and not task.done():
                # All of them before the first await, at which we may be cancelled (again).
                task.cancel()
                tasks.append(task)
        if tasks:
            await asyncio.wait(tasks)

    def _headers_dropped(self, names: list[bytes]) -> None:
        headers_dropped(self._environment, self._filters, names)
