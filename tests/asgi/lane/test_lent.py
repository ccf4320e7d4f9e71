"""Requests whose headers are lent to kernels: what must hold for them as for all others."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.errors import EventLoopError
from tests.driving import request
from tests.plugins.conftest import PLUGINS

HEADERS = PLUGINS / "headers" / "c.wasm"
PROBE = PLUGINS / "probe" / "abi_0_2_1.wasm"


def wrapped(app: Any, file: Any = HEADERS, **more: Any) -> WasmMiddleware:
    return WasmMiddleware(app, settings={"plugins": [{"name": "p", "file": file, **more}]})


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"app"})


def vm_of(middleware: WasmMiddleware) -> Any:
    worker = middleware._worker
    assert worker is not None
    return worker.plugins.router.every_filter()[0].root().vm


@pytest.mark.parametrize(
    ("limits", "lent"),
    [({}, True), ({"header_count": 255}, False), ({"header_bytes": 65535}, False), ({"local_reply_bytes": 9}, False)],
)
async def test_a_kernel_stands_in_for_limits_that_it_cannot_exceed_only(limits: dict[str, int], lent: bool) -> None:
    async with wrapped(answer, limits=limits) as middleware:
        assert (vm_of(middleware).resident is not None) is lent
        assert (await request(middleware)).header(b"x-plugin-out") == b"here"


async def test_a_vm_that_failed_meanwhile_is_not_entered_again() -> None:
    """The request that waits in the app gets the failure policy for its response, and its client an answer."""

    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            arrived.set()
            await go_on.wait()
        await answer(scope, receive, send)

    script = 'request_headers:\nget_header_map_value 0 ":path"\n'
    async with wrapped(waiting, PROBE, conf=script) as middleware:
        vm = vm_of(middleware)
        waits = asyncio.create_task(request(middleware, path="/wait"))
        await arrived.wait()
        vm.fail(RuntimeError("it trapped in another request"))
        vm.abandon_streams()
        go_on.set()
        response = await waits
        assert (response.status, response.complete) == (503, True)
        assert not vm.lent
        assert not vm.contexts or vm.failure


async def test_a_vm_with_as_many_requests_as_it_may_have() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await go_on.wait()
        await answer(scope, receive, send)

    # One is the root context.
    async with wrapped(waiting, limits={"contexts": 2}) as middleware:
        first = asyncio.create_task(request(middleware))
        await arrived.wait()
        assert (await request(middleware)).status == 503
        go_on.set()
        assert (await first).status == 200
        assert (await request(middleware)).status == 200


async def test_a_send_in_another_thread_does_not_enter_the_guest() -> None:
    raised: list[BaseException] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        def elsewhere() -> None:
            try:
                asyncio.run(_sent(send))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        await answer(scope, receive, send)

    async with wrapped(app) as middleware:
        assert (await request(middleware)).header(b"x-plugin-out") == b"here"
        assert [type(error) for error in raised] == [EventLoopError]


async def _sent(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


LOGS_ITS_REQUEST = """
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
    (func $tell (param i32 i32)
      (if (i32.eqz (call $get_header (local.get 0) (local.get 1) (i32.const 7) (i32.const 64) (i32.const 68)))
        (then (drop (call $log (i32.const 2) (i32.load (i32.const 64)) (i32.load (i32.const 68)))))))
    (func (export "proxy_on_log") (param i32)
      (call $tell (i32.const 0) (i32.const 16)) (call $tell (i32.const 2) (i32.const 16))
      (call $tell (i32.const 2) (i32.const 32)))
"""
SEES_RESPONSES = """
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
"""


def guest(callbacks: str) -> bytes:
    return bytes(
        wat2wasm(
            f"""(module
    (import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 16) "x-from1") (data (i32.const 32) ":status")
    (global $top (mut i32) (i32.const 4096))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32)
      (global.set $top (i32.add (global.get $top) (local.get 0)))
      (i32.sub (global.get $top) (local.get 0)))
    {callbacks})"""
        )
    )


@pytest.mark.parametrize("callbacks", [LOGS_ITS_REQUEST, LOGS_ITS_REQUEST + SEES_RESPONSES])
async def test_a_log_callback_reads_the_headers_of_its_own_request(
    callbacks: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the same kernel was lent another request's since."""
    caplog.set_level("INFO")
    file = tmp_path / "guest.wasm"
    file.write_bytes(guest(callbacks))

    async def main() -> None:
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/first":
                arrived.set()
                await go_on.wait()
            name = scope["path"].encode()
            await send({"type": "http.response.start", "status": 201, "headers": [(b"x-from1", b"app" + name)]})
            await send({"type": "http.response.body", "body": b"app"})

        async with wrapped(app, file) as middleware:
            assert vm_of(middleware).resident is not None
            first = asyncio.create_task(request(middleware, path="/first", headers=[(b"x-from1", b"one")]))
            await arrived.wait()
            await request(middleware, path="/second", headers=[(b"x-from1", b"two")])
            go_on.set()
            await first

    caplog.clear()
    await main()
    told = [record.getMessage() for record in caplog.records if record.name.endswith(".p")]
    assert told == ["two", "app/second", "201", "one", "app/first", "201"], caplog.records


ANSWERS_TIMES = """
    (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
    (import "env" "proxy_send_local_response"
      (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32) (i32.const 4096))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (i32.store (i32.const 80) (call $time (i32.const {where})))
      (i32.store (i32.const 84) (call $time (i32.const 72)))
      (drop (call $answer (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 24)
        (i32.const 0) (i32.const 0) (i32.const -1)))
      (i32.const 1))
"""


@pytest.mark.parametrize("way", [{"resident": "off"}, {"accelerator": "off"}, {"accelerator": "auto"}])
@pytest.mark.parametrize(("where", "status"), [(64, 0), (2 * 65536 - 7, 6), (0xFFFFFFF8, 6)])
async def test_the_time_is_now_and_goes_on_in_a_callback(
    way: dict[str, Any], where: int, status: int, tmp_path: Path
) -> None:
    """Also from the second request on, when the kernel is told it before the callback."""
    file = tmp_path / "guest.wasm"
    file.write_bytes(wat2wasm(f"(module {ANSWERS_TIMES.format(where=where)})"))

    settings = {"plugins": [{"name": "p", "file": file}], **way}
    async with WasmMiddleware(answer, settings=settings) as middleware:
        for _ in range(3):
            before = time.time_ns()
            response = await request(middleware)
            first, second, *statuses = struct.unpack("<QQII", response.body)
            assert statuses == [status, 0]
            assert before <= (first or second) <= second <= time.time_ns()
