"""The client of an HTTP request: what it says of the body, who gets that, and that it goes."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.endings import tell_after_end
from asgi_wasm.asgi.exchange.states import HEARD, ClientState, Heard
from asgi_wasm.asgi.exchange.waiting import Waiter
from asgi_wasm.asgi.messages.first import begin_reading

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.environment import Environment
    from asgi_wasm.asgi.exchange.outlet import Outlet
    from asgi_wasm.asgi.exchange.progress import Progress
    from asgi_wasm.asgi.exchange.sides import RequestSide
    from asgi_wasm.asgi.messages.first import Told
    from asgi_wasm.asgi.properties import ScopeAttributes
    from asgi_wasm.asgi.types import Message, Receive
    from asgi_wasm.host.plan import Plan
    from asgi_wasm.host.streams.direction import PieceWay
    from asgi_wasm.host.streams.filter_chain import FilterChain


class Reader(IntEnum):
    """Who gets the body that the client sends."""

    #: The plugins, and what they let pass the app.
    CHAIN = 0
    #: The app: no plugin is to see it.
    APP = 1
    #: Nobody: the stream is over for the plugins, and what they have not seen the app does not get.
    WITHHELD = 2
    #: Nobody: the app is over.
    NOBODY = 3


class Client(Waiter):
    """Hears the client of one exchange. ``unread`` is what the app may still read though it is not for the chain."""

    def __init__(
        self,
        environment: Environment,
        chain: FilterChain,
        receive: Receive,
        told: Told,
        plan: Plan,
        to_app: RequestSide,
        outlet: Outlet,
        attributes: ScopeAttributes,
    ) -> None:
        super().__init__(environment, chain, receive, told.reading)
        self.state = ClientState.SENDING
        if told.ends:
            self.state = ClientState.ANNOUNCED if told.first is None else ClientState.ENDED
        self.unread: list[Message] = [] if told.first is None else [told.first]
        self.reader = Reader.CHAIN
        # The app awaits the server's own `receive` at this moment.
        self.app_is_reading = False
        self._plan = plan
        self._to_app = to_app
        self._outlet = outlet
        self._attributes = attributes

    @property
    def gone(self) -> bool:
        """Whether it has gone."""
        return self.state is ClientState.GONE

    def adopt(self, progress: Progress) -> None:
        """Take over a request whose app is running, or of whose body plugins have seen something."""
        self.app_is_reading = progress.app_is_reading
        self.reader = Reader.APP
        if progress.shows_body:
            self.state = ClientState.ENDED if progress.client_ended else ClientState.SENDING
            self.reader = Reader.CHAIN if self._chain.request.reads_body else Reader.APP
            self._to_app.adopt(progress)
        if progress.client_gone:
            self.leaves()

    def leaves(self) -> None:
        """It has gone."""
        self.state = HEARD[self.state, Heard.LEAVES]
        self.notify()

    @property
    def may_read(self) -> bool:
        """Whether the client may be heard: not by two at once, and no further than the app reads or a plugin holds.

        After its last word all that can come is that it goes.
        """
        if self.state is ClientState.GONE or self.app_is_reading:
            return False
        if self.reader is Reader.NOBODY:
            return True
        unread = self.unread or self._to_app.messages
        if unread:
            return not unread[-1].get("more_body", False)
        return self.state is not ClientState.SENDING or self.reader is Reader.APP or self._chain.request.wants_data

    # --- reading

    async def read_for_app(self) -> None:
        """Await the server's `receive` for the app: no task is needed where there is nothing else to wait for."""
        self.app_is_reading = True
        try:
            self._hear(await self._receive())
        finally:
            self.app_is_reading = False
            self.notify()

    async def read_ahead(self, size: int, progress: Progress | None) -> None:
        """Hear what is there already of a body of this ``size``. Nothing is waited for."""
        if progress is not None and progress.ahead is not None:
            self._hear(progress.ahead, progress.way)
            if self._attributes.request_size < size:
                return
        while self.state is ClientState.SENDING and not self._chain.answered_locally:
            if self.reading is None:
                self.reading = await begin_reading(self._receive)
            # No further than one piece, and the end where it is an empty one.
            if not self.take_reading() or self._attributes.request_size < size:
                return

    # --- hearing

    def hear(self, message: Message, way: PieceWay | None = None) -> None:
        """What the client said to an app that began to listen before the request was taken over.

        ``way`` is that of a piece of the body that some plugins have seen already.
        """
        self.app_is_reading = False
        self._hear(message, way)
        self.notify()

    def hear_nothing(self) -> None:
        """That app has ceased to listen."""
        self.app_is_reading = False
        self.notify()

    def _hear(self, message: Message, way: PieceWay | None = None) -> None:
        if message["type"] == "http.disconnect":
            self.state = HEARD[self.state, Heard.LEAVES]
        elif message["type"] != "http.request":
            self.unread.append(message)
        elif self.reader < Reader.WITHHELD and self.state is not ClientState.GONE:
            if self.state is ClientState.SENDING:
                self._hear_body(message, way)
            else:
                self._hear_after_end(message)

    def _hear_body(self, message: Message, way: PieceWay | None = None) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        self.state = HEARD[self.state, (Heard.PIECE if body else Heard.EMPTY) if more else Heard.LAST]
        if way is None:
            self._attributes.request_size += len(body)
        if self.reader is Reader.APP:
            self.unread.append(message)
        elif body or not more:
            self.renew_pause()
            self._outlet.drivers += 1
            try:
                self._chain.request.data(bytes(body), not more, way)
            finally:
                self._outlet.drivers -= 1

    def _hear_after_end(self, message: Message) -> None:
        """What comes after the end, or where headers told that there is no body: they never make one vanish."""
        data, announced = message.get("body"), self.state is ClientState.ANNOUNCED
        if not self._plan.sees_body.request:
            self.unread.append(message)
        elif data and announced:
            passes = self._to_app.forwarded and not self._chain.request.reads_body
            self.reader = Reader.APP if passes else Reader.CHAIN
            self._hear_body(message)
        elif tell_after_end(self._environment, data):
            pass
        elif not announced or not message.get("more_body", False):
            self.state = HEARD[self.state, Heard.LAST]
            self.unread.append(message)
