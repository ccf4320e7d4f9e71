"""Random apps and clients, one request after and within another: all ways through the lane do the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.errors import PluginAwayError
from asgi_wasm.host.vm.vm import vm_of
from tests.driving import http_scope
from tests.host.resident.ways import BODIES, PROBE, WAYS, heard, probe_without

HEADS: list[Any] = [
    [],
    [(b"x-a", b"1"), (b"content-length", b"2")],
    [(b"X-A", b"1")],
    [(b"content-length", b"0")],
    [[b"x-a", b"1"]],
    ((b"x-a", b" 1 "),),
]
# What an app does, step by step.
starts = st.builds(
    lambda status, head, more: ("send", {"type": "http.response.start", "status": status, "headers": head, **more}),
    st.sampled_from([200, 200, 204, 304, 404, 500, 99]),
    st.sampled_from(HEADS),
    st.sampled_from([{}, {}, {"trailers": True}]),
)
bodies = st.builds(
    lambda body, more: ("send", {"type": "http.response.body", **body, **more}),
    st.sampled_from([{}, {"body": b"ok"}, {"body": b""}, {"body": bytearray(b"ok")}]),
    st.sampled_from([{}, {"more_body": True}, {"more_body": True}, {"more_body": False}]),
)
others = st.sampled_from(
    [
        ("send", {"type": "http.response.trailers", "headers": [(b"x-t", b"1")]}),
        ("send", {"type": "http.response.debug", "info": {}}),
        ("receive", None),
        ("receive", None),
        ("sleep", None),
        ("task", {"type": "http.response.body", "body": b"of a task"}),
        ("nest", None),
        ("raise", None),
        ("cancel", None),
        ("scope", None),
    ]
)
steps = st.lists(st.one_of(starts, bodies, bodies, others), max_size=7)
scripts = st.lists(
    st.sampled_from(
        [
            'request_headers: add_header_map_value 0 "x-p" "1"',
            'response_headers: add_header_map_value 2 "x-p" "1"',
            'response_headers: replace_header_map_value 2 ":status" "201"',
            "response_headers: trap",
            'response_headers: send_local_response 403 "d" "no" "" -1',
            'log: get_header_map_value 2 ":status"',
            'log: get_header_map_value 0 ":path"',
            "done: args",
            "delete: args",
            "done: trap",
            # Of the one that looks at bodies, as every plugin does that was made with a kit.
            "response_body: get_buffer_bytes 1 0 99",
            "response_body: return 1",
            'response_body: set_buffer_bytes 1 0 99 "changed"',
            'request_headers: send_local_response 403 "d" "no" "" -1',
            "request_body: get_buffer_bytes 0 0 99",
        ]
    ),
    max_size=4,
)


class StepError(Exception):
    """What the app raises."""


class Stage:
    """One run of a script."""

    def __init__(self, script: list[tuple[str, Any]], leaves: bool) -> None:
        self.script = script
        self.leaves = leaves
        self.seen: list[Any] = []
        self.middleware: WasmMiddleware | None = None

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        for kind, message in self.script:
            try:
                await self.step(kind, message, scope, receive, send)
            except RuntimeError as error:
                self.seen.append((scope["path"], "refused", str(error)))

    async def step(self, kind: str, message: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if kind == "send":
            await send(dict(message))
        elif kind == "task":
            # As frameworks do that make a task of it.
            await asyncio.ensure_future(send(dict(message)))
        elif kind == "receive":
            self.seen.append((scope["path"], await receive()))
        elif kind == "sleep":
            await asyncio.sleep(0)
        elif kind == "scope":
            scope["route"] = "added"
        elif kind == "nest" and scope["path"] == "/outer":
            await self.request("/inner")
        elif kind == "raise":
            raise StepError
        elif kind == "cancel":
            raise asyncio.CancelledError

    async def request(self, path: str) -> None:
        scope = http_scope(path=path, headers=[(b"host", b"h"), (b"x-a", b"1")])
        asked = 0

        async def read() -> Any:
            nonlocal asked
            asked += 1
            if asked == 1:
                return {"type": "http.request", "body": b"", "more_body": False}
            if not self.leaves:
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def keep(message: Any) -> None:
            if "headers" in message:
                # Pairs are lists or tuples as the app made them, or tuples where they were written anew.
                message = {**message, "headers": [tuple(pair) for pair in message["headers"]]}
            if message["type"] == "http.response.body":
                # What a message leaves out is written where it was made anew.
                message = {"body": b"", "more_body": False, **message}
            self.seen.append((path, message))

        assert self.middleware is not None
        try:
            await self.middleware(scope, read, keep)
        except (StepError, asyncio.CancelledError, RuntimeError, TypeError) as error:
            self.seen.append((path, type(error).__name__))
        self.seen.append((path, scope.get("route"), "asgi_wasm" in scope))

    async def run(self, plugins: list[dict[str, Any]], way: dict[str, Any]) -> list[Any]:
        self.middleware = WasmMiddleware(self.app, settings={"plugins": plugins, **way})
        async with self.middleware:
            await self.request("/outer")
            await self.request("/after")
            worker = self.middleware._workers.running()
            assert worker is not None
            for plugin_filter in worker.plugins.router.every_filter():
                try:
                    vm = vm_of(plugin_filter.root())
                except PluginAwayError:
                    # It failed more than once, and is started again later.
                    continue
                assert not vm.lent
                assert len(vm.contexts) == 1
        return self.seen


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """That looks at bodies, and that does not."""
    return [probe_without(tmp_path_factory.mktemp("probe") / "headers.wasm", BODIES), PROBE]


def outcome(
    probe: Path, way: dict[str, Any], script: list[tuple[str, Any]], conf: list[str], count: int, leaves: bool
) -> tuple[list[Any], list[str]]:
    lines: list[str] = []
    plugins = [
        {"name": f"p{index}", "file": probe, "conf": "\n".join(conf), "vm_id": str(index)} for index in range(count)
    ]
    with heard(lines.append):
        return asyncio.run(Stage(script, leaves).run(plugins, way)), lines


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], report_multiple_bugs=False)
@given(steps, scripts, st.integers(1, 2), st.booleans(), st.integers(0, 1))
def test_every_way_does_the_same(
    probes: list[Path], script: list[tuple[str, Any]], conf: list[str], count: int, leaves: bool, which: int
) -> None:
    first, *others = (outcome(probes[which], way, script, conf, count, leaves) for way in WAYS)
    for other in others:
        assert other == first


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("status", "head"), [(204, []), (200, [(b"content-length", b"0")])])
@pytest.mark.parametrize("between", [[], [("send", {"type": "http.response.body", "body": b"ok"})]])
def test_after_a_response_that_ended_with_its_head_no_other_begins(
    probes: list[Path], way: dict[str, Any], which: int, status: int, head: Any, between: list[tuple[str, Any]]
) -> None:
    start = {"type": "http.response.start", "status": status, "headers": head}
    script = [("send", start), *between, ("send", {**start, "status": 404})]
    seen, _ = outcome(probes[which], way, script, [], 1, False)
    assert [message for path, message, *_ in seen if path == "/outer"] == [
        start,
        {"type": "http.response.body", "body": b"", "more_body": False},
        "refused",
        None,
    ]
