"""Bodies of responses in the lane: whatever a plugin does with whichever piece, it is as without kernels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.exchange.exchange import HttpExchange
from asgi_wasm.asgi.lane import pieces
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.driving import http_scope
from tests.host.resident.stage import Stage
from tests.host.resident.ways import BODIES, HELLO, WAYS, Body, TwoRequests, heard, probe_without, run_once
from tests.plugins.conftest import PLUGINS

BODY = PLUGINS / "body" / "c.wasm"
STREAM: Body = (None, [b"hel", b"lo ", b"you"])
SIZED: Body = (b"9", [b"hel", b"lo ", b"you"])
WHOLE: Body = (b"5", [b"hello"])
# Called with the first piece, with the second, with the last.
POINTS = ("response_body@1", "response_body@2", "response_body@3", "response_end")
DEEDS = (
    "return 1",
    "return 2",
    "return 3",
    "return 99",
    "trap",
    'set_buffer_bytes 1 0 99 "changed"',
    'set_buffer_bytes 1 0 0 "before "',
    'set_buffer_bytes 1 99 0 " after"',
    'set_buffer_bytes 1 0 99 "xyz"',
    'set_buffer_bytes 1 0 1 "x"',
    'set_buffer_bytes 1 0 99 ""',
    'set_buffer_bytes 1 1 1 "x"',
    'set_buffer_bytes 2 0 1 "x"',
    "set_buffer_bytes 1 0 1 0xfffffff0 99",
    'send_local_response 403 "d" "no" "" -1',
    "close_stream 1",
    "continue_stream 1",
    'add_header_map_value 3 "x-t" "1"',
    'add_header_map_value 2 "x-late" "1"',
    'get_header_map_value 2 "x-a"',
    r'get_property "response\x00size"',
    'set_property "kept" "1"',
    "set_effective_context %stream",
    "set_effective_context %root",
    "refuse 1",
    "set_tick_period_milliseconds 0",
)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that looks at no request's body: the accelerator has its requests."""
    return probe_without(tmp_path_factory.mktemp("probe") / "response.wasm", BODIES[:2])


def doing(deed: str, point: str) -> str:
    looks = "get_buffer_bytes 1 0 99"
    return f"{point}: {looks}\n{point}: {deed}\n{point}: {looks}\nresponse_body: get_buffer_status 1\nlog: args"


@pytest.fixture(scope="module")
def stages(probe: Path) -> Iterator[list[Stage]]:
    """Each way, for all that a plugin does at a piece but to end its VM."""
    scripts = [doing(deed, point) for point in POINTS for deed in DEEDS if deed != "trap"]
    with ExitStack() as stack:
        yield [stack.enter_context(Stage(scripts, way, 2, probe)) for way in WAYS]


def _played(stage: Stage, script: str, body: Body) -> tuple[list[Any], list[str]]:
    requests = TwoRequests(body)
    lines: list[str] = []
    with heard(lines.append):
        stage.play(script, requests.app, requests.play)
    return requests.seen, lines


async def _all_ways(probe: Path, script: str, count: int, body: Body) -> list[Any]:
    return [await run_once(script, way, count, probe, body) for way in WAYS]


@pytest.mark.parametrize(
    ("point", "body"),
    [*((point, body) for point in POINTS for body in (STREAM, SIZED)), ("response_end", WHOLE)],
)
@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_plugin_does_at_any_piece_is_as_without_kernels(
    probe: Path, stages: list[Stage], point: str, deed: str, body: Body
) -> None:
    if deed == "trap":
        first, *others = asyncio.run(_all_ways(probe, doing(deed, point), 2, body))
    else:
        first, *others = (_played(stage, doing(deed, point), body) for stage in stages)
    assert first[1]
    for other in others:
        assert other == first


@pytest.mark.parametrize(
    "conf",
    [
        "response_body: get_buffer_bytes 1 0 9",
        "response_body: return 1",
        'response_body: get_header_map_value 2 "x-a"',
        'response_body: get_header_map_value 0 "x-a"',
    ],
)
@pytest.mark.parametrize("leaves", ["", "request_headers: LEAVE", "response_headers: LEAVE", "answer"])
async def test_a_body_after_a_request_has_left(probe: Path, leaves: str, conf: str) -> None:
    """It did so for what is not answered by kernels, some callbacks earlier."""
    leave = "set_effective_context %self"
    answered = f'request_headers: send_local_response 403 "d" "refused" "" -1\nresponse_headers: {leave}'
    script = "\n".join([answered if leaves == "answer" else leaves.replace("LEAVE", leave), conf])
    first, *others = await _all_ways(probe, script, 2, (b"3", [b"abc"]))
    for other in others:
        assert other == first


@pytest.mark.parametrize("way", WAYS[1:], ids=["kernel", "accelerator"])
@pytest.mark.parametrize("body", [STREAM, SIZED, WHOLE])
@pytest.mark.parametrize(
    "changes",
    [
        ['1 0 99 "changed"', '1 0 4 "CHAN"', "1 0 99 $0"],
        ['1 0 1 ""', '1 99 0 "!"'],
        ['1 0 99 ""', '1 0 99 "1234567890"', '1 10 0 "1"', '1 0 0 "1"', '1 0 2 "1"'],
        ['1 0 9 "12345678"', "1 0 9 0xfffffff0 99", "1 0 9 0xfffffff0 2"],
    ],
)
def test_changes_of_one_piece_after_each_other(
    probe: Path, way: dict[str, Any], body: Body, changes: list[str]
) -> None:
    """Each is answered as without kernels, the one that makes it longer than is allowed, too."""
    lines = [
        f"response_body: {line}" for each in changes for line in (f"set_buffer_bytes {each}", "get_buffer_bytes 1 0 99")
    ]
    limit = {"limits": {"body_bytes": 9}}
    first, other = (
        asyncio.run(run_once("\n".join(lines), each, 2, probe, body, more=limit)) for each in (WAYS[0], way)
    )
    assert other == first


@pytest.mark.parametrize("body", [(None, [b"a", bytearray(b"b"), b"c"]), (b"2", [b"ab", b"c"]), (b"4", [b"abc"])])
@pytest.mark.parametrize("conf", ["response_body: get_buffer_bytes 1 0 9", "response_body: return 1"])
async def test_a_body_that_is_not_for_the_lane(probe: Path, conf: str, body: Body) -> None:
    first, *others = await _all_ways(probe, conf, 2, body)
    for other in others:
        assert other == first


@pytest.mark.parametrize("deed", ["return 1", "trap", 'set_buffer_bytes 1 0 99 "changed"', "close_stream 1"])
async def test_a_plugins_own_answer_has_a_body_that_others_see(probe: Path, deed: str) -> None:
    script = f'request_headers: send_local_response 403 "d" "refused" "" -1\nresponse_body: {deed}'
    first, *others = await _all_ways(probe, script, 2, HELLO)
    for other in others:
        assert other == first


class Counted:
    """How many exchanges there were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        made = HttpExchange.__init__

        def init(exchange: HttpExchange, *arguments: Any, **more: Any) -> None:
            self.count += 1
            made(exchange, *arguments, **more)

        monkeypatch.setattr(HttpExchange, "__init__", init)


async def _exchange(file: Path, conf: str, head: list[tuple[bytes, bytes]], body: list[Any]) -> list[Message]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for index, piece in enumerate(body):
            await send({"type": "http.response.body", "body": piece, "more_body": index + 1 < len(body)})

    got: list[Message] = []

    async def send(message: Message) -> None:
        got.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    settings = {"plugins": [{"name": "p", "file": file, "conf": conf}]}
    async with WasmMiddleware(app, settings=settings) as middleware:
        await middleware(http_scope(headers=[(b"host", b"h")]), receive, send)
    return got


@pytest.mark.parametrize("length", [None, b"9"])
@pytest.mark.parametrize(("conf", "exchanges"), [("", 0), ("change", 0)])
async def test_no_exchange_is_made_for_what_keeps_its_length(
    monkeypatch: pytest.MonkeyPatch, length: bytes | None, conf: str, exchanges: int
) -> None:
    counted = Counted(monkeypatch)
    head = [] if length is None else [(b"content-length", length)]
    got = await _exchange(BODY, conf, head, [b"abc", b"def", b"ghi"])
    assert b"".join(message.get("body", b"") for message in got) == (b"AbcDefGhi" if conf else b"abcdefghi")
    assert got[0]["headers"] == head
    assert counted.count == exchanges


async def test_pieces_that_pass_are_the_apps_own() -> None:
    whole = [b"x" * 100_000, b"y" * 3]
    got = await _exchange(BODY, "", [], whole)
    assert [message["body"] for message in got[1:]] == whole
    assert all(message["body"] is piece for message, piece in zip(got[1:], whole, strict=True))


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], None),
        ([(b"content-length", b"0")], 0),
        ([(b"x-a", b""), (b"content-length", b"12")], 12),
        ([(b"content-length", b"012")], -1),
        ([(b"content-length", b"+1")], -1),
        ([(b"content-length", b"")], -1),
        ([(b"x-a", b" 1")], -1),
        ([(b"x-a", b"1\t")], -1),
        ([(b"x-a", b"1\n2")], -1),
        ([(b"x a", b"1")], -1),
        ([(b"", b"1")], -1),
        ([(b"x-a", b"a\tb \xff")], None),
    ],
)
def test_what_a_head_announces(headers: list[tuple[bytes, bytes]], length: int | None) -> None:
    assert pieces.length_of({"type": "http.response.start", "status": 200, "headers": headers}) == length


@pytest.mark.parametrize("way", WAYS, ids=["python", "kernel", "accelerator"])
async def test_a_file_is_sent_where_plugins_look_at_trailers_only(tmp_path: Path, way: dict[str, Any]) -> None:
    """The head that says its length waits for nobody's verdict on a body that no plugin sees."""
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    file = {"type": "http.response.pathsend", "path": "/etc/hostname"}
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "http.response.pathsend" in scope["extensions"]
        await send(start)
        await send(file)

    async def send(message: Message) -> None:
        got.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    probe = probe_without(tmp_path / "trailers.wasm", ["proxy_on_request_body", "proxy_on_response_body"])
    plugin = {"name": "p", "file": probe, "conf": "response_headers: args"}
    async with WasmMiddleware(app, settings={"plugins": [plugin], **way}) as middleware:
        scope = http_scope(headers=[(b"host", b"h")], extensions={"http.response.pathsend": {}})
        await asyncio.wait_for(middleware(scope, receive, send), 60)
    assert got == [start, file]
