"""Upstreams that a test plays: what a plugin calls by `proxy_http_call` is matched, answered and kept."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers

from asgi_wasm.services.callouts.messages import Answer, CalloutError, ConnectError, ConnectionLostError, Request
from asgi_wasm.testing import rendering
from asgi_wasm.testing.exchange import GivenHeaders, encoded

_Reply = Callable[[Answer], None]


class UnexpectedCallError(AssertionError):
    """Raised when a plugin has made a call for which the test has no answer."""


@dataclass
class CalledRequest:
    """A request that a plugin sent to an upstream."""

    method: str
    target: str
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def head(self) -> str:
        """Method, target and headers as text."""
        return rendering.head(f"{self.method} {self.target}", self.headers.raw)


@dataclass
class Expected:
    """What an upstream does with the requests that match; it is made by `TestUpstream.on`. ``calls`` are those."""

    method: str | None
    target: str | re.Pattern[str] | None
    headers: list[tuple[bytes, bytes]]
    calls: list[CalledRequest] = field(default_factory=list)
    _replies: list[_Reply | None] = field(default_factory=list)

    def matches(self, request: CalledRequest) -> bool:
        """Whether it is meant."""
        if self.method is not None and self.method != request.method:
            return False
        if isinstance(self.target, re.Pattern):
            if self.target.fullmatch(request.target) is None:
                return False
        elif self.target is not None and self.target not in (request.target, request.target.partition("?")[0]):
            return False
        return all(pair in request.headers.raw for pair in self.headers)

    # --- what happens; several in a row happen one after another, and the last one again and again

    def respond(self, status: int = 200, body: bytes | str = b"", headers: GivenHeaders = ()) -> Expected:
        """Answer with this."""
        content = body.encode() if isinstance(body, str) else body
        fields = encoded(headers)

        def reply(answer: Answer) -> None:
            answer.begin(status, list(fields))
            if content:
                answer.append(content)

        return self._then(reply)

    def fail(self) -> Expected:
        """Refuse the connection: the plugin gets a 503."""
        return self._then(_raise(ConnectError("refused by the test")))

    def cut(self) -> Expected:
        """Answer a head, and end in the middle of the body: the plugin is told of a failure."""

        def reply(answer: Answer) -> None:
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
            reply(answer)


def _raise(error: Exception) -> _Reply:
    def reply(_answer: Answer) -> None:
        raise error

    return reply


class TestUpstream:
    """One upstream of a plugin. Without any ``on`` everything that comes gets what ``respond`` and the others say."""

    # Not for pytest to collect.
    __test__ = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[CalledRequest] = []
        self._unexpected: list[CalledRequest] = []
        self._expected: list[Expected] = []

    def on(
        self, method: str | None = None, target: str | re.Pattern[str] | None = None, headers: GivenHeaders = ()
    ) -> Expected:
        """What to do with requests of this method and target that have these headers; the last that matches counts.

        ``target`` is the path, with or without its query, or a pattern of the whole.
        """
        made = Expected(method, target, encoded(headers))
        self._expected.append(made)
        return made

    def respond(self, status: int = 200, body: bytes | str = b"", headers: GivenHeaders = ()) -> Expected:
        """Answer every request with this."""
        return self.on().respond(status, body, headers)

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
        if self._unexpected:
            call = self._unexpected.pop(0)
            raise UnexpectedCallError(
                f"the plugin called {call.method} {call.target} of the upstream {self.name!r}, for which the test has"
                f" no answer: say plugin.upstream({self.name!r}).respond(...), .on(...).respond(...) or .fail()"
            )

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
            if expected.matches(seen):
                await expected.answer(seen, answer)
                return
        self._unexpected.append(seen)
        raise CalloutError(f"the test has no answer for {seen.method} {seen.target}")

    async def close(self) -> None:
        """Nothing to close."""
