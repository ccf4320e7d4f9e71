"""What the matrix asks each server and test client for: one request, one WebSocket."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import websockets
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from tests.servers.app import guarded
from tests.serving import Server

with warnings.catch_warnings():
    # Newer releases of Starlette want httpx2 for it, and take httpx as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketDenialResponse

SECONDS = 30.0
_SUBPROTOCOL = "chat"


@dataclass(frozen=True)
class Answer:
    """A response, or what came of a WebSocket: 101, its subprotocol and the echo, or how it was denied."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Client(Protocol):
    """One way to reach the app behind the plugins."""

    has_websockets: bool

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """One request."""
        ...

    def socket(self, headers: dict[str, str]) -> Answer:
        """One WebSocket to which "hi" is said."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def _answer(response: Any) -> Answer:
    return Answer(response.status_code, response.content, response.headers)


class OverTheWire:
    """httpx and websockets, to a server."""

    has_websockets = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = httpx.Client(base_url=server.url, timeout=SECONDS)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        return _answer(self._http.request(method, path, content=body, headers=headers))

    def socket(self, headers: dict[str, str]) -> Answer:
        url = f"ws://127.0.0.1:{self._server.port}/socket"
        protocols = [websockets.Subprotocol(_SUBPROTOCOL)]
        try:
            with connect(url, subprotocols=protocols, additional_headers=headers, proxy=None) as there:
                there.send("hi")
                told = f"{there.subprotocol} {there.recv(SECONDS)!s}".encode()
                return Answer(101, told, {})
        except websockets.InvalidStatus as error:
            return Answer(error.response.status_code, bytes(error.response.body or b""), {})

    def close(self) -> None:
        self._http.close()


class InAsgiTransport:
    """httpx's `ASGITransport`: no lifespan, no WebSockets; all requests in one event loop."""

    has_websockets = False

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(guarded()), base_url="http://testserver")

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        return _answer(self._run(self._http.request(method, path, content=body, headers=headers)))

    def socket(self, headers: dict[str, str]) -> Answer:
        raise NotImplementedError

    def close(self) -> None:
        self._run(self._http.aclose())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.close()


class InTestClient:
    """Starlette's (and FastAPI's) `TestClient`; in a `with` or, as often in tests, without."""

    has_websockets = True

    def __init__(self, *, lifespan: bool) -> None:
        self._stack = ExitStack()
        self._client = TestClient(guarded())
        if lifespan:
            self._stack.enter_context(self._client)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        return _answer(self._client.request(method, path, content=body, headers=headers))

    def socket(self, headers: dict[str, str]) -> Answer:
        try:
            with self._client.websocket_connect("/socket", subprotocols=[_SUBPROTOCOL], headers=headers) as there:
                there.send_text("hi")
                told = f"{there.accepted_subprotocol} {there.receive_text()}".encode()
                return Answer(101, told, {})
        except WebSocketDenialResponse as response:
            return Answer(response.status_code, response.content, response.headers)
        except WebSocketDisconnect as gone:
            # It has no other word for a handshake that was closed.
            return Answer(403 if gone.code == 1008 else gone.code, b"", {})

    def close(self) -> None:
        self._stack.close()
        self._client.close()
