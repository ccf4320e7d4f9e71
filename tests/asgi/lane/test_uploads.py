"""Bodies of requests in the lane: whatever a plugin does with whichever piece, it is as without kernels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.lane.uploads import size_told
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.asgi.lane.test_pieces import BODY, DEEDS, Counted
from tests.asgi.lane.uploading import (
    APPS,
    BODY_MESSAGES,
    CODED,
    GONE,
    PIECES,
    SIZED,
    Case,
    Reads,
    Seen,
    answer,
    assert_same,
    assert_same_on,
    gives_up,
    messages_of,
    play,
    reads,
)
from tests.driving import Headers, http_scope
from tests.host.resident.stage import Stage
from tests.host.resident.ways import BODIES, PROBE, WAYS, probe_without

# Called with the first piece, with the second, with the last.
POINTS = ("request_body@1", "request_body@2", "request_body@3", "request_end")
UPLOAD_DEEDS = [
    deed.replace("set_buffer_bytes 1", "set_buffer_bytes 0")
    .replace("value 3", "value 1")
    .replace("value 2", "value 0")
    .replace("stream 1", "stream 0")
    for deed in DEEDS
]


# What a plugin does with the head, and what it does then.
WITH_HEADS = [
    "return 1",
    "trap",
    "set_effective_context %self",
    'add_header_map_value 0 "x-new" "1"',
    'replace_header_map_value 0 "content-length" "3"',
    'remove_header_map_value 0 "content-length"',
    'replace_header_map_value 0 ":method" "PUT"',
    'send_local_response 403 "d" "refused" "" -1',
    'send_local_response 403 "d" "" "" -1',
]
THEN = ["", "request_body@2: return 1", "response_headers: return 1", "request_body: trap"]


def doing(deed: str, point: str) -> str:
    looks = "get_buffer_bytes 0 0 99"
    return f"{point}: {looks}\n{point}: {deed}\n{point}: {looks}\nrequest_body: get_buffer_status 0\nlog: args"


def at_heads(does: str, then: str) -> list[str]:
    scripts = (f"request_headers: {does}\n{then}", f"{then}\nresponse_headers: {does}")
    return [f"{script}\nrequest_body: get_buffer_bytes 0 0 99" for script in scripts]


@pytest.fixture(scope="module")
def stages() -> Iterator[list[Stage]]:
    """Each way, for the scripts of the first two tests."""
    scripts = [doing(deed, point) for point in POINTS for deed in UPLOAD_DEEDS]
    scripts += [script for does in WITH_HEADS for then in THEN for script in at_heads(does, then)]
    with ExitStack() as stack:
        yield [stack.enter_context(Stage(scripts, way, 2, PROBE)) for way in WAYS]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("deed", UPLOAD_DEEDS)
def test_what_a_plugin_does_at_any_piece_is_as_without_kernels(stages: list[Stage], point: str, deed: str) -> None:
    cases = (Case(), Case(turns=9), Case(CODED), Case(body=messages_of([b"hello you"])))
    assert_same_on(stages, doing(deed, point), *cases)


@pytest.mark.parametrize("does", WITH_HEADS)
@pytest.mark.parametrize("then", THEN)
def test_what_plugins_do_with_the_head(stages: list[Stage], does: str, then: str) -> None:
    for script in at_heads(does, then):
        assert_same_on(stages, script, *(Case(body=BODY_MESSAGES[body]) for body in ("in pieces", "whole")))


HEADS: dict[str, tuple[Headers, str]] = {
    "sized": (SIZED, "1.1"),
    "coded": (CODED, "1.1"),
    "asks first": ([*SIZED, (b"expect", b"100-continue")], "1.1"),
    "odd length": ([(b"content-length", b"09")], "1.1"),
    "two lengths": ([*SIZED, *SIZED], "1.1"),
    "both": ([*SIZED, *CODED], "1.1"),
    "capitals": ([*SIZED, (b"X-A", b"1")], "1.1"),
    "HTTP/2": ([], "2"),
}


@pytest.mark.parametrize("app", [*APPS, gives_up], ids=lambda app: str(app.__name__))
@pytest.mark.parametrize(
    "leaves",
    ["", "request_body@2: return 1", "response_headers: set_effective_context %self", "response_end: return 1"],
)
def test_what_app_and_client_say_is_as_without_kernels(app: Reads, leaves: str) -> None:
    script = f"{leaves}\nrequest_body: get_buffer_bytes 0 0 99\nlog: args"
    ways = [(SIZED, 0), (SIZED, 1), (SIZED, 9), (CODED, 0), (CODED, 9)]
    cases = [Case(head, body, app, turns) for body in BODY_MESSAGES.values() for head, turns in ways]
    assert_same(script, *cases, count=1)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("leaves", ["", 'request_end: set_buffer_bytes 0 0 99 "changed"', "request_body@1: return 1"])
def test_whatever_the_head_says(head: str, leaves: str) -> None:
    fields, version = HEADS[head]
    script = f"{leaves}\nrequest_body: get_buffer_bytes 0 0 99\nlog: args"
    cases = [Case(fields, body, reads, turns, version) for body in BODY_MESSAGES.values() for turns in (0, 9)]
    assert_same(script, *cases, count=1)


def test_a_plugin_that_looks_at_trailers_only(tmp_path: Path) -> None:
    probe = probe_without(tmp_path / "trailers.wasm", [BODIES[0], BODIES[2]])
    assert_same("request_headers: args\nlog: args", Case(), Case(turns=9), Case(CODED), probe=probe)


@pytest.mark.parametrize("turns", [0, 9])
@pytest.mark.parametrize("head", [SIZED, CODED])
@pytest.mark.parametrize(("script", "exchanges"), [("", 0), ("request_body@2: return 1", 1)])
def test_an_exchange_is_made_for_what_is_not_straight_only(
    monkeypatch: pytest.MonkeyPatch, head: Headers, turns: int, script: str, exchanges: int
) -> None:
    counted = Counted(monkeypatch)
    script += "\nrequest_body: get_buffer_bytes 0 0 9"
    seen = play(script, WAYS[1], Case(head, turns=turns))
    assert counted.count == exchanges
    assert seen == play(script, WAYS[0], Case(head, turns=turns))


async def test_pieces_that_pass_are_the_clients_own() -> None:
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            got.append(await receive())
        await answer(send)

    async def send(_: Message) -> None: ...

    async def main() -> None:
        left = list(messages)

        async def receive() -> Message:
            return left.pop(0)

        async with WasmMiddleware(app, settings={"plugins": [{"name": "p", "file": BODY}]}) as middleware:
            await middleware(http_scope("POST", headers=[(b"content-length", b"100003")]), receive, send)

    messages = messages_of([b"x" * 100_000, b"y" * 3])
    await main()
    assert all(one is other for one, other in zip(got, messages, strict=True))


def test_a_vm_that_fails_while_a_body_is_awaited() -> None:
    """By another request: what is left of this one gets the failure policy at its next piece."""
    for waits in (0, 1, 2):
        first, *others = (asyncio.run(_fails_meanwhile(way, waits)) for way in WAYS)
        assert any(type(message) is dict and message.get("status") == 503 for message in first)
        for other in others:
            assert other == first


async def _fails_meanwhile(way: dict[str, Any], waits: int) -> Seen:
    """After so many pieces of one request."""
    seen: Seen = []
    goes_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            seen.append(dict(message))
            more = message.get("more_body", False)
        await answer(send)

    async def send(message: Message) -> None:
        seen.append(message)

    def client(left: list[Message], last: int) -> Receive:
        async def receive() -> Message:
            if len(left) == last:
                await goes_on.wait()
            return left.pop(0) if left else GONE

        return receive

    plugin = {"name": "p", "file": PROBE, "conf": "request_body@4: trap"}
    async with WasmMiddleware(app, settings={"plugins": [plugin], **way}) as middleware:
        scope = http_scope("POST", headers=SIZED)
        first = asyncio.ensure_future(middleware(dict(scope), client(messages_of(PIECES), 3 - waits), send))
        for _ in range(20):
            await asyncio.sleep(0)
        await middleware(dict(scope), client(messages_of([b"a", b"b", b"c", b"d"]), 99), send)
        goes_on.set()
        await asyncio.wait_for(first, 60)
    return seen


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ([], None),
        (CODED, None),
        ([(b"content-length", b"0")], 0),
        (SIZED, 9),
        ([(b"content-length", b"09")], -1),
        ([(b"content-length", b"+9")], -1),
        ([*SIZED, *SIZED], -1),
        ([*SIZED, *CODED], -1),
        ([*SIZED, (b"X-A", b"1")], -1),
    ],
)
def test_what_a_head_announces(headers: list[tuple[bytes, bytes]], size: int | None) -> None:
    assert size_told({"headers": headers}) == size
