from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import AbiVersion, BufferType
from asgi_wasm.host.signatures import hostcalls
from asgi_wasm.host.streams.buffer import Buffer
from tests.host.fed import Exchange
from tests.host.guest import (
    BAD_ARGUMENT,
    INVALID_MEMORY_ACCESS,
    NOT_FOUND,
    OK,
    OUTSIDE,
    ROOT_PHASES,
    STREAM_PHASES,
    V010,
    Calls,
    in_phase,
    plugin,
    start,
)
from tests.host.world import World

REQUEST, RESPONSE = BufferType.HTTP_REQUEST_BODY, BufferType.HTTP_RESPONSE_BODY
ALL = 0x7FFF_FFFF
BODIES = (REQUEST, RESPONSE, BufferType.DOWNSTREAM_DATA, BufferType.UPSTREAM_DATA)
# Outside of their callbacks these are there, and empty.
EMPTY = (*BODIES, BufferType.GRPC_RECEIVE_BUFFER, BufferType.CALL_DATA)

# Callback -> what is in which buffer then.
FILLED: dict[tuple[str, BufferType], bytes] = {
    ("proxy_on_request_body", REQUEST): b"request ",
    ("proxy_on_response_body", RESPONSE): b"response ",
    ("proxy_on_http_call_response", BufferType.HTTP_CALL_RESPONSE_BODY): b"answer",
    ("proxy_on_configure", BufferType.PLUGIN_CONFIGURATION): b"conf",
    ("proxy_on_context_create", BufferType.PLUGIN_CONFIGURATION): b"conf",
}
PHASES = [*ROOT_PHASES, *STREAM_PHASES, "proxy_on_context_create", "proxy_on_done", "proxy_on_delete"]


@pytest.mark.parametrize("buffer_type", BufferType)
@pytest.mark.parametrize("phase", PHASES)
def test_what_is_there_when(phase: str, buffer_type: BufferType) -> None:
    def act(calls: Calls) -> Any:
        return (
            calls("proxy_get_buffer_bytes", buffer_type, 0, ALL),
            calls("proxy_get_buffer_status", buffer_type),
            calls("proxy_set_buffer_bytes", buffer_type, 0, ALL, b"new"),
        )

    data = FILLED.get((phase, buffer_type), b"" if buffer_type in EMPTY else None)
    if buffer_type is BufferType.VM_CONFIGURATION:
        data = b"vm conf"
    writable = buffer_type in (REQUEST, RESPONSE) and (phase, buffer_type) in FILLED
    got, status, put = in_phase(phase, act)
    if data is None:
        assert (got, status, put) == ((NOT_FOUND,),) * 3
    else:
        assert (got, status) == ((OK, data), (OK, len(data), 0))
        assert put == (OK,) if writable else (BAD_ARGUMENT,)


@pytest.mark.parametrize(
    ("start", "size", "data"),
    [
        (0, ALL, b"request "),
        (0, 0xFFFF_FFFF, b"request "),
        (0, 3, b"req"),
        (3, 2, b"ue"),
        (7, 9, b" "),
        (8, 1, b""),
        (9, 1, b""),
        (0xFFFF_FFFF, 0xFFFF_FFFF, b""),
        (0, 0, b""),
    ],
)
def test_get(start: int, size: int, data: bytes) -> None:
    answer = in_phase("proxy_on_request_body", lambda calls: calls("proxy_get_buffer_bytes", REQUEST, start, size))
    assert answer == (OK, data)


# Envoy `Buffer::copyFrom`, for a buffer of "12345".
SETS = [
    (0, 0, b"new", b"new12345"),
    (0, 0, b"", b"12345"),
    (0, 5, b"new", b"new"),
    (0, ALL, b"new", b"new"),
    (0, 0xFFFF_FFFF, b"", b""),
    (0, 2, b"new", b"new345"),
    (0, 2, b"", b"345"),
    (5, 0, b"new", b"12345new"),
    (6, 3, b"new", b"12345new"),
    (ALL, 0, b"new", b"12345new"),
    (1, 0, b"new", None),
    (4, 99, b"new", None),
]


@pytest.mark.parametrize(("start", "size", "value", "result"), SETS)
@pytest.mark.parametrize("way", ["request", "response"])
def test_set(way: str, start: int, size: int, value: bytes, result: bytes | None) -> None:
    answers: list[Any] = []

    def body(calls: Calls, *_: int) -> int:
        kind = REQUEST if way == "request" else RESPONSE
        answers.append(calls("proxy_set_buffer_bytes", kind, start, size, value))
        answers.append(calls("proxy_get_buffer_bytes", kind, 0, ALL))
        return 0

    world = World()
    exchange = Exchange(world, plugin(world, {f"proxy_on_{way}_body": body}))
    exchange.request(b"12345")
    exchange.respond(b"12345")
    assert answers == [(BAD_ARGUMENT,) if result is None else (OK,), (OK, b"12345" if result is None else result)]
    assert (exchange.app if way == "request" else exchange.client).body == (b"12345" if result is None else result)


def test_a_paused_body_is_shown_whole_each_time() -> None:
    seen: list[Any] = []

    def body(calls: Calls, _context: int, size: int, end: int) -> int:
        seen.append((size, end, calls("proxy_get_buffer_bytes", REQUEST, 0, ALL)[1]))
        if end:
            calls("proxy_set_buffer_bytes", REQUEST, 0, ALL, b"whole")
        return 0 if end else 1

    world = World()
    exchange = Exchange(world, plugin(world, {"proxy_on_request_body": body}))
    exchange.request(b"a", b"bc", b"def")
    assert seen == [(1, 0, b"a"), (3, 0, b"abc"), (6, 1, b"abcdef")]
    assert exchange.app.events[1:] == [("data", b"whole", True)]


def test_what_was_buffered_is_there_in_the_trailers_callback() -> None:
    seen: list[Any] = []

    def trailers(calls: Calls, *_: int) -> int:
        seen.append(calls("proxy_get_buffer_bytes", REQUEST, 0, ALL))
        seen.append(calls("proxy_set_buffer_bytes", REQUEST, 0, 0, b"<"))
        return 0

    world = World()
    made = plugin(world, {"proxy_on_request_body": lambda *_: 1, "proxy_on_request_trailers": trailers})
    exchange = Exchange(world, made)
    exchange.request(b"a", b"b", trailers=[(b"t", b"1")])
    assert seen == [(OK, b"ab"), (OK,)]
    assert exchange.app.events[1:] == [("data", b"<ab", False), ("trailers", [(b"t", b"1")])]


@pytest.mark.parametrize("buffer_type", [9, 0xFFFF_FFFF])
def test_an_unknown_buffer(buffer_type: int) -> None:
    def act(calls: Calls) -> Any:
        return [
            calls.raw("proxy_get_buffer_bytes", buffer_type, 0, 1, OUTSIDE, OUTSIDE),
            calls.raw("proxy_get_buffer_status", buffer_type, OUTSIDE, OUTSIDE),
            calls.raw("proxy_set_buffer_bytes", buffer_type, 0, 1, OUTSIDE, 1),
        ]

    assert in_phase("proxy_on_request_body", act) == [BAD_ARGUMENT] * 3


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        inside = calls.host.allocate(4)
        return [
            calls.raw("proxy_get_buffer_bytes", REQUEST, 0, ALL, OUTSIDE, inside),
            calls.raw("proxy_get_buffer_bytes", REQUEST, 0, ALL, inside, OUTSIDE),
            calls.raw("proxy_get_buffer_bytes", REQUEST, 0, 0, OUTSIDE, inside),
            calls.raw("proxy_get_buffer_status", REQUEST, OUTSIDE, inside),
            calls.raw("proxy_get_buffer_status", REQUEST, inside, OUTSIDE),
            calls.raw("proxy_set_buffer_bytes", REQUEST, 0, 0, OUTSIDE, 1),
            calls.raw("proxy_set_buffer_bytes", REQUEST, 0, 0, inside, OUTSIDE),
        ]

    assert in_phase("proxy_on_request_body", act) == [INVALID_MEMORY_ACCESS] * 7


@pytest.mark.parametrize("buffer_type", [BufferType.GRPC_RECEIVE_BUFFER, BufferType.CALL_DATA])
def test_what_a_callback_brings(buffer_type: BufferType) -> None:
    seen: list[Any] = []

    def receive(calls: Calls, *_: int) -> None:
        seen.append(calls("proxy_get_buffer_bytes", buffer_type, 0, ALL))
        seen.append(calls("proxy_set_buffer_bytes", buffer_type, 0, ALL, b"new"))

    root = start(World(), {"proxy_on_grpc_receive": receive})
    root.buffers = {buffer_type: Buffer(b"message", writable=False)}
    root.notify("proxy_on_grpc_receive", 6, 7)
    assert seen == [(OK, b"message"), (BAD_ARGUMENT,)]


@pytest.mark.parametrize(
    ("phase", "configuration"),
    [
        ("proxy_on_configure", b"conf"),
        ("proxy_on_context_create", b"conf"),
        ("proxy_on_vm_start", b"vm conf"),
        ("proxy_on_tick", b"vm conf"),
        ("proxy_on_request_headers", b"vm conf"),
    ],
)
def test_get_configuration(phase: str, configuration: bytes) -> None:
    def act(calls: Calls) -> Any:
        return calls("proxy_get_configuration"), calls.raw("proxy_get_configuration", OUTSIDE, OUTSIDE)

    assert in_phase(phase, act, version=V010) == ((OK, configuration), INVALID_MEMORY_ACCESS)


def test_get_configuration_is_of_the_first_version_only() -> None:
    knowing = [
        version for version in AbiVersion if "proxy_get_configuration" in {row.name for row in hostcalls(version)}
    ]
    assert knowing == [V010]
