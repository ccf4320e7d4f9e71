"""The app behind the plugin: it keeps what it saw, and answers what the test says."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers

from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from asgi_wasm.testing.exchange import GivenHeaders, SeenRequest, encoded, pieces_of

# Statuses by which a WebSocket is denied.
_ERRORS = 400


class TestApp:
    """Answers 200 with an empty body unless told otherwise; ``inner`` is an app to call instead.

    A WebSocket it accepts, and hears until the client goes; told to answer an error, it denies it by that.
    """

    __test__ = False

    def __init__(self, inner: ASGIApp | None = None) -> None:
        self.requests: list[SeenRequest] = []
        self._inner = inner
        self.respond()

    @property
    def is_tests_own(self) -> bool:
        """Whether another app answers, which may wait for anything."""
        return self._inner is not None

    def respond(
        self,
        status: int = 200,
        body: bytes | str | Iterable[bytes | str] = b"",
        headers: GivenHeaders = (),
        trailers: GivenHeaders = (),
    ) -> None:
        """What is answered from now on; a list of bytes is sent piece by piece."""
        pieces = pieces_of(body)
        fields = encoded(headers)
        is_whole = isinstance(body, (str, bytes))
        if is_whole and not any(name == b"content-length" for name, _ in fields):
            fields.append((b"content-length", b"%d" % len(pieces[0])))
        self._status, self._pieces, self._headers = status, pieces, fields
        self.trailers = encoded(trailers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app itself."""
        is_http = scope["type"] == "http"
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        seen = SeenRequest(
            scope["method"] if is_http else "GET",
            target.decode("latin-1"),
            scope["path"],
            Headers(raw=list(scope["headers"])),
            scope["scheme"],
            scope=dict(scope),
        )
        self.requests.append(seen)

        async def reading() -> dict[str, object]:
            message = await receive()
            if message["type"] == "http.request":
                seen.body += message.get("body", b"")
                seen.complete = not message.get("more_body", False)
            return dict(message)

        if self._inner is not None:
            await self._inner(scope, reading, send)
        elif is_http:
            await self._answer(seen, reading, send)
        else:
            await self._shake_hands(receive, send)

    async def _answer(self, seen: SeenRequest, reading: Receive, send: Send) -> None:
        while not seen.complete:
            if (await reading())["type"] == "http.disconnect":
                return
        start = {"type": "http.response.start", "status": self._status, "headers": list(self._headers)}
        await send({**start, "trailers": True} if self.trailers else start)
        for index, piece in enumerate(self._pieces or [b""]):
            more = index < len(self._pieces) - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        if self.trailers:
            await send({"type": "http.response.trailers", "headers": list(self.trailers)})

    async def _shake_hands(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._status < _ERRORS:
            fields = [pair for pair in self._headers if pair[0] != b"content-length"]
            await send({"type": "websocket.accept", "headers": fields})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        start = {"type": "websocket.http.response.start", "status": self._status, "headers": list(self._headers)}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"".join(self._pieces)})
