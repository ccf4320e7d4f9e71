"""The app behind the plugin: it keeps what it saw, and answers what the test says."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers

from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send
from asgi_wasm.testing.exchange import GivenHeaders, SeenRequest, encoded


class TestApp:
    """Answers 200 with an empty body unless told otherwise; ``inner`` is an app to call instead."""

    __test__ = False

    def __init__(self, inner: ASGIApp | None = None) -> None:
        self.requests: list[SeenRequest] = []
        self._inner = inner
        self.respond()

    def respond(
        self,
        status: int = 200,
        body: bytes | str | Sequence[bytes] = b"",
        headers: GivenHeaders = (),
        trailers: GivenHeaders = (),
    ) -> None:
        """What is answered from now on; a list of bytes is sent piece by piece."""
        pieces = [body.encode()] if isinstance(body, str) else [body] if isinstance(body, bytes) else [*body]
        fields = encoded(headers)
        is_whole = isinstance(body, (str, bytes))
        if is_whole and not any(name == b"content-length" for name, _ in fields):
            fields.append((b"content-length", b"%d" % len(pieces[0])))
        self._status, self._pieces, self._headers = status, pieces, fields
        self.trailers = encoded(trailers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app itself."""
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        seen = SeenRequest(
            scope["method"],
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
            return
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
