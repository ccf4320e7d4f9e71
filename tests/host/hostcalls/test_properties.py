from __future__ import annotations

import struct
from typing import Any

import pytest

from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.codecs.wire import PropertyValue, encode_pairs
from tests.host.fed import Exchange
from tests.host.guest import INTERNAL_FAILURE, INVALID_MEMORY_ACCESS, NOT_FOUND, OK, OUTSIDE, Calls, in_phase, plugin
from tests.host.world import World

VALUES: dict[tuple[bytes, ...], PropertyValue] = {
    (b"request", b"path"): b"/p\xff",
    (b"request", b"protocol"): "HTTP/1.1",
    (b"source", b"port"): 40000,
    (b"request", b"time"): 1_700_000_000_123_456_789,
    (b"connection", b"mtls"): True,
    (b"no",): False,
    (b"double",): 1.5,
    (b"request", b"headers"): {b"a": b"1", b"b": b"2"},
    (b"request", b"headers", b"x-a"): b"1,2",
    (b"list",): [1, 2],
    (b"empty",): b"",
    (b"too", b"big"): 1 << 64,
}
ENCODED: dict[bytes, bytes] = {
    b"request\0path": b"/p\xff",
    b"request\0protocol": b"HTTP/1.1",
    b"source\0port": struct.pack("<q", 40000),
    b"request\0time": struct.pack("<q", 1_700_000_000_123_456_789),
    b"connection\0mtls": b"\1",
    b"no": b"\0",
    b"double": struct.pack("<d", 1.5),
    b"request\0headers": encode_pairs([(b"a", b"1"), (b"b", b"2")]),
    b"request\0headers\0x-a": b"1,2",
    b"list": encode_pairs([(struct.pack("<q", 1), b""), (struct.pack("<q", 2), b"")]),
    b"empty": b"",
    b"plugin_name": b"guest",
    b"plugin_root_id": b"root",
    b"plugin_vm_id": b"id",
    b"listener_direction": struct.pack("<q", 1),
}


@pytest.mark.parametrize("end", [b"", b"\0"])  # the C++ SDK ends a path with a NUL
@pytest.mark.parametrize("path", ENCODED)
def test_get(path: bytes, end: bytes) -> None:
    answer = in_phase(
        "proxy_on_request_headers", lambda calls: calls("proxy_get_property", path + end), attributes=VALUES
    )
    assert answer == (OK, ENCODED[path])


@pytest.mark.parametrize("path", [b"", b"\0", b"request", b"request\0"])
def test_the_start_of_a_path(path: bytes) -> None:
    answer = in_phase("proxy_on_request_headers", lambda calls: calls("proxy_get_property", path), attributes=VALUES)
    assert answer == (ProxyStatus.SERIALIZATION_FAILURE,)


@pytest.mark.parametrize("path", [b"nothing", b"plugin_name\0more", b"\xff\xfe"])
def test_a_missing_property(path: bytes) -> None:
    answer = in_phase("proxy_on_request_headers", lambda calls: calls("proxy_get_property", path), attributes=VALUES)
    assert answer == (NOT_FOUND,)


def test_a_value_that_does_not_fit() -> None:
    world = World()
    answer = in_phase(
        "proxy_on_request_headers",
        lambda calls: calls("proxy_get_property", b"too\0big"),
        attributes=VALUES,
        world=world,
    )
    assert answer == (INTERNAL_FAILURE,)
    assert "proxy_get_property failed" in world.log.hosts[0][2]


@pytest.mark.parametrize(
    "phase", ["proxy_on_context_create", "proxy_on_vm_start", "proxy_on_configure", "proxy_on_tick"]
)
def test_a_root_context_knows_its_plugin_and_no_stream(phase: str) -> None:
    def act(calls: Calls) -> Any:
        return [calls("proxy_get_property", path) for path in (b"plugin_root_id", b"plugin_name\0", b"request\0path")]

    assert in_phase(phase, act, attributes=VALUES) == [(OK, b"root"), (OK, b"guest"), (NOT_FOUND,)]


def test_an_empty_root_id_is_known() -> None:
    # The C++ SDK aborts otherwise.
    answer = in_phase(
        "proxy_on_context_create", lambda calls: calls("proxy_get_property", b"plugin_root_id"), root_id=""
    )
    assert answer == (OK, b"")


def test_what_a_plugin_sets_later_plugins_and_the_app_read() -> None:
    answers: list[Any] = []

    def first(calls: Calls, *_: int) -> int:
        answers.append(calls("proxy_set_property", b"user", b"\xffann"))
        answers.append(calls("proxy_set_property", b"request\0path", b"/forged"))
        return 0

    def second(calls: Calls, *_: int) -> int:
        answers.extend(calls("proxy_get_property", path) for path in (b"user", b"user\0", b"request\0path"))
        answers.append(calls("proxy_set_property", b"user", b""))
        answers.append(calls("proxy_get_property", b"user"))
        return 0

    world = World()
    exchange = Exchange(
        world,
        plugin(world, {"proxy_on_request_headers": first}, name="first"),
        plugin(world, {"proxy_on_request_headers": second}, name="second"),
        attributes=VALUES,
    )
    exchange.request()
    # What the host knows cannot be overwritten.
    assert answers == [(OK,), (OK,), (OK, b"\xffann"), (OK, b"\xffann"), (OK, b"/p\xff"), (OK,), (OK, b"")]
    assert exchange.chain.properties[b"user"] == b""


@pytest.mark.parametrize("phase", ["proxy_on_configure", "proxy_on_tick"])
def test_a_root_context_cannot_set(phase: str) -> None:
    assert in_phase(phase, lambda calls: calls("proxy_set_property", b"a", b"b")) == (NOT_FOUND,)


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        path, size = calls.host.store(b"plugin_name")
        return [
            calls.raw("proxy_get_property", OUTSIDE, 1, path, path),
            calls.raw("proxy_get_property", path, OUTSIDE, path, path),
            calls.raw("proxy_get_property", path, size, OUTSIDE, path),
            calls.raw("proxy_set_property", OUTSIDE, 1, path, size),
            calls.raw("proxy_set_property", path, size, OUTSIDE, 1),
        ]

    assert in_phase("proxy_on_request_headers", act) == [INVALID_MEMORY_ACCESS] * 5
