"""How APISIX's own runner is asked: a runner in Python that reads what Go's would, and answers so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from flatbuffers import Builder
from flatbuffers import number_types as kinds

from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.bench import apisix
from tests.bench.apisix import ApisixRunnerMiddleware, RunnerError
from tests.driving import request

TOKEN = 70_000


class Runner:
    """Answers one path in the app's stead, and lets others pass. ``confs`` and ``seen`` are what it was asked."""

    def __init__(self) -> None:
        self.confs: list[list[tuple[bytes, bytes]]] = []
        self.seen: list[tuple[str, bytes, list[tuple[bytes, bytes]], list[tuple[bytes, bytes]], bytes]] = []
        self.refuses = False
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(4)
                table = await reader.readexactly(int.from_bytes(head[1:], "big"))
                said = (apisix.ERROR, b"") if self.refuses else (head[0], self._answer(head[0], table))
                answer = apisix.frame(*said)
                # In pieces, as a stream may come.
                for piece in (answer[:2], answer[2:]):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            writer.close()
            self.left.set()

    def _answer(self, kind: int, table: bytes) -> bytes:
        root = apisix._root(table)
        builder = Builder(0)
        if kind == apisix.PREPARE_CONF:
            self.confs.append(apisix._entries(root, 0))
            builder.StartObject(1)
            builder.PrependUint32Slot(0, TOKEN, 0)
        else:
            assert apisix._number(root, 6, kinds.Uint32Flags, 0) == TOKEN
            method = apisix._METHODS[apisix._number(root, 2, kinds.Uint8Flags, 0)]
            path = apisix._bytes(root, 3)
            self.seen.append((method, path, apisix._entries(root, 4), apisix._entries(root, 5), apisix._bytes(root, 1)))
            stop = _stop(builder) if path == b"/stop" else 0
            builder.StartObject(3)
            builder.PrependUint32Slot(0, apisix._number(root, 0, kinds.Uint32Flags, 0), 0)
            builder.PrependUint8Slot(1, int(bool(stop)), 0)
            builder.PrependUOffsetTRelativeSlot(2, stop, 0)
        builder.Finish(builder.EndObject())
        return bytes(builder.Output())


def _stop(builder: Builder) -> int:
    headers = apisix.entries(builder, [("X-Said", "no")])
    body = builder.CreateByteVector(b"stopped")
    builder.StartObject(3)
    builder.PrependUint16Slot(0, 418, 0)
    builder.PrependUOffsetTRelativeSlot(1, headers, 0)
    builder.PrependUOffsetTRelativeSlot(2, body, 0)
    return int(builder.EndObject())


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"app"})


async def test_a_runner_is_told_of_a_request_and_answers_it(tmp_path: Path) -> None:
    runner, path = Runner(), str(tmp_path / "s")
    async with await asyncio.start_unix_server(runner, path):
        middleware = ApisixRunnerMiddleware(app, path, "fault-injection", '{"a": 1}')
        stopped = await request(middleware, "POST", "/stop?x=1&y=", headers=[(b"a", b"b"), (b"a", b"c")])
        passed = await request(middleware)
        # On the connection that there is, which is given up then.
        runner.refuses = True
        with pytest.raises(RunnerError, match="refused a question of kind 2"):
            await request(middleware)
        await runner.left.wait()
    assert (stopped.status, stopped.headers) == (418, [(b"x-said", b"no"), (b"content-length", b"7")])
    assert (stopped.body, passed.body) == (b"stopped", b"app")
    # The conf is told once.
    assert runner.confs == [[(b"fault-injection", b'{"a": 1}')]]
    method, target, args, headers, address = runner.seen[0]
    assert (method, target, args) == ("POST", b"/stop", [(b"x", b"1"), (b"y", b"")])
    assert headers[-2:] == [(b"a", b"b"), (b"a", b"c")] and len(address) == 4


def test_without_go_it_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(apisix.NoRunnerError, match="Go, which builds it, is not installed"):
        apisix.build(tmp_path)


def test_what_go_cannot_build_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho first >&2\necho no such module >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(apisix.NoRunnerError, match=r"Go could not build it \(no such module\)"):
        apisix.build(tmp_path)
