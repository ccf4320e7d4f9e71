"""What the tests of a Redis that fails have in common: how hostcalls fare, when it answers again, what the log says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.redis.connections import RedisConnections
from asgi_wasm.services.stores.store import Store
from tests.driving import until

# Seconds that a hostcall waits for a server that is frozen: short, since none answers. Any other one is given 60, since
# what a busy machine answers late would be lost otherwise.
TIMEOUT = 0.5
CALLS = 200


def waited(store: Store) -> int:
    """How many of many hostcalls, each of which must fail, waited for the server: others are refused by what is known.

    They are made in one iteration of the event loop, in which no connection comes.
    """
    refused = []
    for _ in range(CALLS):
        with pytest.raises(PortError) as raised:
            store.shared_data.get("vm", b"k")
        refused.append(str(raised.value).endswith(" is not connected"))
    assert refused == sorted(refused), "once one was refused, all are"
    return refused.count(False)


def hurry(store: Store, seconds: float = TIMEOUT) -> None:
    """Let hostcalls over the connection that it has now, and over no later one, wait for so long only."""
    client: Any = connections(store)._client
    client.connection._limit._seconds = seconds


async def until_it_answers(store: Store) -> None:
    def answers() -> bool:
        try:
            store.shared_data.get("vm", b"k")
        except PortError:
            return False
        return True

    await until(answers)


async def cut(listening: Store, *stores: Store, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Lose the connections on which all stores over this Redis listen, and have those of the given ones back.

    `meanwhile` is called when they are lost and none of the stores has noticed.
    """
    made = {store: connections(store).made for store in stores}
    connections(listening).call("CLIENT", "KILL", "TYPE", "pubsub")
    meanwhile()
    for store in stores:
        await until(lambda store=store: connections(store).made > made[store])  # type: ignore[misc]
        await until_it_answers(store)


def connections(store: Store) -> RedisConnections:
    found: RedisConnections = store.queues.connections  # type: ignore[attr-defined]
    return found


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "asgi_wasm.host"]
