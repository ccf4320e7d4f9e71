"""How APISIX's own runner is asked: a runner in Python that reads what Go's would, and answers so."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from flatbuffers import Builder
from flatbuffers import number_types as kinds

from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.bench import apisix, apisix_runner
from tests.bench.apisix import ApisixRunnerMiddleware, RunnerError
from tests.driving import Response, request

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
        middleware = ApisixRunnerMiddleware(app, path)
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
    assert runner.confs == [[(b"fault-injection", apisix.CONF.encode())]]
    method, target, args, headers, address = runner.seen[0]
    assert (method, target, args) == ("POST", b"/stop", [(b"x", b"1"), (b"y", b"")])
    assert headers[-2:] == [(b"a", b"b"), (b"a", b"c")] and len(address) == 4


async def test_a_runner_that_is_gone_is_told(tmp_path: Path) -> None:
    async def gone(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(gone, path):
        with pytest.raises(RunnerError, match="has closed the connection"):
            await request(ApisixRunnerMiddleware(app, path))


@pytest.mark.skipif(shutil.which("go") is None, reason="Go, which builds APISIX's runner, is not installed")
def test_the_real_one_answers_as_the_native_middleware() -> None:
    async def ask(path: str) -> Response:
        middleware = ApisixRunnerMiddleware(app, path)
        response = await request(middleware)
        middleware.close()
        await asyncio.sleep(0)
        return response

    try:
        with apisix_runner.runner() as path:
            response = asyncio.run(ask(path))
    except apisix_runner.NoRunnerError as error:
        pytest.skip(str(error))
    assert (response.status, response.body) == (200, b"hello world")


def test_without_go_it_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(apisix_runner.NoRunnerError, match="Go, which builds it, is not installed"):
        apisix_runner.build(tmp_path)


@pytest.mark.parametrize("where", ["stdout", "stderr"])
def test_what_go_cannot_build_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    go = tmp_path / "go"
    # Not every machine has a shell.
    lines = f"#!{sys.executable}", "import sys", f"print('first\\nno such module', file=sys.{where})", "sys.exit(1)"
    go.write_text("\n".join(lines))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(apisix_runner.NoRunnerError, match=r"Go could not build it \(no such module\)"):
        apisix_runner.build(tmp_path)
