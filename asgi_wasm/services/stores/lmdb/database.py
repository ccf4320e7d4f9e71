"""An LMDB database that the processes of one machine have open at once, and what can go wrong with it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import ClassVar, TypeVar
from weakref import WeakValueDictionary

import lmdb

from asgi_wasm.errors import SettingsError
from asgi_wasm.host.ports import PortError
from asgi_wasm.services.stores.lmdb.file import CutError, Lengths, check_length, never_close, reserve_lock
from asgi_wasm.services.stores.lmdb.writer import WriterBusyError, WriterLock
from asgi_wasm.services.stores.outage import Outage
from asgi_wasm.specs import StoreSpec

# One for each process; LMDB's own 126 are few for a large machine. 64 bytes each.
_MAX_READERS = 1024
# Reads go on when the database is full, so an outage ends when no write has failed for so long.
_QUIET_SECONDS = 5.0
# The form of the records (`services.stores.lmdb.store`); to be raised when one of them changes.
_VERSION_KEY, _VERSION = b"version", b"2"

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
        self._spec = spec
        self.outage = Outage(spec.label, _QUIET_SECONDS)
        # One transaction at a time, since the map may have to be made anew between two.
        self._using = Lock()
        # Found at the start: nothing of it may be looked at.
        self._cut: CutError | None = None
        try:
            spec.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            reserve_lock(spec.path, _MAX_READERS)
            self._writer = WriterLock(spec.path)
            self._open()
        except (lmdb.Error, OSError, OverflowError, CutError, WriterBusyError) as error:
            raise SettingsError(
                f"shared_data {spec.label} cannot be opened ({_reason(error, spec)}): mend or remove it"
            ) from None

    def _open(self) -> None:
        spec = self._spec
        self._environment = environment = lmdb.open(
            str(spec.path), map_size=spec.map_size, mode=0o600, max_readers=_MAX_READERS, sync=False, metasync=False
        )
        self._lengths = Lengths(spec.path)
        try:
            check_length(environment, spec.path)
        except CutError as error:
            # As for a Redis that is away, the server starts, while hostcalls are refused.
            self._cut = error
            self.outage.begin(_reason(error, spec))
            return
        environment.reader_check()
        self._check_version()

    def __del__(self) -> None:
        # Without them where it was not opened.
        lengths = getattr(self, "_lengths", None)
        try:
            if lengths is not None:
                lengths.check()
        except (CutError, OSError):
            never_close(self._environment)

    def _check_version(self) -> None:
        """Raises `SettingsError` for records of another version of this package."""
        with self._writer, self._environment.begin(write=True) as transaction:
            found = transaction.get(_VERSION_KEY)
            if found is None and not transaction.stat()["entries"]:
                transaction.put(_VERSION_KEY, _VERSION)
            elif found is None or bytes(found) != _VERSION:
                version = "1" if found is None else bytes(found)[:20].decode("ascii", "replace")
                raise SettingsError(
                    f"shared_data {self._spec.label} has records of version {version}, and this release of asgi-wasm"
                    f" writes version {_VERSION.decode()}: name another folder, or remove this one when no worker of"
                    " the other release runs"
                )

    def read(self, action: _Action[_Result]) -> _Result:
        """Run ``action`` on what was last written. Raises `PortError`."""
        return self._run(action, write=False)

    def write(self, action: _Action[_Result]) -> _Result:
        """Run ``action`` in one transaction, after those of all other processes. Raises `PortError`."""
        result = self._run(action, write=True)
        self.outage.end()
        return result

    def _run(self, action: _Action[_Result], write: bool) -> _Result:
        try:
            with self._using:
                if self._cut is not None:
                    raise CutError(*self._cut.args)
                self._lengths.check()
                try:
                    return self._attempt(action, write)
                except (lmdb.MapFullError, lmdb.MapResizedError, lmdb.ReadersFullError, lmdb.PanicError) as error:
                    if not self._mend(error):
                        raise
                    return self._attempt(action, write)
        except (lmdb.Error, CutError, WriterBusyError, struct.error) as error:
            self.outage.begin(_reason(error, self._spec))
            raise PortError(str(error)) from error

    def _mend(self, error: lmdb.Error) -> bool:
        """Whether it may go better now."""
        environment = self._environment
        if isinstance(error, lmdb.PanicError):
            # A write failed halfway: LMDB wants to be opened anew. What was committed before is there.
            environment.close()
            self._lengths.close()
            self._open()
            return True
        before = environment.info()["map_size"]
        if not isinstance(error, lmdb.ReadersFullError):
            # Another worker's map_size may be larger: that is the database's then.
            environment.set_mapsize(0)
            if environment.info()["map_size"] > before:
                return True
        # A killed process may still hold a reader's place, and with it old pages.
        return bool(environment.reader_check()) or isinstance(error, lmdb.MapResizedError)

    def _attempt(self, action: _Action[_Result], write: bool) -> _Result:
        if not write:
            with self._environment.begin() as transaction:
                return action(transaction)
        with self._writer, self._environment.begin(write=True) as transaction:
            return action(transaction)


def _reason(error: Exception, spec: StoreSpec) -> str:
    """What went wrong, and what to do, for the log."""
    text = " ".join(str(error).split())
    if isinstance(error, lmdb.MapFullError):
        return f"{text}: raise its map_size, {spec.map_size} bytes"
    if isinstance(error, lmdb.DiskError) or "No space left on device" in text:
        return f"the disk is full: {text}"
    if isinstance(error, CutError):
        return f"{text}; stop its workers, then restore or remove the folder"
    if isinstance(error, WriterBusyError):
        return f"{text}: it is stopped (SIGSTOP, a debugger), or the machine is too busy"
    if isinstance(error, struct.error):
        return f"it has a record of another form, as of another release: {text}"
    return text
