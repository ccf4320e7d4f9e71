"""A stream is over for plugins when its response is, whatever the app goes on doing: background tasks, late calls."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.errors import EventLoopError
from asgi_wasm.host.vm.vm import vm_of
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import Resumer, passing, pausing
from tests.driving import Connection, settled, until
from tests.guests import CONTINUE, PAUSE, RESPONSE, RESPONSE_HEADERS, Guest, Serve
from tests.plugins.conftest import PLUGINS

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
WHOLE = {"type": "http.response.body", "body": b"ok", "more_body": False}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False}
CHUNKED = [(b"transfer-encoding", b"chunked")]


class Worker:
    """An app that goes on working once it has answered, until it is let go."""

    def __init__(self, *messages: Message) -> None:
        self.messages = messages or (START, WHOLE)
        self.works = asyncio.Event()
        self.may_end = asyncio.Event()
        self.heard: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive, self.send = receive, send
        for message in self.messages:
            await send({**message})
        self.works.set()
        await self.may_end.wait()


def unbodied(api: Hostcalls, *_: int) -> int:
    api.replace_header_map_value(RESPONSE_HEADERS, b":status", b"204")
    return CONTINUE


WAYS: dict[str, dict[str, Any]] = {
    "no callback": {},
    "request headers": {"on_request_headers": passing},
    "response headers": {"on_response_headers": passing},
    "request body": {"on_request_body": passing},
    "response body": {"on_response_body": passing},
    "trailers": {"on_response_trailers": passing},
    "a status without a body": {"on_response_headers": unbodied},
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_trailers", [False, True])
async def test_the_end_does_not_wait_for_background_work(
    serve_guests: Serve, way: str, method: str, with_trailers: bool
) -> None:
    told: list[bytes | None] = []

    def on_log(api: Hostcalls, context: int) -> None:
        told.append(api.get_property(b"request\0duration"))

    guest = Guest(on_log=on_log, **WAYS[way])
    start = {**START, "trailers": True} if with_trailers else START
    app = Worker(start, WHOLE, *([TRAILERS] if with_trailers else []))
    extensions: dict[str, Any] = {"http.response.trailers": {}} if with_trailers else {}
    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, method, extensions=extensions)
        connection.feed()
        await app.works.wait()
        await settled()
        assert (len(guest.logged), len(guest.deleted)) == (1, 1)
        assert connection.response.complete
        assert not connection.task.done()
        app.may_end.set()
        await connection.over()
        assert len(guest.logged) == 1
        assert told != [None]


@pytest.mark.parametrize("held", ["on_response_headers", "on_response_body"])
async def test_a_response_that_a_plugin_lets_go_later_ends_then(serve_guests: Serve, held: str) -> None:
    resumer, app = Resumer(), Worker()
    guest = Guest(**{held: pausing}, **resumer.callbacks)
    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware)
        await app.works.wait()
        await settled()
        assert guest.logged == []
        resumer.later(lambda api: (api.set_effective_context(guest.created[-1]), api.continue_stream(RESPONSE)))
        await resumer.done()
        await until(lambda: guest.deleted)
        assert (connection.response.body, connection.task.done()) == (b"ok", False)
        app.may_end.set()
        await connection.over()


@pytest.mark.parametrize("phase", ["on_response_headers", "on_response_body"])
async def test_an_answer_in_the_apps_stead_ends_the_stream_too(serve_guests: Serve, phase: str) -> None:
    def denied(api: Hostcalls, *_: int) -> int:
        api.send_local_response(403, b"no")
        return PAUSE

    app, guest = Worker(), Guest(**{phase: denied})
    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware)
        await app.works.wait()
        await settled()
        assert (connection.response.status, len(guest.deleted)) == (403, 1)
        app.may_end.set()
        await connection.over()


@pytest.mark.parametrize("way", WAYS)
async def test_calls_after_the_end_are_the_servers_affair(serve_guests: Serve, way: str) -> None:
    """uvicorn raises on another message, and so does the server here; `receive` waits for the client."""
    app, guest = Worker(), Guest(**WAYS[way])
    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware)
        connection.feed()
        await app.works.wait()
        assert (await app.receive())["type"] == "http.request"
        listening = asyncio.ensure_future(app.receive())
        await settled()
        assert connection.receiving == 1
        connection.hang_up()
        assert (await listening)["type"] == "http.disconnect"
        with pytest.raises(RuntimeError, match="after the response's end"):
            await app.send({**WHOLE})
        with pytest.raises(RuntimeError, match="second"):
            await app.send({**START})
        app.may_end.set()
        await connection.over()


@pytest.mark.parametrize("reads", [False, True])
async def test_a_body_that_plugins_did_not_see_reaches_no_app_afterwards(serve_guests: Serve, reads: bool) -> None:
    """It would be a way past the plugin: answer first, read then. Where no plugin reads bodies, it is the app's."""
    seen: list[bytes] = []

    def on_request_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        seen.append(api.get_buffer_bytes(0))
        return CONTINUE

    app, guest = Worker(), Guest(**({"on_request_body": on_request_body} if reads else {}))
    async with serve_guests(app, guest) as middleware:
        connection = Connection(middleware, "POST", headers=CHUNKED)
        connection.feed(b"secret", more=True)
        await app.works.wait()
        message = await asyncio.wait_for(app.receive(), 60)
        assert message["type"] == ("http.disconnect" if reads else "http.request")
        assert seen == []
        app.may_end.set()
        await connection.over()


@pytest.mark.parametrize("plugin", ["headers/c", "probe/abi_0_2_1", "fault_injection/rust", "body/c"])
async def test_compiled_plugins(plugin: str, caplog: pytest.LogCaptureFixture) -> None:
    """Those whose headers are lent to kernels, and those that leave these at some point."""
    caplog.set_level(logging.INFO)

    app = Worker()
    script = {"probe/abi_0_2_1": 'log: get_property "request.duration"\n', "fault_injection/rust": "{}"}
    entry = {"name": "p", "file": PLUGINS / f"{plugin}.wasm", "conf": script.get(plugin, "")}
    if plugin == "fault_injection/rust":
        entry["conf"] = '{"http_status": 200, "body": "x", "percentage": 0}'
    async with WasmMiddleware(app, settings={"plugins": [entry]}) as middleware:
        worker = middleware._workers.running()
        assert worker is not None
        vm = vm_of(worker.plugins.router.every_filter()[0].root())
        connection = Connection(middleware)
        connection.feed()
        await app.works.wait()
        assert not vm.lent
        assert all(context is context.root for context in vm.contexts.values())
        assert [(await app.receive())["type"] for _ in range(1)] == ["http.request"]
        connection.hang_up()
        assert (await app.receive())["type"] == "http.disconnect"
        with pytest.raises(RuntimeError, match="second"):
            await app.send({**START})
        app.may_end.set()
        await connection.over()


@pytest.mark.parametrize("callback", ["on_request_headers", "on_response_body"])
async def test_the_last_send_in_another_thread_is_refused_before_a_plugin_hears_of_it(
    serve_guests: Serve, callback: str
) -> None:
    raised: list[BaseException] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START})

        def elsewhere() -> None:
            try:
                asyncio.run(_call(send, {**WHOLE}))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        await send({**WHOLE})

    async with serve_guests(app, Guest(**{callback: passing})) as middleware:
        connection = Connection(middleware)
        assert (await connection.over()).body == b"ok"
        assert [type(error) for error in raised] == [EventLoopError]


async def _call(send: Send, message: Message) -> None:
    await send(message)
