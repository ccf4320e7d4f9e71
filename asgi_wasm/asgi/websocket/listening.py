"""The client of a WebSocket: what it said before the app asked, and that it goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_wasm.asgi.exchange.states import HEARD, ClientState, Heard
from asgi_wasm.asgi.exchange.waiting import Waiter

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.environment import Environment
    from asgi_wasm.asgi.types import Message, Receive
    from asgi_wasm.host.streams.filter_chain import FilterChain


class Listening(Waiter):
    """Hears the client while plugins and app have not settled the handshake."""

    def __init__(self, environment: Environment, chain: FilterChain, receive: Receive) -> None:
        super().__init__(environment, chain, receive)
        self.heard: deque[Message] = deque()
        # It is announced by the scope, and is there by `websocket.connect`, before which a server takes no answer.
        self.state = ClientState.ANNOUNCED

    @property
    def connected(self) -> bool:
        """Whether it has said `websocket.connect`."""
        return self.state is not ClientState.ANNOUNCED

    @property
    def gone(self) -> bool:
        """Whether it has gone."""
        return self.state is ClientState.GONE

    @property
    def may_read(self) -> bool:
        """No further than one frame ahead: a client sends none before it is accepted (RFC 6455 4.1)."""
        return self.reading is not None or (not self.gone and len(self.heard) < 2)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Await a condition that something outside makes true, or the client's going."""
        while not (condition() or self.gone):
            await self.step()

    def _hear(self, message: Message) -> None:
        self.heard.append(message)
        leaves = message["type"] == "websocket.disconnect"
        self.state = HEARD[self.state, Heard.LEAVES if leaves else Heard.PIECE]
