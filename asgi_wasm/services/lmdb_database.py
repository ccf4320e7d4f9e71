"""An LMDB database that the processes of one machine have open at once, and what can go wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import ClassVar, TypeVar
from weakref import WeakValueDictionary

import lmdb

from asgi_wasm.errors import SettingsError
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.outage import Outage
from asgi_wasm.specs import StoreSpec

# One for each process; LMDB's own 126 are few for a large machine. 64 bytes each.
_MAX_READERS = 1024
# Reads go on when the database is full, so an outage ends when no write has failed for so long.
_QUIET_SECONDS = 5.0

_Result = TypeVar("_Result")
_Action = Callable[[lmdb.Transaction], _Result]


class Database:
    """One open environment."""

    # LMDB forbids to open a database twice in one process, and several middlewares may name the same, in any thread.
    _opening: ClassVar[Lock] = Lock()
    _opened: ClassVar[WeakValueDictionary[tuple[int, Path], Database]] = WeakValueDictionary()

    @classmethod
    def open(cls, spec: StoreSpec) -> Database:
        """The process's own, or a new one. Raises `SettingsError`."""
        key = (os.getpid(), spec.path.resolve())
        with cls._opening:
            found = cls._opened.get(key)
            if found is None:
                found = cls._opened[key] = cls(spec)
            return found

    def __init__(self, spec: StoreSpec) -> None:
        self._outage = Outage(spec.label, _QUIET_SECONDS)
        try:
            spec.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._environment = lmdb.open(
                str(spec.path), map_size=spec.map_size, mode=0o600, max_readers=_MAX_READERS, sync=False, metasync=False
            )
            self._environment.reader_check()
        except (lmdb.Error, OSError) as error:
            raise SettingsError(f"shared_data {spec.label} cannot be opened ({error}): mend or remove it") from None

    def read(self, action: _Action[_Result]) -> _Result:
        """Run ``action`` on what was last written. Raises `PortError`."""
        return self._run(action, write=False)

    def write(self, action: _Action[_Result]) -> _Result:
        """Run ``action`` in one transaction, after those of all other processes. Raises `PortError`."""
        result = self._run(action, write=True)
        self._outage.end()
        return result

    def _run(self, action: _Action[_Result], write: bool) -> _Result:
        try:
            try:
                return self._attempt(action, write)
            except (lmdb.MapFullError, lmdb.ReadersFullError):
                # A killed process may still hold a reader's place, and with it old pages.
                if not self._environment.reader_check():
                    raise
                return self._attempt(action, write)
        except lmdb.Error as error:
            self._outage.begin(error)
            raise PortError(str(error)) from error

    def _attempt(self, action: _Action[_Result], write: bool) -> _Result:
        with self._environment.begin(write=write) as transaction:
            return action(transaction)
