from __future__ import annotations

from typing import Any

from asgi_wasm.host.abi import ProxyStatus
from tests.host.guest import INVALID_MEMORY_ACCESS, NOT_FOUND, OK, OUTSIDE, Calls, in_phase, start
from tests.host.world import World

EMPTY = (ProxyStatus.EMPTY,)


def test_register_resolve_enqueue_dequeue() -> None:
    def act(calls: Calls) -> Any:
        return [
            calls("proxy_resolve_shared_queue", b"id", b"q"),
            calls("proxy_register_shared_queue", b"q"),
            calls("proxy_register_shared_queue", b"q"),
            calls("proxy_register_shared_queue", b"other"),
            calls("proxy_resolve_shared_queue", b"id", b"q"),
            calls("proxy_resolve_shared_queue", b"", b"other"),
            calls("proxy_resolve_shared_queue", b"elsewhere", b"q"),
            calls("proxy_dequeue_shared_queue", 1),
            calls("proxy_enqueue_shared_queue", 1, b"one"),
            calls("proxy_enqueue_shared_queue", 1, b""),
            calls("proxy_dequeue_shared_queue", 1),
            calls("proxy_dequeue_shared_queue", 1),
            calls("proxy_dequeue_shared_queue", 1),
            calls("proxy_enqueue_shared_queue", 3, b"lost"),
            calls("proxy_dequeue_shared_queue", 0),
        ]

    token, other = (OK, 1), (OK, 2)
    assert in_phase("proxy_on_configure", act) == [
        *[(NOT_FOUND,), token, token, other, token, other, (NOT_FOUND,)],
        *[EMPTY, (OK,), (OK,), (OK, b"one"), (OK, b""), EMPTY],
        *[(NOT_FOUND,), (NOT_FOUND,)],
    ]


def test_the_owner_hears_of_each_value_after_the_callback() -> None:
    heard: list[str] = []

    def configure(calls: Calls, *_: int) -> int:
        token = calls("proxy_register_shared_queue", b"q")[1]
        calls("proxy_enqueue_shared_queue", token, b"1")
        calls("proxy_enqueue_shared_queue", token, b"2")
        heard.append("configured")
        return 1

    def ready(calls: Calls, root: int, token: int) -> None:
        heard.append(f"{root} {token} {calls('proxy_dequeue_shared_queue', token)[1].decode()}")

    world = World()
    start(world, {"proxy_on_configure": configure, "proxy_on_queue_ready": ready})
    assert heard == ["configured"]
    world.post()
    assert heard == ["configured", "1 1 1", "1 1 2"]


def test_the_last_registrant_is_the_owner_and_what_is_queued_stays() -> None:
    heard: list[Any] = []

    def register(calls: Calls, *_: int) -> int:
        token = calls("proxy_register_shared_queue", b"q")[1]
        calls("proxy_enqueue_shared_queue", token, b"v")
        return 1

    def ready(name: str) -> Any:
        def queue_ready(calls: Calls, _root: int, token: int) -> None:
            heard.append((name, calls("proxy_dequeue_shared_queue", token)))

        return queue_ready

    world = World()
    for name in ("first", "second"):
        given = {"proxy_on_configure": register, "proxy_on_queue_ready": ready(name)}
        start(world, given, name=name, vm_id="same")
    world.post()
    assert heard == [("second", (OK, b"v")), ("second", (OK, b"v"))]


def test_addresses_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        name, size = calls.host.store(b"q")
        calls("proxy_register_shared_queue", b"q")
        calls("proxy_enqueue_shared_queue", 1, b"value")
        return [
            calls.raw("proxy_register_shared_queue", OUTSIDE, 1, name),
            calls.raw("proxy_register_shared_queue", name, size, OUTSIDE),
            calls.raw("proxy_resolve_shared_queue", OUTSIDE, 1, name, size, name),
            calls.raw("proxy_resolve_shared_queue", name, 0, OUTSIDE, 1, name),
            calls.raw("proxy_resolve_shared_queue", name, 0, name, size, OUTSIDE),
            calls.raw("proxy_enqueue_shared_queue", 1, OUTSIDE, 1),
            calls.raw("proxy_dequeue_shared_queue", 1, OUTSIDE, calls.host.allocate(4)),
        ]

    assert in_phase("proxy_on_tick", act) == [INVALID_MEMORY_ACCESS] * 7
