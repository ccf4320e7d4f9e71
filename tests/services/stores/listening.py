"""A plugin that hears of queues."""

from __future__ import annotations

import os
from pathlib import Path

from asgi_wasm.host.plugin import Code, Plugin, VmPool
from asgi_wasm.host.ports import Ports
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.services.clock import SystemClock
from asgi_wasm.services.log import StandardLog
from asgi_wasm.services.stores.store import Store
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing import Guest
from tests.waiting import until

SECONDS = 60.0


def ports_over(store: Store) -> Ports:
    """Real ports whose state is kept there."""
    return Ports(
        log=StandardLog(),
        clock=SystemClock(),
        random=os.urandom,
        shared_data=store.shared_data,
        queues=store.queues,
        metrics=store.metrics,
        start=lambda effect: None,
    )


class Listener:
    """``heard`` are the tokens that its `on_queue_ready` was called with."""

    def __init__(self, store: Store) -> None:
        self.heard: list[int] = []
        self.root = self._start(store)

    def _start(self, store: Store) -> RootContext:
        guest = Guest(on_queue_ready=lambda _host, _root, token: self.heard.append(token))
        code = Code(guest.module(), guest.abi_version, "")
        return Plugin(PluginSpec("listener", Path("listener")), code, VmPool(ports_over(store))).root(b"")


async def all_heard(owner: Listener, at: Store, sender: Store) -> list[int]:
    """What an owner has heard, when all that was on its way has come: a queue of its own, told of last, says so."""
    last = at.queues.register("vm", b"last of %d" % id(owner), owner.root)
    sender.queues.enqueue(last, b"")
    await until(lambda: last in owner.heard)
    return [token for token in owner.heard if token != last]
