"""Requests with bodies, played in each way to run a plugin: what app and client see must be the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.driving import Headers, http_scope
from tests.host.resident.stage import Stage
from tests.host.resident.ways import PROBE, WAYS, heard
from tests.waiting import tasks

Reads = Callable[[Receive, Send], Awaitable[None]]
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}
GONE: Message = {"type": "http.disconnect"}
PIECES = [b"hel", b"lo ", b"you"]
SIZED: Headers = [(b"content-length", b"9")]
CODED: Headers = [(b"transfer-encoding", b"chunked")]


def messages_of(pieces: list[Any]) -> list[Message]:
    last = len(pieces) - 1
    return [{"type": "http.request", "body": piece, "more_body": index < last} for index, piece in enumerate(pieces)]


async def answer(send: Send) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b", "more_body": False})


async def read_all(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def reads(receive: Receive, send: Send) -> None:
    await read_all(receive)
    await answer(send)


async def echoes(receive: Receive, send: Send) -> None:
    """Answers while it reads."""
    await send(START)
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def reads_later(receive: Receive, send: Send) -> None:
    """Begins to answer, and is over before it reads the rest."""
    await receive()
    await answer(send)
    for _ in range(3):
        await receive()


async def ignores(receive: Receive, send: Send) -> None:
    await answer(send)


async def reads_at_once(receive: Receive, send: Send) -> None:
    """Two calls at the same time."""
    await asyncio.gather(receive(), receive())
    await answer(send)


async def gives_up(receive: Receive, send: Send) -> None:
    """Cancels a call that is under way, and loses nothing by that."""
    reading = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await reads(receive, send)


async def sends_a_file(receive: Receive, send: Send) -> None:
    """By an extension that none of its plugins forbids; the rest is read afterwards."""
    await receive()
    await send({**START, "trailers": True})
    await read_all(receive)
    await send({"type": "http.response.body", "body": b"a", "more_body": False})
    await send({"type": "http.response.trailers", "headers": [(b"x-t", b"1")], "more_trailers": False})


async def raises(receive: Receive, send: Send) -> None:
    await receive()
    raise ValueError("by the app")


APPS = [reads, echoes, reads_later, ignores, reads_at_once, sends_a_file, raises]


class Case(NamedTuple):
    """One request. The server has each message after so many ``turns`` of the event loop."""

    head: Headers = SIZED
    body: list[Message] = messages_of(PIECES)
    app: Reads = reads
    turns: int = 0
    version: str = "1.1"


Seen = list[Any]


class Player:
    """An app that does as a case says, behind plugins with that script: notes all that app and client see, in order."""

    def __init__(self, stage: Stage, script: str) -> None:
        self._stage, self._script = stage, script
        self._case = Case()
        self._seen: Seen = []

    def play(self, cases: Iterable[Case]) -> Seen:
        """What is seen of each, with what the plugins log."""
        with heard(self._seen.append):
            for self._case in cases:
                self._stage.play(self._script, self._app, self._request)
        return self._seen

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._seen.append(("app", scope["headers"], scope["method"]))

        async def heard() -> Message:
            message = await receive()
            self._seen.append(dict(message))
            return message

        await self._case.app(heard, send)

    async def _request(self, middleware: ASGIApp, folder: str) -> None:
        case = self._case
        left = iter(case.body)

        async def receive() -> Message:
            for _ in range(case.turns):
                await asyncio.sleep(0)
            return next(left, GONE)

        async def send(message: Message) -> None:
            self._seen.append(message)

        before = tasks()
        scope = http_scope("POST", f"{folder}/", headers=case.head, http_version=case.version)
        try:
            await middleware(scope, receive, send)
        except (ValueError, OSError) as error:
            self._seen.append(repr(error))
        assert tasks() == before


def play(script: str, way: dict[str, Any], *cases: Case, count: int = 2, probe: Path = PROBE) -> Seen:
    """In a middleware of its own."""
    with Stage([script], way, count, probe) as stage:
        return Player(stage, script).play(cases)


def assert_same(script: str, *cases: Case, count: int = 2, probe: Path = PROBE) -> None:
    # After a failure, the next request would have to wait for another VM.
    played = [cases] if "trap" not in script else [(case,) for case in cases]
    for together in played:
        first, *others = (play(script, way, *together, count=count, probe=probe) for way in WAYS)
        for other in others:
            assert other == first


def assert_same_on(stages: Sequence[Stage], script: str, *cases: Case) -> None:
    """The same where the middlewares are there already, unless the script ends their VMs."""
    if "trap" in script:
        assert_same(script, *cases)
    else:
        first, *others = (Player(stage, script).play(cases) for stage in stages)
        for other in others:
            assert other == first


BODY_MESSAGES: dict[str, list[Message]] = {
    "in pieces": messages_of(PIECES),
    "whole": messages_of([b"hello you"]),
    "whole, then its end": messages_of([b"hello you", b""]),
    "with empty pieces": messages_of([b"", b"hello", b"", b" you", b""]),
    "of other bytes": messages_of([b"hello", bytearray(b" you"), b""]),
    "too short": messages_of([b"hello"]),
    "cut off": [*messages_of([*PIECES, b""])[:2], GONE],
    "cut off at once": [GONE],
    "with more after its end": [*messages_of(PIECES), *messages_of([b"more", b""]), GONE],
    "with something else": [{"type": "http.other"}, *messages_of(PIECES)],
}
