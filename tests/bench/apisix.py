"""Fault injection by APISIX's own runner for Go, which the announcement compared with: its plugin was written for that.

Asked as APISIX asks it (`apisix/plugins/ext-plugin/init.lua`): over a unix socket, one question at a time on a
connection, of which as many are kept as were needed at once. A frame is a kind, the size of what follows in three
bytes, and a table of flatbuffers (`ext-plugin.fbs` of github.com/api7/ext-plugin-proto). First the plugins' confs, for
which the runner gives a token; then each request, whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qsl

from flatbuffers import Builder
from flatbuffers import number_types as kinds
from flatbuffers.table import Table

from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send

# What it brings along, and a conf of it.
PLUGIN = "fault-injection"
CONF = json.dumps({"http_status": 200, "body": "hello world"})

ERROR, PREPARE_CONF, HTTP_REQUEST = range(3)
_METHODS = (
    *("GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "OPTIONS", "PROPFIND", "PROPPATCH", "LOCK"),
    *("UNLOCK", "PATCH", "TRACE"),
)
_STOP = 1


class RunnerError(Exception):
    """The runner said that it cannot do what it was asked."""


class Answer(NamedTuple):
    """What the runner answers in the app's stead."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


# --- tables


def frame(kind: int, table: bytes) -> bytes:
    """The bytes of one question or answer."""
    return bytes([kind]) + len(table).to_bytes(3, "big") + table


def entries(builder: Builder, pairs: Sequence[tuple[str | bytes, str | bytes]]) -> int:
    """A vector of ``TextEntry``; where it is."""
    made = []
    for name, value in pairs:
        named, valued = builder.CreateString(name), builder.CreateString(value)
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, named, 0)
        builder.PrependUOffsetTRelativeSlot(1, valued, 0)
        made.append(builder.EndObject())
    builder.StartVector(4, len(made), 4)
    for each in reversed(made):
        builder.PrependUOffsetTRelative(each)
    return int(builder.EndVector())


def conf_question(confs: Sequence[tuple[str, str]]) -> bytes:
    """``PrepareConf.Req``: which plugins run, with their confs."""
    builder = Builder(256)
    made = entries(builder, confs)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, made, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def request_question(number: int, scope: Scope, token: int) -> bytes:
    """``HTTPReqCall.Req``: a request as the runner is told of it."""
    builder = Builder(512)
    client = scope.get("client")
    address = builder.CreateByteVector(ip_address(client[0]).packed if client else b"\0\0\0\0")
    path = builder.CreateString(scope["path"])
    query = scope["query_string"]
    args = entries(builder, parse_qsl(query, keep_blank_values=True)) if query else 0
    headers = entries(builder, scope["headers"])
    builder.StartObject(7)
    builder.PrependUint32Slot(0, number, 0)
    builder.PrependUOffsetTRelativeSlot(1, address, 0)
    builder.PrependUint8Slot(2, _METHODS.index(scope["method"]), 0)
    builder.PrependUOffsetTRelativeSlot(3, path, 0)
    builder.PrependUOffsetTRelativeSlot(4, args, 0)
    builder.PrependUOffsetTRelativeSlot(5, headers, 0)
    builder.PrependUint32Slot(6, token, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _root(table: bytes) -> Table:
    return Table(table, int.from_bytes(table[:4], "little"))


def _number(table: Table, slot: int, kind: type, otherwise: int) -> int:
    return int(table.GetSlot(4 + 2 * slot, otherwise, kind))


def _bytes(table: Table, slot: int) -> bytes:
    place = table.Offset(4 + 2 * slot)
    if not place:
        return b""
    start, size = table.Vector(place), table.VectorLen(place)
    return bytes(table.Bytes[start : start + size])


def _entries(table: Table, slot: int) -> list[tuple[bytes, bytes]]:
    place = table.Offset(4 + 2 * slot)
    if not place:
        return []
    start, size = table.Vector(place), table.VectorLen(place)
    found = [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(size)]
    return [(_bytes(each, 0).lower(), _bytes(each, 1)) for each in found]


def token_of(table: bytes) -> int:
    """``PrepareConf.Resp``."""
    return _number(_root(table), 0, kinds.Uint32Flags, 0)


def answer_of(table: bytes) -> Answer | None:
    """``HTTPReqCall.Resp``; None where the request is to go on."""
    root = _root(table)
    if _number(root, 1, kinds.Uint8Flags, 0) != _STOP:
        return None
    said = Table(b"", 0)
    root.Union(said, root.Offset(8))
    return Answer(_number(said, 0, kinds.Uint16Flags, 0), _entries(said, 1), _bytes(said, 2))


# --- who asks


class Connection(asyncio.Protocol):
    """One question at a time."""

    def __init__(self) -> None:
        self._held = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        data = self._held + data if self._held else data
        end = 4 + int.from_bytes(data[1:4], "big")
        if len(data) < max(4, end):
            self._held = data
            return
        self._held = b""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((data[0], data[4:end]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(RunnerError("the runner has closed the connection"))

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    async def ask(self, kind: int, table: bytes) -> bytes:
        """The answer's table. Raises `RunnerError`."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(frame(kind, table))
        answered, answer = await self._waiting
        if answered == ERROR:
            raise RunnerError(f"the runner refused a question of kind {kind}")
        return answer


class ApisixRunnerMiddleware:
    """Asks APISIX's runner about each request, before the app sees it."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path
        self._token = 0
        self._asked = 0
        self._idle: list[Connection] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            answer = answer_of(await self._ask(connection, scope))
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if answer is None:
            await self._app(scope, receive, send)
            return
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _ask(self, connection: Connection, scope: Scope) -> bytes:
        self._token = self._token or token_of(await connection.ask(PREPARE_CONF, conf_question([(PLUGIN, CONF)])))
        self._asked = (self._asked + 1) & 0xFFFFFFFF
        return await connection.ask(HTTP_REQUEST, request_question(self._asked, scope, self._token))

    async def _connect(self) -> Connection:
        _, made = await asyncio.get_running_loop().create_unix_connection(Connection, self._path)
        return made

    def close(self) -> None:
        """Leave the runner."""
        for connection in self._idle:
            connection.close()
