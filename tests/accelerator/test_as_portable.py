"""With the accelerator all is as in the portable lane, whatever head, scope or app."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm.asgi.lane.native import NativeRequest
from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.accelerator.apps import App, exchange, needs_accelerator, running
from tests.driving import http_scope
from tests.host.resident.ways import BODIES, PROBE
from tests.wasm_exports import without_exports


async def both(scope: Scope, head: Any = ((b"x-a", b"1"),), **plugin: Any) -> list[tuple[list[Any], list[Any]]]:
    """What comes of it with and without the accelerator: to the app, to the client.

    Of two requests, since what the first asked for is given to the second before its callbacks.
    """

    async def run(accelerator: str) -> tuple[list[Any], list[Any]]:
        app = App(head)
        async with running(app, accelerator, **plugin) as middleware:
            first = await exchange(middleware, dict(scope))
            return app.seen, [*first, *await exchange(middleware, dict(scope))]

    return [await run(accelerator) for accelerator in ("off", "required")]


def filled(count: int, size: int = 1) -> list[tuple[bytes, bytes]]:
    return [(b"x-%d" % index, b"v" * size) for index in range(count)]


HEADS: dict[str, Any] = {
    "none": [],
    "one": filled(1),
    # The plugin adds one, and pseudo-headers count.
    "251": filled(251),
    "252": filled(252),
    "255": filled(255),
    "256": filled(256),
    "257": filled(257),
    "64 kB": filled(64, 1024),
    "1 MB": filled(16, 65536),
    "lists": [[b"x-a", b"1"], [b"x-b", b"2"]],
    "a tuple": ((b"x-a", b"1"), (b"x-b", b"2")),
    "bytearrays": [(bytearray(b"x-a"), bytearray(b"1"))],
    "memoryviews": [(b"x-a", memoryview(b"1"))],
    "padded": [(b"x-a", b" 1\t"), (b"x-b", b" "), (b"x-c", b"")],
    "twice": [(b"x-a", b"1"), (b"x-a", b"2"), (b"accept", b"a"), (b"accept", b"b")],
    "single twice": [(b"user-agent", b"a"), (b"user-agent", b"b"), (b"content-type", b"c"), (b"content-type", b"d")],
    "upper case": [(b"X-A", b"1")],
    "nothing for a name": [(b"", b"1")],
    "of the connection": [(b"connection", b"close"), (b"te", b"trailers"), (b"keep-alive", b"1")],
}


@needs_accelerator
@pytest.mark.parametrize("name", HEADS)
async def test_a_request_of_any_head_is_as_without(name: str) -> None:
    head = HEADS[name]
    if isinstance(head, list):
        head = [(b"host", b"h"), *head, (b"connection", b"close")]
    portable, accelerated = await both({**http_scope(), "headers": head})
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize("name", HEADS)
async def test_a_response_of_any_head_is_as_without(name: str) -> None:
    portable, accelerated = await both(http_scope(headers=[(b"host", b"h")]), HEADS[name])
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize(
    "head",
    [
        [(b"content-length", b"5")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"transfer-encoding", b"chunked")],
        [(b"content-length", b"0")],
        [(b"x-a", "text")],
        [(b"x-a",)],
        [None],
        None,
        7,
    ],
)
async def test_a_response_of_an_odd_head_is_as_without(head: Any) -> None:
    portable, accelerated = await both(http_scope(headers=[(b"host", b"h")]), head)
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize(
    "change",
    [
        {"method": "HEAD"},
        {"method": "BREW"},
        {"method": "POST", "headers": [(b"host", b"h"), (b"content-length", b"5")]},
        {"headers": [(b"host", b"h"), (b"content-length", b" 0")]},
        {"headers": [(b"host", b"h"), (b"transfer-encoding", b"chunked")]},
        {"headers": [(b"x-no", b"host")]},
        {"headers": [(b"host", b"h"), (b"host", b"i")]},
        {"http_version": "2"},
        {"http_version": "2", "headers": [(b"host", b"h"), (b"cookie", b"a"), (b"cookie", b"b")]},
        {"http_version": None},
        {"scheme": "https"},
        {"scheme": "ftp"},
        {"scheme": None},
        {"raw_path": None, "path": "/ä"},
        {"raw_path": b"/a?in=path"},
        {"query_string": b""},
        {"query_string": b"a=1&b"},
        {"query_string": None},
        {"extensions": {"http.response.pathsend": {}}},
        {"extensions": None},
        {"asgi_wasm": "other"},
    ],
)
async def test_a_scope_of_any_kind_is_as_without(change: dict[str, Any]) -> None:
    portable, accelerated = await both({**http_scope(headers=[(b"host", b"h")]), **change})
    assert accelerated == portable


@needs_accelerator
@pytest.mark.parametrize(
    ("version", "cookies", "is_the_accelerators"),
    [("1.1", 2, True), ("2", 1, True), ("3", 1, True), ("2", 2, False)],
)
async def test_an_ordinary_request_is_the_accelerators(version: str, cookies: int, is_the_accelerators: bool) -> None:
    app = App([(b"x-a", b"1")])
    async with running(app, "required") as middleware:
        headers = [(b"host", b"h"), *[(b"cookie", b"c")] * cookies]
        got = await exchange(middleware, http_scope(headers=headers, http_version=version))
        assert (b"x-plugin-out", b"here") in got[0]["headers"]
        assert got[-1] == "added"
        assert isinstance(app.requests[0].__self__, NativeRequest) == is_the_accelerators


def take_out_before(scope: Scope) -> None:
    del scope["client"], scope["http_version"]
    scope["route"] = "added"


def take_out_and_grow(scope: Scope) -> None:
    for key in [key for key in scope if key not in ("asgi_wasm", "type")]:
        del scope[key]
    scope["route"] = "added"
    scope.update((f"key {index}", index) for index in range(40))


def take_out_all(scope: Scope) -> None:
    scope.clear()
    scope["route"] = "added"


def take_out_all_and_add_nothing(scope: Scope) -> None:
    scope.clear()


def put_own_behind(scope: Scope) -> None:
    scope["before"] = scope.pop("asgi_wasm")
    scope["asgi_wasm"] = scope["before"]
    scope["route"] = "added"


def put_other_in_place(scope: Scope) -> None:
    del scope["asgi_wasm"]
    scope["route"] = "added"


def put_stacks(scope: Scope) -> None:
    scope.update(route="added", one=AsyncExitStack(), other=ExitStack())


@needs_accelerator
@pytest.mark.parametrize(
    "change",
    [
        take_out_before,
        take_out_and_grow,
        take_out_all,
        take_out_all_and_add_nothing,
        put_own_behind,
        put_other_in_place,
        put_stacks,
    ],
)
async def test_what_an_app_adds_to_its_scope_is_shared_whatever_it_takes_out(change: Callable[[Scope], None]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        change(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    found = []
    for accelerator in ("off", "required"):
        async with running(app, accelerator) as middleware:
            scope = dict(http_scope())
            await exchange(middleware, scope)
            found.append({key: value for key, value in scope.items() if key != "before"})
    assert found[0] == found[1]
    assert change is take_out_all_and_add_nothing or found[0]["route"] == "added"
    # They are of no use to anybody outside, and the server would keep what they hold.
    assert change is not put_stacks or found[0] == {**http_scope(), "route": "added"}


@needs_accelerator
@pytest.mark.parametrize("phase", ["stream_create", "request_headers", "response_headers", "log", "done", "delete"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
async def test_a_vm_that_traps_anywhere_is_as_without(phase: str, policy: str, tmp_path: Path) -> None:
    probe = tmp_path / "probe.wasm"
    probe.write_bytes(without_exports(PROBE.read_bytes(), BODIES))
    scope = http_scope(headers=[(b"host", b"h")])
    conf = {"conf": f"{phase}: trap", "failure_policy": policy}
    portable, accelerated = await both(scope, [(b"x-a", b"1")], file=probe, **conf)
    assert accelerated == portable
