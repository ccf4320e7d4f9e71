"""One thread per process that tells engines that time passes, and sleeps while no guest runs."""

from __future__ import annotations

import os
import threading
import time
from typing import ClassVar, Protocol
from weakref import WeakSet

# Seconds between two ticks, at most: enough for limits of seconds, and nobody notices ten a second.
LONGEST_PERIOD = 0.1
SHORTEST_PERIOD = 0.001
# So many seconds without a beat, and nobody runs. Much longer than the guest's thread may have to wait for the GIL, or
# for a processor, before it beats.
QUIET_SECONDS = 2.0


class Ticking(Protocol):
    """An engine, by which every guest that runs, or runs next, calls `Watchdog.beat` after a tick."""

    def tick(self) -> None:
        """Time has passed. Called on the watchdog's thread."""
        ...

    def rest(self) -> None:
        """Nobody runs. Called likewise."""
        ...


class Watchdog:
    """Ticks while guests run.

    Whoever enters a guest does nothing for it. The last tick before the thread sleeps is seen by the next guest that is
    entered, and its beat wakes the thread.
    """

    _of_process: ClassVar[tuple[int, Watchdog] | None] = None
    _making: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def of_process(cls) -> Watchdog:
        """The one of this process; a forked child has another."""
        with cls._making:
            if cls._of_process is None or cls._of_process[0] != os.getpid():
                cls._of_process = os.getpid(), cls()
            return cls._of_process[1]

    def __init__(self) -> None:
        self._engines: WeakSet[Ticking] = WeakSet()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._beaten = False
        self._period = LONGEST_PERIOD
        self._thread: threading.Thread | None = None

    @property
    def is_asleep(self) -> bool:
        """Whether it waits for a beat."""
        return self._thread is None or not self._wake.is_set()

    def watch(self, engine: Ticking, period: float) -> None:
        """Tick ``engine`` from now on, every ``period`` seconds or more often, while it lives."""
        with self._lock:
            self._engines.add(engine)
            self._period = max(SHORTEST_PERIOD, min(self._period, period))
            if self._thread is None:
                self._wake.set()
                self._thread = threading.Thread(target=self._run, name="asgi-wasm watchdog", daemon=True)
                self._thread.start()

    def beat(self) -> None:
        """A guest runs. Called in it, on any thread, after a tick."""
        self._beaten = True
        if not self._wake.is_set():
            self._wake.set()

    def _tell_all(self, *, rest: bool) -> None:
        with self._lock:
            engines = list(self._engines)
        for engine in engines:
            if rest:
                engine.rest()
            else:
                engine.tick()

    def _run(self) -> None:
        heard = time.monotonic()
        while True:
            self._beaten = False
            self._tell_all(rest=False)
            time.sleep(self._period)
            if self._beaten:
                heard = time.monotonic()
            elif time.monotonic() - heard >= QUIET_SECONDS:
                # From here on a beat comes from the next guest that is entered, since it has not seen the last tick.
                self._wake.clear()
                if not self._beaten:
                    self._tell_all(rest=True)
                    self._wake.wait()
                self._wake.set()
                heard = time.monotonic()
