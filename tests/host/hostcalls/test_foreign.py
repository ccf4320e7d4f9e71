from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import HostcallError, ProxyStatus
from tests.host.guest import INTERNAL_FAILURE, INVALID_MEMORY_ACCESS, MARKER, NOT_FOUND, OK, OUTSIDE, Calls, in_phase
from tests.host.world import World

CALL = "proxy_call_foreign_function"


def broken(_: bytes) -> bytes:
    raise ZeroDivisionError("by the user")


def refusing(_: bytes) -> bytes:
    raise HostcallError(ProxyStatus.BAD_EXPRESSION)


def world() -> World:
    return World(
        foreign={
            "reverse": lambda given: given[::-1],
            "nothing": lambda _: None,
            "broken": broken,
            "refusing": refusing,
            "text": lambda _: "not bytes",  # type: ignore[dict-item, return-value]
        }
    )


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (b"reverse", (OK, b"cba")),
        (b"nothing", (OK, b"")),
        (b"unknown", (NOT_FOUND,)),
        (b"rever\xff", (NOT_FOUND,)),
        (b"broken", (INTERNAL_FAILURE,)),
    ],
)
@pytest.mark.parametrize("phase", ["proxy_on_configure", "proxy_on_request_headers"])
def test_call(phase: str, name: bytes, answer: Any) -> None:
    made = world()
    assert in_phase(phase, lambda calls: calls(CALL, name, b"abc"), world=made) == answer
    if name == b"broken":
        assert made.log.hosts[0][2] == f"{CALL} failed: ZeroDivisionError: by the user"


def test_a_function_that_answers_a_status_has_the_empty_result() -> None:
    def act(calls: Calls) -> Any:
        status = calls.raw(CALL, *calls.host.store(b"refusing"), 0, 0, 64, 68)
        return status, bytes(calls.memory.data[64:73])

    assert in_phase("proxy_on_tick", act, world=world()) == (ProxyStatus.BAD_EXPRESSION, bytes(8) + MARKER)


def test_a_result_that_is_no_bytes_is_our_users_mistake() -> None:
    made = world()
    store = in_phase(
        "proxy_on_tick", lambda calls: calls.raw(CALL, *calls.host.store(b"text"), 0, 0, 64, 68), world=made
    )
    assert store == INTERNAL_FAILURE
    assert "TypeError" in made.log.hosts[0][2]


def test_null_result_pointers_mean_that_nobody_wants_it() -> None:
    def act(calls: Calls) -> Any:
        status = calls.raw(CALL, *calls.host.store(b"reverse"), *calls.host.store(b"abc"), 0, 0)
        return status, bytes(calls.memory.data[:8])

    assert in_phase("proxy_on_tick", act, world=world()) == (OK, MARKER * 8)


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        name = calls.host.store(b"reverse")
        return [
            calls.raw(CALL, OUTSIDE, 1, 0, 0, 64, 68),
            calls.raw(CALL, *name, OUTSIDE, 1, 64, 68),
            calls.raw(CALL, *name, 64, 1, OUTSIDE, 68),
        ]

    assert in_phase("proxy_on_tick", act, world=world()) == [INVALID_MEMORY_ACCESS] * 3
