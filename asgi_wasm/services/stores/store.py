"""Where state is kept that outlives a request: in this process, on this machine, or beyond it."""

from __future__ import annotations

import platform
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.services.stores.memory import MemoryState, MemoryStore

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Metrics, SharedData, SharedQueues
    from asgi_wasm.specs import StoreSpec


class Store(Protocol):
    """Three ports over one place. Between `start` and `stop` they belong to the thread of the running event loop."""

    @property
    def shared_data(self) -> SharedData: ...

    @property
    def queues(self) -> SharedQueues: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def is_away(self) -> bool:
        """Whether it cannot answer hostcalls, as far as is known. From any thread."""
        ...

    async def start(self) -> None:
        """Open or connect it. Raises `SettingsError` for a place that cannot be used."""
        ...

    async def stop(self) -> None:
        """Hear of no queue any more, and free what it holds. Idempotent."""
        ...

    def abandon(self) -> None:
        """`stop` when the event loop was closed before. From any thread."""
        ...


def _missing(spec: StoreSpec, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == spec.scheme:
        return f"shared_data is {spec.label}, which needs a package more: pip install 'asgi-wasm[{spec.scheme}]'"
    reason = str(error).partition("\n")[0]
    return (
        f"shared_data is {spec.label}, and the package {spec.scheme} cannot be loaded on Python"
        f" {platform.python_version()} ({type(error).__name__}: {reason}): choose another store, or a Python that"
        f" {spec.scheme} has a wheel for"
    )


def open_store(spec: StoreSpec, state: MemoryState | None = None) -> Store:
    """The store that the settings name, not started. Raises `MissingExtraError`.

    ``state`` is what ``memory://`` shares with the other workers of a middleware.
    """
    if spec.scheme == "memory":
        return MemoryStore(spec.limits, state)
    try:
        import_module(spec.scheme)
    except Exception as error:  # lmdb without its compiled part raises no ImportError but an Exception
        raise MissingExtraError(_missing(spec, error)) from None
    if spec.scheme == "lmdb":
        from asgi_wasm.services.stores.lmdb.store import LmdbStore

        return LmdbStore(spec)
    from asgi_wasm.services.stores.redis.store import RedisStore

    return RedisStore(spec)
