"""A time limit on each of Redis's answers as a whole: redis-py has one on each part of it that comes.

A hostcall holds the event loop while it waits; a server behind a slow line would go on giving a large value in pieces.
"""

from __future__ import annotations

import time
from typing import Any

from redis import ConnectionPool


def bound_answers(pool: ConnectionPool, seconds: float) -> None:
    """Let whoever has a connection of this pool wait for so long, from where an answer begins to be read."""
    kind: Any = pool.connection_class

    class Bounded(kind):  # type: ignore[misc]  # whichever it is: TLS has one of its own
        def __init__(self, **options: Any) -> None:
            self._limit = _Limit(seconds)
            super().__init__(**options)

        def _connect(self) -> Any:
            # How redis-py's own kinds of connection differ.
            return _BoundedSocket(super()._connect(), self._limit)

        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            super().send_packed_command(command, check_health)
            self._limit.end = None

    pool.connection_class = Bounded


class _Limit:
    """Of one answer at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # By `time.monotonic`; None before the answer is looked for: a busy machine may let that wait.
        self.end: float | None = None

    def left(self) -> float:
        """Seconds."""
        now = time.monotonic()
        if self.end is None:
            self.end = now + self._seconds
        return self.end - now


class _BoundedSocket:
    """A socket that is read no longer than the limit allows, whatever comes until then."""

    def __init__(self, socket: Any, limit: _Limit) -> None:
        self._socket, self._limit = socket, limit
        self._seconds: float | None = socket.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """That of each call, as a socket's."""
        self._seconds = seconds
        self._socket.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        self._hurry()
        return self._socket.recv(size)  # type: ignore[no-any-return]

    def recv_into(self, buffer: Any) -> int:
        self._hurry()
        return self._socket.recv_into(buffer)  # type: ignore[no-any-return]

    def sendall(self, data: bytes) -> None:
        # Python's own limit is one on all of it.
        self._socket.settimeout(self._seconds)
        self._socket.sendall(data)

    def _hurry(self) -> None:
        if self._seconds == 0:
            # It does not wait.
            return
        left = self._limit.left()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left if self._seconds is None else min(left, self._seconds))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
