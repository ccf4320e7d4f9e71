"""Plays a `Plan` with and without plugins: a strict server, an app and plugins that do as it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.driving import http_scope
from tests.guests import PAUSE, REQUEST, REQUEST_BODY, REQUEST_HEADERS, RESPONSE, RESPONSE_BODY, RESPONSE_HEADERS, Guest
from tests.streams.plans import Action, App, Client, Plan

LENGTH = b"content-length"
EXTENSIONS: dict[str, Any] = {"http.response.trailers": {}}
TICK = 5
# Virtual; a pause is given up long before.
MOST_SECONDS = 60.0


class ServerRefusedError(Exception):
    """What the server cannot send."""


class Server:
    """Takes what ASGI and HTTP allow, raises for the rest, and keeps what the client sees."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.start: Message | None = None
        self.body = b""
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.body_ended = self.complete = self.over = False
        # Ended before its length: servers of HTTP/2 do not look, and clients do.
        self.malformed = False
        self.refused: list[str] = []
        self._given = 0
        self._receiving = False
        loop = asyncio.get_running_loop()
        # The client has left; it has, or the response is complete.
        self._left, self._over = loop.create_future(), loop.create_future()
        if client.leaves is not None:
            loop.call_later(client.leaves, self._leave)

    def _leave(self) -> None:
        if not self._left.done():
            self._left.set_result(None)
            self._end()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def receive(self) -> Message:
        assert not self._receiving, "two calls of receive at once"
        self._receiving = True
        try:
            return await self._receive()
        finally:
            self._receiving = False

    async def _receive(self) -> Message:
        pieces = [*self.client.pieces, b""] if self.client.ends_apart or not self.client.pieces else self.client.pieces
        if self._given < len(pieces) and not (self._left.done() or self.complete):
            if self._given and self.client.pace:
                await asyncio.wait([self._left], timeout=self.client.pace)
            if not self._left.done():
                self._given += 1
                more = self._given < len(pieces)
                return {"type": "http.request", "body": pieces[self._given - 1], "more_body": more}
        await asyncio.wait([self._over])
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        assert not self.over, f"{message} after the request"
        if self._left.done():
            return
        reason = self._why_not(message)
        if reason:
            self.refused.append(reason)
            raise ServerRefusedError(reason)
        if self.complete:
            self._end()
        await asyncio.sleep(0)

    def _why_not(self, message: Message) -> str:
        kind = message["type"].removeprefix("http.response.")
        if kind == "start":
            if self.start is not None:
                return "a second start"
            self.start = message
            return ""
        if self.start is None or self.complete:
            return f"{kind} out of place"
        if kind == "body" and not self.body_ended:
            return self._take_body(bytes(message.get("body", b"")), message.get("more_body", False))
        if kind == "trailers" and self.body_ended:
            self.trailers = list(message["headers"])
            self.complete = not message.get("more_trailers", False)
            return ""
        return f"{kind} out of place"

    def _take_body(self, data: bytes, more: bool) -> str:
        assert self.start is not None
        if not self.has_body:
            data = b""
        lengths = self.lengths
        if self.has_body and lengths and len(self.body) + len(data) > int(lengths[0]):
            return "too much"
        self.body += data
        if not more:
            self.malformed = bool(self.has_body and lengths and len(self.body) < int(lengths[0]))
            if self.malformed and self.client.version == "1.1":
                return "too little"
            self.body_ended = True
            self.complete = not self.start.get("trailers")
        return ""

    @property
    def has_body(self) -> bool:
        return self.start is not None and self.client.method != "HEAD" and self.start["status"] not in (204, 304)

    @property
    def lengths(self) -> list[bytes]:
        return [] if self.start is None else [value for name, value in self.start["headers"] if name == LENGTH]


@dataclass
class Seen:
    """What came of a stream."""

    server: Server
    # What the app raised, was told and read.
    error: str = ""
    scope_lengths: list[bytes] = field(default_factory=list)
    read: bytes = b""
    ends: int = 0
    told_gone: bool = False
    called: bool = False
    hung: bool = False
    # (guest, phase, end_of_stream)
    callbacks: list[tuple[int, str, int]] = field(default_factory=list)


def app_of(plan: App, seen: Callable[[], Seen]) -> ASGIApp:
    """The app of this plan."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        here = seen()
        here.called = True
        here.scope_lengths = [value for name, value in scope["headers"] if name == LENGTH]
        await read(here, receive)
        if plan.ending == "at once":
            raise KeyError("at once")
        trailers = {"trailers": True} if plan.trailers else {}
        await send({"type": "http.response.start", "status": plan.status, "headers": plan.headers, **trailers})
        pieces = plan.pieces or (b"",)
        for index, piece in enumerate(pieces):
            if plan.pace:
                await asyncio.sleep(plan.pace)
            last = index == len(pieces) - 1
            if last and plan.ending == "in the middle":
                raise KeyError("in the middle")
            await send({"type": "http.response.body", "body": piece, "more_body": not last})
        if plan.trailers:
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
        if plan.ending == "sends on":
            await send({"type": "http.response.body", "body": b"surplus", "more_body": True})
        elif plan.ending == "at the end":
            raise KeyError("at the end")

    async def read(here: Seen, receive: Receive) -> None:
        count = 0
        while (plan.reads is None or count < plan.reads) and not (here.ends or here.told_gone):
            message = await receive()
            count += 1
            here.told_gone = message["type"] == "http.disconnect"
            here.read += message.get("body", b"")
            here.ends += message["type"] == "http.request" and not message.get("more_body", False)

    return app


class Plugin:
    """One plugin for all streams: what it does in one is in the plan of the moment."""

    def __init__(self, index: int, playing: Playing) -> None:
        self.index = index
        self._playing = playing
        self._calls: dict[str, int] = {}
        self._due: list[tuple[int, int, int, bytes | None]] = []
        self.guest = Guest(
            on_request_headers=self._callback("Q", REQUEST),
            on_request_body=self._callback("q", REQUEST),
            on_response_headers=self._callback("S", RESPONSE),
            on_response_body=self._callback("s", RESPONSE),
            on_response_trailers=self._callback("t", RESPONSE),
            on_tick=self._on_tick,
        )

    def reset(self) -> None:
        """A new stream begins."""
        self._calls.clear()

    def _callback(self, phase: str, kind: int) -> Any:
        def callback(api: Hostcalls, context: int, size: int, end: int = 1) -> int:
            self._playing.seen.callbacks.append((self.index, phase, end))
            scripts = self._playing.plan.scripts
            actions = scripts[self.index].get(phase, []) if self.index < len(scripts) else []
            call = self._calls[phase] = self._calls.get(phase, 0) + 1
            return self._act(api, context, phase, kind, actions[call - 1]) if call <= len(actions) else 0

        return callback

    def _act(self, api: Hostcalls, context: int, phase: str, kind: int, action: Action) -> int:
        name, headers = action[0], REQUEST_HEADERS if phase == "Q" else RESPONSE_HEADERS
        if name in ("hold", "fill"):
            ticks, content = (action[1], None) if name == "hold" else (action[2], action[1])
            self._due.append((ticks, context, kind, content))
            api.set_tick_period_milliseconds(TICK)
        elif name == "body":
            api.set_buffer_bytes(REQUEST_BODY if kind == REQUEST else RESPONSE_BODY, action[1])
        elif name == "length" and action[1] is None:
            api.remove_header_map_value(headers, LENGTH)
        elif name in ("length", "status", "method"):
            field = {"length": LENGTH, "status": b":status", "method": b":method"}[name]
            api.replace_header_map_value(headers, field, action[1])
        elif name == "answer":
            api.send_local_response(action[1], action[2])
        elif name == "close":
            api.close_stream(kind)
        return PAUSE if name in ("hold", "fill", "stop", "answer", "close") else 0

    def _on_tick(self, api: Hostcalls, root: int) -> None:
        due = [each for each in self._due if each[0] <= 1]
        self._due = [(ticks - 1, *rest) for ticks, *rest in self._due if ticks > 1]  # type: ignore[misc]
        if not self._due:
            api.set_tick_period_milliseconds(0)
        for _, context, kind, content in due:
            if api.raw("set_effective_context", context):
                continue
            if content is not None:
                # Refused where the body is not this plugin's at the moment.
                api.raw("set_buffer_bytes", kind, 0, 0xFFFFFFFF, *api.host.store(content))
            api.raw("continue_stream", kind)
            api.raw("set_effective_context", 0)


class Playing:
    """Plays one plan after the other."""

    def __init__(self, plugins: int) -> None:
        self.plugins = [Plugin(index, self) for index in range(plugins)]
        self.plan: Plan
        self.seen: Seen

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app behind the plugins: that of the plan."""
        await app_of(self.plan.app, lambda: self.seen)(scope, receive, send)

    async def play(self, plan: Plan, app: ASGIApp) -> Seen:
        """What comes of the plan."""
        self.plan = plan
        for plugin in self.plugins:
            plugin.reset()
        server = Server(plan.client)
        self.seen = seen = Seen(server)
        client = plan.client
        scope = http_scope(client.method, headers=client.headers, http_version=client.version, extensions=EXTENSIONS)
        task = asyncio.ensure_future(app(scope, server.receive, server.send))
        if plan.cancelled is not None:
            await asyncio.wait([task], timeout=plan.cancelled)
            for _ in range(plan.cancels):
                task.cancel()
                await asyncio.sleep(0)
        await asyncio.wait([task], timeout=MOST_SECONDS)
        seen.hung = not task.done()
        if seen.hung:
            task.cancel()
            await asyncio.wait([task])
        server.over = True
        error = None if task.cancelled() else task.exception()
        seen.error = "" if error is None else f"{type(error).__name__}: {error}"
        return seen
