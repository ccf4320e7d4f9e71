from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import AbiVersion, ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.testing.guests.guests import Callback
from tests.host.fed import Exchange
from tests.host.guest import BAD_ARGUMENT, INVALID_MEMORY_ACCESS, OK, OUTSIDE, V010, V021, Calls, in_phase, plugin
from tests.host.world import World

REQUEST, RESPONSE, DOWNSTREAM, UPSTREAM = range(4)
NO_GRPC_STATUS = 0xFFFF_FFFF


def reply(calls: Calls, *, status: int = 403, body: bytes = b"no", headers: bytes = b"", grpc: int = -1) -> Any:
    return calls("proxy_send_local_response", status, b"details", body, headers, grpc & 0xFFFF_FFFF)


@pytest.mark.parametrize("phase", ["proxy_on_request_headers", "proxy_on_response_body", "proxy_on_tick"])
def test_statuses(phase: str) -> None:
    def act(calls: Calls) -> Any:
        return [
            [calls(f"proxy_{name}_stream", kind)[0] for kind in (RESPONSE, DOWNSTREAM, UPSTREAM, 4, 0xFFFF_FFFF)]
            for name in ("continue", "close")
        ]

    bad = BAD_ARGUMENT
    assert in_phase(phase, act) == [[OK, OK, ProxyStatus.UNIMPLEMENTED, bad, bad], [OK, OK, OK, bad, bad]]


@pytest.mark.parametrize(
    ("version", "name", "arguments"),
    [
        (V010, "proxy_continue_request", ()),
        (V021, "proxy_continue_stream", (REQUEST,)),
    ],
)
def test_a_request_resumes_after_the_callback(version: AbiVersion, name: str, arguments: tuple[int, ...]) -> None:
    world, answers = World(), list[Any]()

    def tick(calls: Calls, _root: int) -> None:
        calls("proxy_set_effective_context", 2)
        answers.append(calls(name, *arguments))
        assert exchange.app.events == []

    errors = list[Exception]()
    given: dict[str, Callback] = {"proxy_on_request_headers": lambda *_: 1, "proxy_on_tick": tick}
    made = plugin(world, given, version=version, errors=errors)
    exchange = Exchange(world, made)
    exchange.request()
    assert exchange.app.events == []
    made.root(b"conf").notify("proxy_on_tick")
    assert (answers, errors) == ([(OK,)], [])
    assert [event[0] for event in exchange.app.events] == ["headers"]


@pytest.mark.parametrize(
    ("version", "name", "arguments"),
    [
        (V010, "proxy_continue_response", ()),
        (V021, "proxy_continue_stream", (RESPONSE,)),
    ],
)
def test_a_response_resumes(version: AbiVersion, name: str, arguments: tuple[int, ...]) -> None:
    world = World()

    def tick(calls: Calls, _root: int) -> None:
        calls("proxy_set_effective_context", 2)
        calls(name, *arguments)

    made = plugin(world, {"proxy_on_response_headers": lambda *_: 1, "proxy_on_tick": tick}, version=version)
    exchange = Exchange(world, made)
    exchange.request()
    made.root(b"conf").notify("proxy_on_tick")  # there is no response yet: nothing happens
    exchange.respond(b"body")
    assert exchange.client.events == []
    made.root(b"conf").notify("proxy_on_tick")
    assert [event[0] for event in exchange.client.events] == ["headers", "data"]


def test_clear_route_cache() -> None:
    assert in_phase("proxy_on_request_headers", lambda c: c("proxy_clear_route_cache"), version=V010) == (OK,)


@pytest.mark.parametrize(
    ("kind", "resets"), [(REQUEST, True), (RESPONSE, True), (DOWNSTREAM, False), (UPSTREAM, False)]
)
def test_close(kind: int, resets: bool) -> None:
    world = World()
    made = plugin(world, {"proxy_on_request_headers": lambda calls, *_: calls("proxy_close_stream", kind)[0]})
    exchange = Exchange(world, made)
    exchange.request(b"body")
    assert (exchange.client.reason == "plugin 'guest' closed the stream") is resets
    assert (exchange.app.events == []) is resets


def replied(**arguments: Any) -> Any:
    world = World()

    def headers(calls: Calls, *_: int) -> int:
        assert reply(calls, **arguments) == (OK,)
        assert exchange.client.events == []
        return 0

    errors = list[Exception]()
    exchange = Exchange(world, plugin(world, {"proxy_on_request_headers": headers}, errors=errors))
    exchange.request(b"body")
    assert errors == []
    assert exchange.app.events == []
    assert exchange.chain.local_details == b"details"
    return exchange.client.events


def test_a_local_response() -> None:
    pairs = encode_pairs([(b"X-Why", b"1"), (b"x-why", b"2")])
    head, data = replied(status=418, body=b"teapot", headers=pairs)
    assert head[1] == [
        (b":status", b"418"),
        (b"x-why", b"1"),
        (b"x-why", b"2"),
        (b"content-length", b"6"),
        (b"content-type", b"text/plain"),
    ]
    assert data == ("data", b"teapot", True)
    assert replied(body=b"") == [("headers", [(b":status", b"403")], True)]
    # Malformed pairs are none.
    assert replied(body=b"", headers=b"\1\0\0\0") == replied(body=b"")


def test_a_second_one_is_not_looked_at() -> None:
    def headers(calls: Calls, *_: int) -> int:
        return int(reply(calls, status=401)[0] or reply(calls, status=402)[0])

    world = World()
    exchange = Exchange(world, plugin(world, {"proxy_on_request_headers": headers}))
    exchange.request()
    assert exchange.client.status == b"401"
    assert len([event for event in exchange.client.events if event[0] == "headers"]) == 1


@pytest.mark.parametrize("phase", ["proxy_on_log", "proxy_on_done", "proxy_on_delete"])
@pytest.mark.parametrize("name", ["reply", "close", "continue"])
def test_when_it_is_over_nothing_can_be_asked_any_more(phase: str, name: str) -> None:
    def callback(calls: Calls, *_: int) -> int:
        answer = reply(calls) if name == "reply" else calls(f"proxy_{name}_stream", REQUEST)
        return int(answer[0])

    world = World()
    made = plugin(world, {"proxy_on_request_headers": lambda *_: 1, phase: callback})
    exchange = Exchange(world, made)
    exchange.request(b"body")
    exchange.chain.finish()
    assert (exchange.app.events, exchange.client.events, exchange.client.reason) == ([], [], None)
    assert made.root(b"conf").vm.failure is None


def test_from_a_root_context_it_goes_nowhere() -> None:
    assert in_phase("proxy_on_tick", reply) == (OK,)
    assert in_phase("proxy_on_configure", reply) == (OK,)


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        ranges = [(OUTSIDE, 1, 0, 0, 0, 0), (0, 0, OUTSIDE, 1, 0, 0), (0, 0, 0, 0, OUTSIDE, 1)]
        return [calls.raw("proxy_send_local_response", 200, *each, NO_GRPC_STATUS) for each in ranges]

    world = World()
    assert in_phase("proxy_on_request_headers", act, world=world) == [INVALID_MEMORY_ACCESS] * 3
