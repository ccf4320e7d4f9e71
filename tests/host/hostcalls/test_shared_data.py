from __future__ import annotations

from typing import Any

from asgi_wasm.host.abi import ProxyStatus
from tests.host.guest import INVALID_MEMORY_ACCESS, NOT_FOUND, OK, OUTSIDE, Calls, in_phase
from tests.host.world import World

MISMATCH = (ProxyStatus.CAS_MISMATCH,)


def test_set_and_get_with_and_without_cas() -> None:
    def act(calls: Calls) -> Any:
        get, put = "proxy_get_shared_data", "proxy_set_shared_data"
        return [
            calls(get, b"key"),
            calls(put, b"key", b"one", 0),
            calls(get, b"key"),
            calls(put, b"key", b"two", 99),
            calls(put, b"key", b"two", 1),
            calls(get, b"key"),
            # A missing key takes any number; the counter is one for all keys.
            calls(put, b"other", b"", 7),
            calls(get, b"other"),
            calls(put, b"", b"empty key", 0),
            calls(get, b""),
        ]

    assert in_phase("proxy_on_request_headers", act) == [
        (NOT_FOUND,),
        (OK,),
        (OK, b"one", 1),
        MISMATCH,
        (OK,),
        (OK, b"two", 2),
        (OK,),
        (OK, b"", 3),
        (OK,),
        (OK, b"empty key", 4),
    ]


def test_the_namespace_is_the_vm_id() -> None:
    world = World()

    def put(calls: Calls) -> Any:
        return calls("proxy_set_shared_data", b"key", b"value", 0)

    def get(calls: Calls) -> Any:
        return calls("proxy_get_shared_data", b"key")

    assert in_phase("proxy_on_configure", put, world=world, vm_id="a") == (OK,)
    assert in_phase("proxy_on_tick", get, world=world, vm_id="a", name="other") == (OK, b"value", 1)
    assert in_phase("proxy_on_tick", get, world=world, vm_id="b") == (NOT_FOUND,)


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        key, size = calls.host.store(b"key")
        calls("proxy_set_shared_data", b"key", b"value", 0)
        return [
            calls.raw("proxy_get_shared_data", OUTSIDE, 1, key, key, key),
            calls.raw("proxy_get_shared_data", key, size, OUTSIDE, calls.host.allocate(4), calls.host.allocate(4)),
            calls.raw("proxy_get_shared_data", key, size, calls.host.allocate(8), calls.host.allocate(8), OUTSIDE),
            calls.raw("proxy_set_shared_data", OUTSIDE, 1, key, size, 0),
            calls.raw("proxy_set_shared_data", key, size, key, OUTSIDE, 0),
        ]

    assert in_phase("proxy_on_tick", act) == [INVALID_MEMORY_ACCESS] * 5
