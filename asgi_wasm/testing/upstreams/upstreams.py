"""Upstreams that a test plays: what a plugin calls by `proxy_http_call` is matched, answered and kept.

What it calls by gRPC is the upstream's ``grpc`` (`testing.upstreams.grpc`).
"""

from __future__ import annotations

import asyncio
import json as json_module
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers

from asgi_wasm.services.callouts.messages import Answer, CalloutError, ConnectError, ConnectionLostError, Request
from asgi_wasm.testing.clock import ManualClock
from asgi_wasm.testing.exchange import NOT_GIVEN, GivenHeaders, encoded
from asgi_wasm.testing.unexpected import UnexpectedCallError
from asgi_wasm.testing.upstreams.called import CalledRequest, Pattern
from asgi_wasm.testing.upstreams.grpc import TestGrpc

_Reply = Callable[[CalledRequest, Answer], Awaitable[None]]


@dataclass
class Expected:
    """What an upstream does with the requests that match; it is made by `TestUpstream.on`. ``calls`` are those."""

    pattern: Pattern
    clock: ManualClock = field(repr=False)
    calls: list[CalledRequest] = field(default_factory=list)
    _replies: list[_Reply | None] = field(default_factory=list)

    @property
    def called(self) -> bool:
        """Whether there was any."""
        return bool(self.calls)

    # --- what happens; several in a row happen one after another, and the last one again and again

    def respond(
        self,
        status: int = 200,
        body: bytes | str = b"",
        headers: GivenHeaders = (),
        *,
        json: Any = NOT_GIVEN,
        trailers: GivenHeaders = (),
        after: float = 0,
    ) -> Expected:
        """Answer with this; ``json`` is made the body, and ``trailers`` are as of HTTP/2.

        ``after`` so many seconds of the test's clock; where the plugin waits less, the call times out.
        """
        made = Reply(status, body, headers, json=json, trailers=trailers, after=after)
        return self.respond_with(lambda _request: made)

    def respond_with(self, function: Callable[[CalledRequest], Reply]) -> Expected:
        """Answer with what a function makes of the request."""

        async def reply(request: CalledRequest, answer: Answer) -> None:
            made = function(request)
            if made.after:
                await self.clock.sleep(made.after)
            fields, content = made.sent()
            answer.begin(made.status, fields)
            if content:
                answer.append(content)
            if made.trailers:
                answer.end(encoded(made.trailers))

        return self._then(reply)

    def fail(self) -> Expected:
        """Refuse the connection: the plugin gets a 503."""
        return self._then(_raise(ConnectError("refused by the test")))

    def cut(self) -> Expected:
        """Answer a head, and end in the middle of the body: the plugin is told of a failure."""

        async def reply(_request: CalledRequest, answer: Answer) -> None:
            answer.begin(200, [])
            raise ConnectionLostError("cut by the test")

        return self._then(reply)

    def time_out(self) -> Expected:
        """Take longer than the plugin waits, at once: the plugin gets a 504."""
        return self._then(_raise(asyncio.TimeoutError()))

    def hang(self) -> Expected:
        """Answer nothing until the test's clock has been moved past the call's timeout."""
        return self._then(None)

    def _then(self, reply: _Reply | None) -> Expected:
        self._replies.append(reply)
        return self

    async def answer(self, request: CalledRequest, answer: Answer) -> None:
        """Do the next of what was given."""
        self.calls.append(request)
        if not self._replies:
            raise ConnectError("the test has not said what is answered")
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if reply is None:
            await asyncio.get_running_loop().create_future()
        else:
            await reply(request, answer)


@dataclass
class Reply:
    """An upstream's answer, for `Expected.respond_with`."""

    status: int = 200
    body: bytes | str = b""
    headers: GivenHeaders = ()
    json: Any = field(default=NOT_GIVEN, kw_only=True)
    # As of HTTP/2; those of HTTP/1.1 reach no plugin.
    trailers: GivenHeaders = field(default=(), kw_only=True)
    # Seconds of the test's clock until it comes.
    after: float = field(default=0, kw_only=True)

    def sent(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body."""
        fields = encoded(self.headers)
        if self.json is not NOT_GIVEN:
            fields.append((b"content-type", b"application/json"))
            return fields, json_module.dumps(self.json).encode()
        return fields, self.body.encode() if isinstance(self.body, str) else self.body


def _raise(error: Exception) -> _Reply:
    async def reply(_request: CalledRequest, _answer: Answer) -> None:
        raise error

    return reply


class TestUpstream:
    """One upstream of a plugin. Without any ``on`` everything that comes gets what ``respond`` and the others say."""

    # Not for pytest to collect.
    __test__ = False

    def __init__(self, name: str, clock: ManualClock) -> None:
        self.name = name
        self.clock = clock
        self.calls: list[CalledRequest] = []
        self.grpc = TestGrpc(name)
        self._unexpected: list[CalledRequest] = []
        self._expected: list[Expected] = []

    def on(
        self,
        method: str | None = None,
        target: str | re.Pattern[str] | None = None,
        headers: GivenHeaders = (),
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        json: Any = NOT_GIVEN,
        where: Callable[[CalledRequest], bool] | None = None,
    ) -> Expected:
        """What to do with requests that fit all that is given; the last that matches counts.

        ``target`` is the path, with or without its query, or a pattern of the whole; ``headers`` and ``query`` are
        some of those that are there; ``where`` is asked last.
        """
        content = body.encode() if isinstance(body, str) else body
        pattern = Pattern(method, target, tuple(encoded(headers)), query or {}, content, json, where)
        made = Expected(pattern, self.clock)
        self._expected.append(made)
        return made

    def respond(
        self,
        status: int = 200,
        body: bytes | str = b"",
        headers: GivenHeaders = (),
        *,
        json: Any = NOT_GIVEN,
        trailers: GivenHeaders = (),
        after: float = 0,
    ) -> Expected:
        """Answer every request with this, as `Expected.respond`."""
        return self.on().respond(status, body, headers, json=json, trailers=trailers, after=after)

    def fail(self) -> Expected:
        """Refuse every connection."""
        return self.on().fail()

    def time_out(self) -> Expected:
        """Let every call time out at once."""
        return self.on().time_out()

    def hang(self) -> Expected:
        """Answer nothing until the clock has been moved past the call's timeout."""
        return self.on().hang()

    def check(self) -> None:
        """Raises `UnexpectedCallError`, once for each call."""
        self.grpc.check()
        if self._unexpected:
            call = self._unexpected.pop(0)
            raise UnexpectedCallError(
                f"the plugin called {call.method} {call.target} of the upstream {self.name!r}, for which the test has"
                f" no answer: say plugin.upstream({self.name!r}).respond(...), .on(...).respond(...) or .fail()"
            )

    def check_all_called(self) -> None:
        """Raises AssertionError where something that the test has an answer for was never called."""
        for expected in self._expected:
            if not expected.called:
                raise AssertionError(f"the plugin never called the upstream {self.name!r} with {expected.pattern}")

    # --- services.upstreams.Carrier

    async def exchange(self, request: Request, answer: Answer) -> None:
        """Answer a call. Raises `CalloutError`."""
        seen = CalledRequest(
            request.method.decode("latin-1"),
            request.target.decode("latin-1"),
            Headers(raw=request.headers),
            request.body,
        )
        self.calls.append(seen)
        for expected in reversed(self._expected):
            if expected.pattern.matches(seen):
                await expected.answer(seen, answer)
                return
        self._unexpected.append(seen)
        raise CalloutError(f"the test has no answer for {seen.method} {seen.target}")

    async def close(self) -> None:
        """Nothing to close."""
