from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import AbiVersion, MapType
from asgi_wasm.host.codecs.wire import decode_pairs, encode_pairs
from tests.host.fed import REQUEST_HEADERS, RESPONSE_HEADERS, Exchange
from tests.host.guest import (
    BAD_ARGUMENT,
    INVALID_MEMORY_ACCESS,
    NOT_FOUND,
    OK,
    OUTSIDE,
    V010,
    V020,
    V021,
    Calls,
    in_phase,
    plugin,
    start,
)
from tests.host.world import World

REQUEST, REQUEST_TRAILERS, RESPONSE, RESPONSE_TRAILERS = list(MapType)[:4]
CALL_HEADERS = MapType.HTTP_CALL_RESPONSE_HEADERS

# Which map may be read in which callback, and what is in it (abi "readable when").
READABLE: dict[tuple[str, MapType], Any] = {
    ("proxy_on_request_headers", REQUEST): REQUEST_HEADERS,
    ("proxy_on_request_trailers", REQUEST_TRAILERS): [(b"x-end", b"1")],
    ("proxy_on_response_headers", RESPONSE): RESPONSE_HEADERS,
    ("proxy_on_response_trailers", RESPONSE_TRAILERS): [(b"x-end", b"2")],
    ("proxy_on_log", REQUEST): REQUEST_HEADERS,
    ("proxy_on_log", RESPONSE): RESPONSE_HEADERS,
    ("proxy_on_log", RESPONSE_TRAILERS): [(b"x-end", b"2")],
    ("proxy_on_http_call_response", CALL_HEADERS): [(b":status", b"200"), (b"x-answer", b"1")],
}
PHASES = sorted({phase for phase, _ in READABLE} | {"proxy_on_tick", "proxy_on_vm_start", "proxy_on_request_body"})


@pytest.mark.parametrize("map_type", MapType)
@pytest.mark.parametrize("phase", PHASES)
def test_which_map_is_readable_when(phase: str, map_type: MapType) -> None:
    def act(calls: Calls) -> Any:
        status, data = calls("proxy_get_header_map_pairs", map_type)
        return status, decode_pairs(data), calls("proxy_get_header_map_size", map_type)

    status, pairs, size = in_phase(phase, act)
    expected = READABLE.get((phase, map_type))
    assert (status, pairs) == (OK, expected or [])
    # Envoy tells the size of a map that may be changed only.
    if expected is None or phase in ("proxy_on_log", "proxy_on_http_call_response"):
        assert size == (BAD_ARGUMENT,)
    else:
        assert size == (OK, sum(len(name) + len(value) for name, value in expected))


@pytest.mark.parametrize("map_type", MapType)
@pytest.mark.parametrize("phase", PHASES)
def test_which_map_is_writable_when(phase: str, map_type: MapType) -> None:
    def act(calls: Calls) -> Any:
        return [
            calls("proxy_add_header_map_value", map_type, b"x", b"y"),
            calls("proxy_replace_header_map_value", map_type, b"x", b"y"),
            calls("proxy_remove_header_map_value", map_type, b"x"),
            calls("proxy_set_header_map_pairs", map_type, encode_pairs([(b":status", b"200")])),
        ]

    writable = (phase, map_type) in READABLE and map_type <= RESPONSE_TRAILERS and phase != "proxy_on_log"
    assert in_phase(phase, act) == [(OK,) if writable else (BAD_ARGUMENT,)] * 4


@pytest.mark.parametrize(
    ("key", "value"), [(b"x-one", b"1"), (b"X-One", b"1"), (b"x-two", b"2"), (b":path", b"/path?query")]
)
def test_the_first_value(key: bytes, value: bytes) -> None:
    answer = in_phase("proxy_on_request_headers", lambda calls: calls("proxy_get_header_map_value", REQUEST, key))
    assert answer == (OK, value)


@pytest.mark.parametrize(("version", "answer"), [(V010, (OK, b"")), (V020, (NOT_FOUND,)), (V021, (NOT_FOUND,))])
@pytest.mark.parametrize(
    ("phase", "map_type"),
    [
        ("proxy_on_request_headers", REQUEST),
        # In on_log a map that is not there is treated as an empty one.
        ("proxy_on_log", REQUEST_TRAILERS),
    ],
)
def test_a_missing_header(version: AbiVersion, answer: Any, phase: str, map_type: MapType) -> None:
    def act(calls: Calls) -> Any:
        return calls("proxy_get_header_map_value", map_type, b"nothing")

    assert in_phase(phase, act, version=version) == answer


@pytest.mark.parametrize("version", AbiVersion)
def test_a_value_of_a_map_that_is_not_there(version: AbiVersion) -> None:
    for phase in ("proxy_on_request_body", "proxy_on_tick"):
        answer = in_phase(phase, lambda calls: calls("proxy_get_header_map_value", REQUEST, b"x"), version=version)
        assert answer == (BAD_ARGUMENT,)


def test_an_empty_value_is_a_value_and_allocates_nothing() -> None:
    def act(calls: Calls) -> Any:
        calls("proxy_add_header_map_value", REQUEST, b"x-empty", b"")
        return calls("proxy_get_header_map_value", REQUEST, b"x-empty")

    assert in_phase("proxy_on_request_headers", act) == (OK, b"")


def changed(*operations: tuple[Any, ...]) -> list[tuple[bytes, bytes]]:
    """What reaches the app when a plugin does this in on_request_headers."""

    def headers(calls: Calls, *_: int) -> int:
        for name, *arguments in operations:
            assert calls(f"proxy_{name}", REQUEST, *arguments) == (OK,)
        return 0

    world, errors = World(), list[Exception]()
    exchange = Exchange(world, plugin(world, {"proxy_on_request_headers": headers}, errors=errors))
    exchange.request(headers=[(b":method", b"GET"), (b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert errors == []
    pairs: list[tuple[bytes, bytes]] = exchange.app.events[0][1]
    return pairs


def test_changes_reach_the_app() -> None:
    get = (b":method", b"GET")
    assert changed(("add_header_map_value", b"A", b"4"))[1:] == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"4")]
    assert changed(("replace_header_map_value", b"A", b"4")) == [get, (b"b", b"2"), (b"a", b"4")]
    assert changed(("replace_header_map_value", b"new", b"4"))[-1] == (b"new", b"4")
    assert changed(("remove_header_map_value", b"A")) == [get, (b"b", b"2")]
    assert changed(("remove_header_map_value", b"nothing"))[1:] == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert changed(("set_header_map_pairs", encode_pairs([(b"Z", b"1"), (b":method", b"PUT"), (b"z", b"2")]))) == [
        (b":method", b"PUT"),
        (b"z", b"1"),
        (b"z", b"2"),
    ]


@pytest.mark.parametrize("malformed", [b"", b"\1", b"\1\0\0\0", encode_pairs([(b"a", b"b")]) + b"\0"])
def test_malformed_pairs_clear_the_map(malformed: bytes) -> None:
    assert changed(("set_header_map_pairs", malformed)) == []


@pytest.mark.parametrize("map_type", [8, 255, 0xFFFFFFFF])
def test_an_unknown_map_is_refused_before_memory_is_read(map_type: int) -> None:
    def act(calls: Calls) -> Any:
        return [
            calls.raw("proxy_get_header_map_value", map_type, OUTSIDE, 1, OUTSIDE, OUTSIDE),
            calls.raw("proxy_add_header_map_value", map_type, OUTSIDE, 1, OUTSIDE, 1),
            calls.raw("proxy_replace_header_map_value", map_type, OUTSIDE, 1, OUTSIDE, 1),
            calls.raw("proxy_remove_header_map_value", map_type, OUTSIDE, 1),
            calls.raw("proxy_get_header_map_pairs", map_type, OUTSIDE, OUTSIDE),
            calls.raw("proxy_set_header_map_pairs", map_type, OUTSIDE, 1),
            calls.raw("proxy_get_header_map_size", map_type, OUTSIDE),
        ]

    assert in_phase("proxy_on_request_headers", act) == [BAD_ARGUMENT] * 7


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        inside, _ = calls.host.store(b"x-one")
        statuses = [
            calls.raw("proxy_get_header_map_value", REQUEST, OUTSIDE, 5, inside, inside),
            calls.raw("proxy_get_header_map_value", REQUEST, inside, OUTSIDE, inside, inside),
            calls.raw("proxy_get_header_map_value", REQUEST, inside, 5, OUTSIDE, inside),
            calls.raw("proxy_get_header_map_value", REQUEST, inside, 5, calls.host.allocate(4), OUTSIDE),
            calls.raw("proxy_add_header_map_value", REQUEST, OUTSIDE, 1, inside, 1),
            calls.raw("proxy_add_header_map_value", REQUEST, inside, 1, OUTSIDE, 1),
            calls.raw("proxy_replace_header_map_value", REQUEST, OUTSIDE, 1, inside, 1),
            calls.raw("proxy_replace_header_map_value", REQUEST, inside, 1, OUTSIDE, 1),
            calls.raw("proxy_remove_header_map_value", REQUEST, OUTSIDE, 1),
            calls.raw("proxy_get_header_map_pairs", REQUEST, OUTSIDE, inside),
            calls.raw("proxy_set_header_map_pairs", REQUEST, OUTSIDE, 4),
            calls.raw("proxy_get_header_map_size", REQUEST, OUTSIDE),
        ]
        return statuses, decode_pairs(calls("proxy_get_header_map_pairs", REQUEST)[1])

    assert in_phase("proxy_on_request_headers", act) == ([INVALID_MEMORY_ACCESS] * 12, REQUEST_HEADERS)


def test_headers_stay_writable_while_they_are_held() -> None:
    def body(calls: Calls, *_: int) -> int:
        calls("proxy_add_header_map_value", REQUEST, b"x-late", b"1")
        return 0

    world = World()
    made = plugin(
        world,
        {"proxy_on_request_headers": lambda *_: 1, "proxy_on_request_body": body},
        allow_on_headers_stop_iteration=True,
    )
    exchange = Exchange(world, made)
    exchange.request(b"body")
    assert exchange.app.events[0][1][-1] == (b"x-late", b"1")


@pytest.mark.parametrize("way", ["request", "response"])
def test_the_last_body_callback_makes_trailers(way: str) -> None:
    map_type = REQUEST_TRAILERS if way == "request" else RESPONSE_TRAILERS
    answers: list[Any] = []

    def body(calls: Calls, context: int, size: int, end: int) -> int:
        answers.append(calls("proxy_add_header_map_value", map_type, b"X-Made", b"1"))
        return 0

    world = World()
    exchange = Exchange(world, plugin(world, {f"proxy_on_{way}_body": body}))
    exchange.request(b"one", b"two")
    exchange.respond(b"one", b"two")
    sink = exchange.app if way == "request" else exchange.client
    assert answers == [(BAD_ARGUMENT,), (OK,)]
    assert sink.events[1:] == [("data", b"one", False), ("data", b"two", False), ("trailers", [(b"x-made", b"1")])]


def test_made_trailers_wait_behind_a_body_that_is_held() -> None:
    def body(calls: Calls, context: int, size: int, end: int) -> int:
        calls("proxy_add_header_map_value", REQUEST_TRAILERS, b"x-made", b"1")
        return 1

    world = World()
    made = plugin(world, {"proxy_on_request_body": body})
    exchange = Exchange(world, made)
    exchange.request(b"one")
    assert exchange.app.events[1:] == []
    exchange.chain.request.resume(exchange.chain.contexts[0])
    assert exchange.app.events[1:] == [("data", b"one", False), ("trailers", [(b"x-made", b"1")])]


def test_the_maps_of_another_stream_through_its_context() -> None:
    seen: list[Any] = []

    def tick(calls: Calls, _root: int) -> None:
        assert calls("proxy_set_effective_context", 2) == (OK,)
        seen.append(calls("proxy_get_header_map_value", REQUEST, b"x-one"))
        seen.append(calls("proxy_replace_header_map_value", REQUEST, b"x-one", b"changed"))

    world, errors = World(), list[Exception]()
    made = plugin(world, {"proxy_on_request_headers": lambda *_: 1, "proxy_on_tick": tick}, errors=errors)
    exchange = Exchange(world, made)
    exchange.request()
    made.root(b"conf").notify("proxy_on_tick")
    exchange.chain.request.resume(exchange.chain.contexts[0])
    assert errors == []
    assert seen == [(OK, b"1"), (OK,)]
    assert dict(exchange.app.events[0][1])[b"x-one"] == b"changed"


def test_a_root_context_has_no_stream_maps() -> None:
    seen: list[Any] = []

    def configure(calls: Calls, *_: int) -> int:
        seen.append(calls("proxy_add_header_map_value", REQUEST, b"a", b"b"))
        return 1

    start(World(), {"proxy_on_configure": configure})
    assert seen == [(BAD_ARGUMENT,)]
