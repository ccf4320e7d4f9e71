"""With and without the resident half: the same statuses, bytes, maps and messages, whatever a plugin calls."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.driving import http_scope
from tests.plugins.conftest import PLUGINS

# Ways to run a plugin that must not differ: Python alone, and the kernel.
WAYS: list[dict[str, Any]] = [{"resident": "off"}, {"resident": "auto"}]

NAMES = [
    "x-a",
    "X-A",
    "x-b",
    "accept",
    "vary",
    "cookie",
    "host",
    ":path",
    ":status",
    ":other",
    "content-length",
    "",
    "a b",
]
VALUES = ["", "1", "text", " padded ", "bad\\x0avalue", "\\xff"]
HEADERS = [
    (b"host", b"h"),
    (b"x-a", b"1"),
    (b"x-a", b"2"),
    (b"accept", b"*/*"),
    (b"connection", b"close"),
    (b"cookie", b"c"),
]

names, values = st.sampled_from(NAMES), st.sampled_from(VALUES)
maps = st.sampled_from([0, 0, 0, 2, 2, 1, 3, 4, 8, 0xFFFFFFFF])


def call(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda given: " ".join([name, *map(str, given)]))


def quoted(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return texts.map(lambda text: f'"{text}"')


PAIRS = r"\x01\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00x-c\x00v\x00"
hostcalls = st.one_of(
    call("get_header_map_value", maps, quoted(names)),
    call("add_header_map_value", maps, quoted(names), quoted(values)),
    call("replace_header_map_value", maps, quoted(names), quoted(values)),
    call("remove_header_map_value", maps, quoted(names)),
    call("get_header_map_pairs", maps),
    call("get_header_map_size", maps),
    call("set_header_map_pairs", maps, st.just(f'"{PAIRS}"')),
    call("get_header_map_value", maps, st.sampled_from(["0xffffff00 9", "0 0xffffffff", "70000 0"])),
    call("get_header_map_value", maps, st.just('"x-a"'), st.sampled_from(["0xfffffffe", "$0 0xffffffff"])),
    call("add_header_map_value", maps, st.just('"x-a" 0xfffffff0 99')),
    call("get_header_map_pairs", maps, st.just("0xfffffffe")),
    call("get_property", quoted(st.sampled_from([r"request\x00path", r"response\x00code", "plugin_name", "none"]))),
    call("set_property", quoted(names), quoted(values)),
    call("set_effective_context", st.sampled_from(["%self", "%root", "%stream", "99", "0"])),
    call("refuse", st.sampled_from([1, "1 0xfffffff0"])),
    st.just("args"),
)
scripts = st.lists(
    st.tuples(
        st.sampled_from(["request_headers", "response_headers", "log", "done", "stream_create", "delete"]), hostcalls
    ),
    max_size=12,
)
endings = st.sampled_from(
    ["", "request_headers: return 1", "response_headers: return 1", "response_headers: trap", "request_headers: trap",
     'request_headers: send_local_response 403 "d" "no" "" -1', 'request_headers: send_local_response 200 "" "" "" -1',
     f'request_headers: send_local_response 403 "d" "no" "{PAIRS}" -1', "log: trap", "done: trap"]
)  # fmt: skip


async def run_once(script: str, way: dict[str, Any], count: int) -> tuple[list[Any], list[str]]:
    """One request through ``count`` probes: all that app and client saw, and what the plugins logged."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append({**scope, "asgi_wasm": dict(scope["asgi_wasm"])})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1"), (b"vary", b"a")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async def send(message: Any) -> None:
        seen.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    plugins = [
        {"name": f"p{index}", "file": PLUGINS / "probe" / "abi_0_2_1.wasm", "conf": script, "vm_id": str(index)}
        for index in range(count)
    ]
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("asgi_wasm.plugin")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    middleware = WasmMiddleware(app, settings={"plugins": plugins, "pause_timeout": 0.01, **way})
    await middleware.start()
    try:
        await middleware(http_scope(headers=HEADERS[1:]), receive, send)
    finally:
        await middleware.stop()
        logger.removeHandler(handler)
        logger.setLevel(before)
    return seen, lines


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], report_multiple_bugs=False)
@given(scripts, endings, st.integers(1, 2))
def test_random_hostcalls(script: list[tuple[str, str]], ending: str, count: int) -> None:
    text = "\n".join([*(f"{phase}: {line}" for phase, line in script), ending])
    first, *others = (asyncio.run(run_once(text, way, count)) for way in WAYS)
    for other in others:
        assert other == first


@pytest.mark.parametrize("way", WAYS)
def test_the_script_runs(way: dict[str, Any]) -> None:
    seen, lines = asyncio.run(run_once('request_headers: get_header_map_value 0 "x-a"', way, 1))
    assert len(seen) == 3
    assert lines == ['request_headers: get_header_map_value 0 "x-a" = 0 -> "1"']
