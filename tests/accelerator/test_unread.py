"""A request's body that no plugin looks at, as the app receives it: all ways through the lane do the same."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.driving import http_scope
from tests.host.resident.ways import BODIES, WAYS, probe_without

# Of what the host counts: it is told in the log.
CONF = 'log: get_property "request\\x00size"'
GONE: Message = {"type": "http.disconnect"}


def piece(body: Any = b"abc", more: Any = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


CLIENTS: dict[str, list[Any]] = {
    "pieces": [piece(), piece(b""), piece(b"de", False), GONE],
    "leaves things out": [{"type": "http.request", "more_body": True}, {"type": "http.request", "body": b"x"}, GONE],
    "other types": [piece(bytearray(b"abc"), 1), piece(memoryview(b"de"), 0), GONE],
    "a mapping": [MappingProxyType(piece()), piece(b"de", False), GONE],
    "leaves early": [piece(), GONE, GONE],
    "goes on after the end": [piece(b"abc", False), piece(b"more", False), GONE],
    "says something else": [piece(), {"type": "http.extension"}, piece(b"de", False), GONE],
    "breaks": [piece(), ConnectionError("gone"), piece(b"de", False)],
    "no type": [piece(), {"body": b"de"}, GONE],
}
# What of it is counted, if not 5 bytes.
SIZES = {"leaves things out": 1, "leaves early": 3, "goes on after the end": 3, "says something else": 3, "no type": 3}
ZEROS = "\\x00" * 7


class Run:
    """One request, whose app asks for as many messages as the client has, each in a task of its own if ``in_tasks``."""

    def __init__(self, messages: list[Any], in_tasks: bool) -> None:
        self.messages = messages
        self.in_tasks = in_tasks
        self.seen: list[Any] = []
        self.lines: list[str] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(len(self.messages)):
            try:
                asked: Any = receive()
                self.seen.append(await (asyncio.ensure_future(asked) if self.in_tasks else asked))
            except (ConnectionError, KeyError) as error:
                self.seen.append(repr(error))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def serve(self, probe: Path, way: dict[str, Any]) -> None:
        left = iter(self.messages)

        async def receive() -> Any:
            await asyncio.sleep(0)
            message = next(left)
            if isinstance(message, Exception):
                raise message
            return message

        async def send(message: Message) -> None:
            self.seen.append(message["type"])

        plugins = [{"name": "probe", "file": probe, "conf": CONF}]
        async with WasmMiddleware(self.app, settings={"plugins": plugins, **way}) as middleware:
            # Without a length, what is told is what was counted.
            headers = [(b"host", b"h"), (b"transfer-encoding", b"chunked")]
            await middleware(http_scope(method="POST", headers=headers), receive, send)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probe_without(tmp_path_factory.mktemp("probe") / "headers.wasm", BODIES)


def outcome(probe: Path, way: dict[str, Any], run: Run) -> tuple[list[Any], list[str]]:
    handler = logging.Handler()
    handler.emit = lambda record: run.lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("asgi_wasm.plugin")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        asyncio.run(run.serve(probe, way))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    return run.seen, run.lines


@pytest.mark.parametrize("in_tasks", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_way_gives_the_app_what_the_client_says(probe: Path, client: str, in_tasks: bool) -> None:
    messages = CLIENTS[client]
    first, *others = (outcome(probe, way, Run(messages, in_tasks)) for way in WAYS)
    assert others == [first, first]
    seen, (line,) = first
    if client == "pieces":
        assert seen[: len(messages)] == messages
    assert line.endswith(f'-> "\\x0{SIZES.get(client, 5)}{ZEROS}"')


@pytest.mark.parametrize("way", WAYS)
async def test_who_stops_to_receive_may_ask_again(probe: Path, way: dict[str, Any]) -> None:
    ready = asyncio.Event()
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            asked = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.wait([asked])
            seen.append(asked.cancelled())
        ready.set()
        seen.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive() -> Message:
        await ready.wait()
        return piece(b"abcde", False)

    async def send(message: Message) -> None:
        seen.append(message["type"])

    async with WasmMiddleware(app, settings={"plugins": [{"name": "probe", "file": probe}], **way}) as middleware:
        headers = [(b"host", b"h"), (b"content-length", b"5")]
        await middleware(http_scope(method="POST", headers=headers), receive, send)
    assert seen == [True, True, piece(b"abcde", False), "http.response.start", "http.response.body"]
