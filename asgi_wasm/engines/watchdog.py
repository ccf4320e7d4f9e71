"""One thread per process that tells engines that time passes, and sleeps while no guest runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol
from weakref import WeakSet

from asgi_wasm.engines.companion import Ticker
from asgi_wasm.logs import get_logger

logger = get_logger("asgi_wasm.engines")

# Seconds between two ticks, at most: enough for limits of seconds, and nobody notices ten a second.
LONGEST_PERIOD = 0.1
SHORTEST_PERIOD = 0.001
# So many seconds without a beat, and nobody runs. Much longer than the guest's thread may have to wait for the GIL, or
# for a processor, before it beats.
QUIET_SECONDS = 2.0


class NativeTick(NamedTuple):
    """How machine code ticks an engine: addresses of a C function and its argument, and what keeps them valid."""

    call: tuple[int, int]
    owner: object


class Ticking(Protocol):
    """An engine, by which every guest that runs, or runs next, calls `Watchdog.beat` after a tick."""

    def tick(self) -> None:
        """Time has passed. Called on the watchdog's thread."""
        ...

    @property
    def native_tick(self) -> NativeTick | None:
        """The same for machine code, on the same thread; None where Python is to do it."""
        ...

    def rest(self) -> None:
        """Nobody runs any more. Called on the watchdog's thread."""
        ...


class Watchdog:
    """Ticks while guests run.

    Whoever enters a guest does nothing for it. The last tick before the thread sleeps is seen by the next guest that is
    entered, and its beat wakes the thread.

    Its thread needs the GIL for each tick, and as long as it waits for it (up to 5 ms), whoever releases the GIL for a
    guest wakes it in vain, which costs many times what entering the guest does. A `Ticker` needs it once a round.
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
        self._ticker: Ticker | None = None
        self._thread: threading.Thread | None = None
        self._told = False

    @property
    def is_asleep(self) -> bool:
        """Whether it waits for a beat."""
        return self._thread is None or not self._wake.is_set()

    def tick_by(self, make: Callable[[], Ticker]) -> None:
        """Tick by what this makes from now on, unless there is one already."""
        with self._lock:
            self._ticker = self._ticker or make()

    def watch(self, engine: Ticking, period: float) -> None:
        """Tick ``engine`` from now on, every ``period`` seconds or more often, while it lives."""
        with self._lock:
            self._engines.add(engine)
            self._period = max(SHORTEST_PERIOD, min(self._period, period))
            if self._thread is None:
                self._wake.set()
                self._thread = threading.Thread(target=self._run, name="asgi-wasm watchdog", daemon=True)
                self._thread.start()
            elif self._ticker is not None:
                # The round that is under way knows neither of the engine nor of the period.
                self._ticker.ring()

    def beat(self) -> None:
        """A guest runs. Called in it, on any thread, after a tick."""
        self._beaten = True
        if not self._wake.is_set():
            self._wake.set()

    def _watched(self) -> list[Ticking]:
        with self._lock:
            return list(self._engines)

    def _native_ticks(self) -> list[NativeTick] | None:
        """Of every engine, or None where Python is to tick."""
        ticks = [engine.native_tick for engine in self._watched()]
        known = [each for each in ticks if each is not None]
        return known if len(known) == len(ticks) else None

    def _tick(self) -> None:
        """Tick, and wait for the time of the next; a round of ticks where machine code makes them."""
        ticker, period = self._ticker, self._period
        natives = None if ticker is None else self._native_ticks()
        if ticker is None or natives is None:
            for engine in self._watched():
                engine.tick()
            time.sleep(period)
        else:
            # Not from a generator: of a tuple that still grows the collector's lists tell any profiler, which ends it.
            calls = tuple([each.call for each in natives])
            ticker.run(calls, int(period * 1e6), max(1, int(QUIET_SECONDS / 2 / period)))

    def _run(self) -> None:
        heard = time.monotonic()
        while True:
            try:
                heard = self._round(heard)
            except Exception as error:
                # With this thread every time limit of the process would end.
                self._wake.set()
                self._tell(error)
                time.sleep(LONGEST_PERIOD)

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            logger.error("the watchdog goes on after a mistake of its own (said once): %s", error, exc_info=error)

    def _round(self, heard: float) -> float:
        """Tick; sleep, if no guest has run since ``heard`` for long. Returns when one was heard of last."""
        self._beaten = False
        self._tick()
        if self._beaten:
            return time.monotonic()
        if time.monotonic() - heard < QUIET_SECONDS:
            return heard
        # From here on a beat comes from the next guest that is entered, since it has not seen the last tick.
        self._wake.clear()
        if not self._beaten:
            for engine in self._watched():
                engine.rest()
            self._wake.wait()
        self._wake.set()
        return time.monotonic()
