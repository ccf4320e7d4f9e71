"""A failure in every phase of a plugin's life, by every policy: what the request gets, and what the next one does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_wasm import PluginStartError
from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.specs import FailurePolicy
from tests.driving import answering, request, until
from tests.guests import CONTINUE, PAUSE, REQUEST, Api, Guest, Wrap

POLICIES = [policy.value for policy in FailurePolicy]
# In a request's own callbacks, so that it is the one that gets the policy.
IN_THE_REQUEST = [
    *(
        "on_context_create",
        "on_request_headers",
        "on_request_body",
        "on_response_headers",
        "on_response_body",
        "malloc",
    ),
]
# When some of the response is out, so that no other can take its place: at the second piece of the body, at trailers.
UNDER_WAY = ["on_response_body@2", "on_response_trailers"]
# After the response, which nothing can change any more.
AFTERWARDS = ["on_log", "on_done", "on_delete"]
# Of the root context, while another request is paused.
OUTSIDE = [
    *("on_tick", "on_queue_ready", "on_foreign_function", "on_http_call_response", "on_grpc_close"),
]
# Likewise, by what a gRPC server tells on a stream.
OF_A_GRPC_STREAM = [
    *("on_grpc_receive_initial_metadata", "on_grpc_receive", "on_grpc_receive_trailing_metadata", "on_grpc_close"),
]
# Before it serves at all.
AT_THE_START = ["_initialize", "root_create", "on_vm_start", "on_configure"]
# When its root context is asked to end.
AT_THE_END = ["root_done", "root_delete"]


class Faulty:
    """A guest whose callback named ``phase`` traps while it is `armed`; requests with x-pause wait for ever."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.armed = False
        self.traps = 0
        self.starts = 0
        # When it trapped.
        self.starts_before = 0
        # Of a gRPC stream, once; or the one call for an upstream that is not there.
        self.asked = False
        self.calls_nobody = False
        self.streams: set[int] = set()
        # Of the response's body, by stream.
        self.pieces: dict[int, int] = {}

    def trap(self, name: str, context: int | None = None) -> None:
        if self.armed and name == self.phase and (context is None or context in self.streams):
            self.traps += 1
            self.starts_before = self.starts
            # The owner of a queue is started again at once, and told again.
            self.armed = self.phase != "on_queue_ready"
            raise GuestTrap(f"told to, in {name}")

    @property
    def guest(self) -> Guest:
        faulty = self

        class Trapping(Guest):
            def __call__(self, host: Any) -> Any:
                exports = dict(super().__call__(host))
                create, delete, malloc = (
                    exports[name] for name in ("proxy_on_context_create", "proxy_on_delete", "malloc")
                )

                def proxy_on_context_create(context: int, parent: int) -> None:
                    if not parent:
                        faulty.trap("root_create")
                    if parent:
                        faulty.streams.add(context)
                        faulty.trap("on_context_create")
                    create(context, parent)

                def proxy_on_delete(context: int) -> None:
                    faulty.trap("on_delete", context)
                    if context not in faulty.streams:
                        faulty.trap("root_delete")
                    delete(context)

                def initialize() -> None:
                    faulty.trap("_initialize")

                def allocate(size: int) -> int:
                    faulty.trap("malloc")
                    return malloc(size) or 0

                return {
                    **exports,
                    "proxy_on_context_create": proxy_on_context_create,
                    "proxy_on_delete": proxy_on_delete,
                    "malloc": allocate,
                    "_initialize": initialize,
                }

        def on_configure(api: Api, *_: int) -> int:
            faulty.starts += 1
            faulty.streams.clear()
            faulty.pieces.clear()
            faulty.trap("on_configure")
            api.tick(2)
            if faulty.phase == "on_queue_ready":
                # Only there: for the others it is a request that starts it again.
                api.ok("register_shared_queue", *api.host.store(b"q"), api.host.allocate(4))
            return 1

        def on_request_headers(api: Api, *_: int) -> int:
            faulty.trap("on_request_headers")
            # For the allocator.
            api.get(REQUEST, b":path")
            return PAUSE if api.get(REQUEST, b"x-pause") else CONTINUE

        def on_tick(api: Api, *_: int) -> None:
            faulty.trap("on_tick")
            if faulty.armed and faulty.phase == "on_queue_ready":
                api.call("enqueue_shared_queue", 1, *api.host.store(b"v"))
            if faulty.armed and faulty.phase == "on_foreign_function":
                api.asked("call_foreign_function", *api.host.store(b"soon"), *api.host.store(b""))
            if faulty.armed and faulty.phase == "on_http_call_response":
                head = [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"h")]
                nothing = api.host.store(b"")
                api.ok("http_call", *api.host.store(b"dead"), *api.host.store(encode_pairs(head)), *nothing, *nothing,
                       1000, api.host.allocate(4))  # fmt: skip
            if faulty.armed and faulty.phase == "on_grpc_close" and faulty.calls_nobody:
                names = [part for name in (b"dead", b"Service", b"Method", b"", b"") for part in api.host.store(name)]
                api.ok("grpc_call", *names, 1000, api.host.allocate(4))
            if faulty.armed and faulty.phase in OF_A_GRPC_STREAM and not (faulty.asked or faulty.calls_nobody):
                faulty.asked, token = True, api.host.allocate(4)
                names = [part for name in (b"grpc", b"test.Auth", b"Check", b"") for part in api.host.store(name)]
                api.ok("grpc_stream", *names, token)
                api.ok("grpc_send", api.host.read_u32(token), *api.host.store(b"m"), 1)

        def simple(name: str) -> Any:
            def callback(*_: Any) -> int:
                faulty.trap(name)
                return CONTINUE

            return callback

        def on_response_body(_: Api, context: int, *__: int) -> int:
            faulty.pieces[context] = faulty.pieces.get(context, 0) + 1
            faulty.trap("on_response_body")
            faulty.trap(f"on_response_body@{faulty.pieces[context]}")
            return CONTINUE

        def on_vm_start(*_: Any) -> int:
            faulty.trap("on_vm_start")
            return 1

        def stream_end(name: str, answer: int) -> Any:
            def callback(_: Api, context: int) -> int:
                faulty.trap(name, context)
                if name == "on_done" and context not in faulty.streams:
                    faulty.trap("root_done")
                return answer

            return callback

        return Trapping(
            on_configure=on_configure,
            on_request_headers=on_request_headers,
            on_tick=on_tick,
            on_request_body=simple("on_request_body"),
            on_response_headers=simple("on_response_headers"),
            on_response_body=on_response_body,
            on_response_trailers=simple("on_response_trailers"),
            on_http_call_response=simple("on_http_call_response"),
            **{name: simple(name) for name in OF_A_GRPC_STREAM},
            on_vm_start=on_vm_start,
            on_queue_ready=simple("on_queue_ready"),
            on_foreign_function=simple("on_foreign_function"),
            on_log=stream_end("on_log", 0),
            on_done=stream_end("on_done", 1),
        )


async def soon(argument: bytes) -> bytes:
    await asyncio.sleep(0)
    return b""


def served(wrap_guests: Wrap, faulty: Faulty, policy: str, app: Any = None, **upstreams: str) -> Any:
    entry = {"failure_policy": policy, "reload_config": {"backoff": {"base_interval": "0.01s"}}}
    # Nobody listens there.
    upstreams["dead"] = "http://127.0.0.1:1"
    # Its length is declared, so that its head waits for the first verdict on the body.
    app = app or answering(b"app", headers=[(b"content-length", b"3")])
    return wrap_guests(app, faulty.guest, entries=[entry], foreign_functions={"soon": soon}, upstreams=upstreams)


async def comes_back(app: Any, faulty: Faulty) -> None:
    """A fresh VM serves, once its back-off is over."""

    async def served_by_it() -> None:
        while faulty.starts == faulty.starts_before:
            await request(app)
            await asyncio.sleep(0.002)

    await asyncio.wait_for(served_by_it(), 60)
    response = await request(app, "POST", body=[b"x"])
    assert (response.status, response.body) == (200, b"app")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", IN_THE_REQUEST)
async def test_in_the_request(wrap_guests: Wrap, phase: str, policy: str) -> None:
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy) as app:
        faulty.armed = True
        response = await request(app, "POST", headers=[(b"x-more", b"1")], body=[b"x"])
        assert faulty.traps == 1
        assert (response.status, response.body) == ((200, b"app") if policy == "fail_open" else (503, b""))
        faulty.armed = False
        await comes_back(app, faulty)


async def in_pieces(scope: Any, receive: Any, send: Any) -> None:
    """It answers ``app`` in two pieces, and trailers."""
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"pp"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", UNDER_WAY)
async def test_when_the_response_has_started(
    wrap_guests: Wrap, phase: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cut off, so that no client takes it for whole; only `fail_open` lets the rest pass."""
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy, in_pieces) as app:
        faulty.armed = True
        response = await request(app, extensions={"http.response.trailers": {}})
        faulty.armed = False
        assert (faulty.traps, response.status) == (1, 200)
        if policy == "fail_open":
            assert (response.body, response.trailers) == (b"app", [(b"x-sum", b"1")])
        else:
            assert response.body == (b"a" if phase == "on_response_body@2" else b"app")
            assert (response.trailers, response.complete) == ([], False)
        await comes_back(app, faulty)
    assert ("a response was cut off" in caplog.text) is (policy != "fail_open")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AFTERWARDS)
async def test_after_the_response(wrap_guests: Wrap, phase: str, policy: str) -> None:
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy) as app:
        faulty.armed = True
        response = await request(app, "POST", body=[b"x"])
        assert (response.status, response.body, faulty.traps) == (200, b"app", 1)
        faulty.armed = False
        await comes_back(app, faulty)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", OUTSIDE)
async def test_outside_of_requests(wrap_guests: Wrap, phase: str, policy: str) -> None:
    """Whoever waits for that VM has the policy."""
    faulty = Faulty(phase)
    faulty.calls_nobody = True

    async with served(wrap_guests, faulty, policy) as app:
        await fails_outside(app, faulty, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", OF_A_GRPC_STREAM)
async def test_in_a_callback_of_a_grpc_stream(wrap_guests: Wrap, phase: str, policy: str) -> None:
    pytest.importorskip("grpc")
    from tests.grpc_server import grpc_server

    faulty = Faulty(phase)

    async with grpc_server() as server, served(wrap_guests, faulty, policy, grpc=server.url) as app:
        await fails_outside(app, faulty, policy)


async def fails_outside(app: Any, faulty: Faulty, policy: str) -> None:
    paused = asyncio.ensure_future(request(app, headers=[(b"x-pause", b"1")]))
    await until(lambda: faulty.streams)
    faulty.armed = True
    response = await paused
    faulty.armed = False
    assert faulty.traps == 1
    assert (response.status, response.body) == ((200, b"app") if policy == "fail_open" else (503, b""))
    await comes_back(app, faulty)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AT_THE_START)
async def test_at_the_start(wrap_guests: Wrap, phase: str, policy: str) -> None:
    """A server is told; without lifespan, requests have the policy."""
    faulty = Faulty(phase)
    faulty.armed = True
    app = served(wrap_guests, faulty, policy)

    if policy != "fail_open":
        with pytest.raises(PluginStartError, match=f"(it trapped while starting|its entry point failed): .*{phase}"):
            await app.start()
    assert (await request(app)).status == (200 if policy == "fail_open" else 503)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AT_THE_START)
async def test_at_a_later_start(wrap_guests: Wrap, phase: str, policy: str) -> None:
    """The VM that is to take the place of one that failed fails itself: requests have the policy until one does not."""
    faulty = Faulty("on_request_headers")

    async with served(wrap_guests, faulty, policy) as app:
        faulty.armed = True
        await request(app)
        faulty.phase = phase
        await until_trapped(app, faulty, 2)
        assert (await request(app)).status == (200 if policy == "fail_open" else 503)
        faulty.armed = False
        await comes_back(app, faulty)


async def until_trapped(app: Any, faulty: Faulty, times: int) -> None:
    async def tried() -> None:
        while faulty.traps < times:
            await request(app)
            await asyncio.sleep(0.002)

    await asyncio.wait_for(tried(), 60)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", AT_THE_END)
async def test_at_the_end(wrap_guests: Wrap, phase: str, policy: str, caplog: pytest.LogCaptureFixture) -> None:
    """It ends all the same, and the log says what was wrong."""
    faulty = Faulty(phase)

    async with served(wrap_guests, faulty, policy) as app:
        assert (await request(app)).status == 200
        faulty.armed = True
    assert faulty.traps == 1
    assert "its VM failed while it was stopped" in caplog.text


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_restart_that_fails_is_not_tried_for_each_request(
    wrap_guests: Wrap, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = Faulty("on_request_headers")
    entry = {"failure_policy": policy, "reload_config": {"backoff": {"base_interval": 60}}}
    app = wrap_guests(answering(b"app"), faulty.guest, entries=[entry])

    await app.start()
    faulty.armed = True
    await request(app)
    faulty.phase = "on_configure"
    statuses = {(await request(app)).status for _ in range(50)}
    assert statuses == {200 if policy == "fail_open" else 503}
    # One at the beginning; then none, or as many as come at once.
    assert faulty.starts == (1 if policy == "fail_reload" else 4)
    await app.stop()
    assert caplog.text.count("it is started again in") == 1
    assert len(caplog.records) < 10


async def test_metrics_tell_who_is_away(wrap_guests: Wrap) -> None:
    pytest.importorskip("prometheus_client")
    from asgi_wasm.services.metrics.registry import process_registry
    from tests.services.metrics.scraping import scrape

    process_registry.cache_clear()
    faulty = Faulty("on_request_headers")
    entry = {"failure_policy": "fail_reload", "reload_config": {"backoff": {"base_interval": 0.2}}}
    app = wrap_guests(answering(b"app"), faulty.guest, entries=[entry], metrics=True)

    async def away() -> float | None:
        return (await scrape()).get("asgi_wasm_plugins_away", plugin="g0")

    await app.start()
    assert await away() is None
    faulty.armed = True
    for _ in range(3):
        await request(app)
    faulty.armed = False
    assert (faulty.traps, faulty.starts) == (1, 1)
    assert await away() == 1
    await comes_back(app, faulty)
    assert await away() == 0
    await app.stop()
    assert (await scrape()).all("asgi_wasm_plugins_away") == {}
    process_registry.cache_clear()
