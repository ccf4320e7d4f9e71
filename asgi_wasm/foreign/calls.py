"""Asynchronous foreign functions as tasks."""

from __future__ import annotations

from asgi_wasm.foreign import python
from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.effects import EndCallouts, ForeignCall
from asgi_wasm.host.ports import LimitReachedError
from asgi_wasm.services.tasks import Tasks, share


class ForeignCalls:
    """Runs each call as a task of its own: a slow one holds nobody."""

    def __init__(self) -> None:
        self._tasks = Tasks()

    def start(self, call: ForeignCall) -> None:
        """Run it; its answer, or its failure, is delivered to the root context later, once."""
        self._tasks.start(self._run(call), call.root)

    def end(self, effect: EndCallouts) -> None:
        """Cancel those of a root context that is gone: they would keep its VM, with all its memory, until they end."""
        self._tasks.cancel(effect.root)

    async def _run(self, call: ForeignCall) -> None:
        try:
            with share(call.root, len(call.arguments)):
                result = python.result_bytes(await call.function(call.arguments))
        except LimitReachedError:
            python.deliver(call, b"", (ProxyStatus.INTERNAL_FAILURE, b"overflow"))
        except Exception as error:
            python.deliver(call, b"", python.failure_of(call.root, call.name, error))
        else:
            python.deliver(call, result)

    @property
    def under_way(self) -> bool:
        """Whether any call has not been answered."""
        return self._tasks.under_way

    async def close(self) -> None:
        """Cancel what is under way: nothing of it is delivered any more."""
        await self._tasks.close()

    def abandon(self) -> None:
        """`close` for a worker whose event loop is closed."""
        self._tasks.abandon()
