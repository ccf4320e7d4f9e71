"""A worker for each event loop that a middleware is called in.

The rule. What belongs to an event loop (VMs, timers, tasks, connections) belongs to a worker. A worker is made by the
first request or startup in its event loop, and is found by that loop alone, so no other thread ever enters its VMs. It
ends at the middleware's stop, or else with its event loop: at the latest when that is closed.

asyncio tells of a loop's end by `loop.shutdown_asyncgens`, which `asyncio.run` and every server, test client and
pytest plugin calls before it closes a loop: then asynchronous generators that began in the loop are closed, in the
loop. So each place of a worker is held open by one. Where a loop is closed without that, the next loop's first request
frees what is left of it.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop  # documented: as `get_running_loop`, but None where none runs
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from asgi_wasm.errors import AsgiWasmError, EventLoopError, one_line
from asgi_wasm.logs import Seldom, get_logger
from asgi_wasm.worker.last import NOBODY, last_of
from asgi_wasm.worker.place import Place
from asgi_wasm.worker.routing import of_none
from asgi_wasm.worker.services import SYSTEM, Services
from asgi_wasm.worker.shared import Shared
from asgi_wasm.worker.status import RunsHere, Status, running_on
from asgi_wasm.worker.watch import changes
from asgi_wasm.worker.worker import Worker

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import ASGIApp, Scope
    from asgi_wasm.host.vm.vm import ForeignFunction
    from asgi_wasm.services.stores.memory import MemoryState
    from asgi_wasm.services.traces.requests import TracedRequest
    from asgi_wasm.specs import HostSpec

    # What is read at each start. Raises `AsgiWasmError`.
    Configure = Callable[[], tuple[HostSpec, Mapping[str, ForeignFunction]]]

# Event loops at once. Each has its own VMs, of some MB each; test suites have as many loops as threads. More than this
# are loops that somebody forgot to close.
MOST_LOOPS = 128

logger = get_logger("asgi_wasm.host")


class Workers:
    """The workers of one middleware."""

    def __init__(
        self,
        app: ASGIApp,
        configure: Configure,
        services: Services = SYSTEM,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._services = services
        self._configure = configure
        self._shared = Shared()
        # By the loop's id, which another loop may have once it is gone.
        self._places: dict[int, Place] = {}
        self._lock = Lock()
        self._reloading: set[asyncio.Task[None]] = set()
        self._seldom = Seldom()
        # The last answer of `running` and by what to know its loop, as one object: another thread may put its own there
        # at any time.
        self.last = NOBODY
        # Told whenever `last` is another.
        self._changed = changed

    def __len__(self) -> int:
        """Event loops in which plugins run now."""
        return sum(place.worker is not None for place in tuple(self._places.values()))

    def running(self) -> Worker | None:
        """The worker of the running event loop, if it has been started. It is `last` afterwards."""
        place = self._places.get(id(_get_running_loop()))
        if place is None or place.worker is None or not place.home.runs_here():
            return None
        self.last = last_of(place.worker)
        self._changed()
        return place.worker

    @property
    def memory(self) -> MemoryState:
        """What ``memory://`` holds now."""
        return self._shared.memory

    def status(self) -> Status:
        """That of the running event loop's worker; without one, that nothing has been started."""
        place = self._places.get(id(_get_running_loop()))
        if place is None or place.worker is None or not place.home.runs_here():
            return Status()
        worker = place.worker
        return Status(worker.status(), place.draining, True, worker.routes, worker.trace_requests)

    def traces(self) -> tuple[TracedRequest, ...]:
        """The last requests of the running loop, the latest first."""
        worker = self.running()
        return () if worker is None else worker.traces()

    def leave_out(self, scope: Scope) -> None:
        """Keep no trace of a request of the running loop."""
        worker = self.running()
        if worker is not None:
            worker.leave_out(scope)

    def running_on(self, method: str, url: str) -> tuple[RunsHere, ...] | None:
        """Which plugins of the running loop a request for a URL would meet."""
        worker = self.running()
        return () if worker is None else running_on(worker.plugins, method, url)

    async def start(self) -> None:
        """Start the running loop's worker, strictly: see `WasmMiddleware.start`."""
        place = await self._place()
        async with place.lock:
            # A request may have come before the lifespan.
            worker = place.worker or await self._make()
            error = worker.plugins.first_error()
            self._put(place, worker)
            if error is not None:
                await self._end(place)
                raise error

    async def start_lazily(self) -> Worker | None:
        """Start on the loop's first request, once. None, and an error in the log, when that cannot be.

        A plugin that cannot start gets its failure policy on the requests that it would run on; the others run. What
        cannot be started at all is tried again by a later request, after a pause.
        """
        try:
            place = await self._place()
            async with place.lock:
                if place.worker is None and place.may_start:
                    self._put(place, await self._begin(place))
                return place.worker
        except Exception as error:
            self._tell_failure(error)
        return None

    def _tell_failure(self, error: Exception) -> None:
        if isinstance(error, AsgiWasmError):
            reason, trace = one_line(error), None
        else:
            reason, trace = f"{type(error).__name__}: {error}", error
        line = self._seldom.passes(f"no plugin runs, so every request is refused: {reason}")
        if line is not None:
            logger.error("%s", line, exc_info=trace)

    async def _begin(self, place: Place) -> Worker:
        """`_make`, and when it fails the place is told."""
        began = asyncio.get_running_loop().time()
        try:
            return await self._make()
        except Exception:
            place.start_failed(began)
            raise

    async def stop(self) -> None:
        """End the running loop's worker, also one that is being started. Idempotent."""
        place = self._places.get(id(_get_running_loop()))
        if place is not None and place.home.runs_here():
            async with place.lock:
                await self._end(place)
        self._shared.reset()

    async def reload(self) -> None:
        """Replace the workers of all loops: see `WasmMiddleware.reload`."""
        place = await self._place()
        await self._reload(place)
        for other in tuple(self._places.values()):
            if other is not place and other.worker is not None:
                # One that is closed by now has nothing to reload.
                with suppress(RuntimeError):
                    other.home.soon(partial(self._reload_later, other))

    async def _reload(self, place: Place) -> None:
        """Raises `AsgiWasmError`; then all is as it was."""
        async with place.lock:
            try:
                fresh = await self._make()
                if errors := fresh.plugins.errors():
                    await fresh.stop()
                    raise errors[0]
            except Exception:
                place.reload_ended("refused")
                raise
            # At once: a request that comes while the old ones stop must not find them.
            self._forget()
            await place.replace(fresh)
            self._put(place, fresh)
            place.reload_ended("done")
        logger.info("the plugins were reloaded")

    def _reload_later(self, place: Place) -> None:
        task = asyncio.get_running_loop().create_task(self._try_reload(place))
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _try_reload(self, place: Place) -> None:
        if place.worker is None:
            return
        try:
            await self._reload(place)
        except AsgiWasmError as error:
            logger.error("the plugins were not reloaded, and those from before run on: %s", one_line(error))
        except Exception:
            logger.exception("the plugins were not reloaded, and those from before run on")

    def _put(self, place: Place, worker: Worker) -> None:
        """Let requests have the worker, and follow its files if the settings say so."""
        place.worker = worker
        if worker.watched and (place.watching is None or place.watching.done()):
            place.watching = asyncio.get_running_loop().create_task(self._watch(place))

    async def _watch(self, place: Place) -> None:
        """Follow the files of whichever worker is there, until it has none to follow."""
        while place.worker is not None and place.worker.watched:
            watched = place.worker.watched
            async with aclosing(changes(watched)) as news:
                async for _ in news:
                    await self._try_reload(place)
                    if place.worker is None or place.worker.watched.keys() != watched.keys():
                        break

    # --- places

    async def _place(self) -> Place:
        """The running loop's. Raises `EventLoopError` when there is none, or too many."""
        loop = _get_running_loop()
        if loop is None:
            raise EventLoopError(
                "plugins run in event loops of asyncio, and none runs here: choose asyncio where the server, or the"
                " test, is told what to run on (trio is none)"
            )
        key = id(loop)
        with self._lock:
            place = self._places.get(key)
            if place is not None and place.home.runs_here():
                return place
            self._free_closed()
            if len(self._places) >= MOST_LOOPS:
                raise EventLoopError(
                    f"plugins run in {MOST_LOOPS} event loops already, and this would be one more: close event loops"
                    " that are not used any more"
                )
            place = self._places[key] = Place()
        place.life = self._live(key, place)
        await place.life.__anext__()
        return place

    async def _live(self, key: int, place: Place) -> AsyncGenerator[None, None]:
        """Begun in the loop, and so closed in it when the loop ends, or when nobody has the middleware any more."""
        try:
            yield
        finally:
            async with place.lock:
                await self._end(place)
            with self._lock:
                if self._places.get(key) is place:
                    del self._places[key]

    def _free_closed(self) -> None:
        """Free what is left of loops that were closed without a word. With the lock."""
        for key, place in tuple(self._places.items()):
            if place.home.is_over:
                del self._places[key]
                self._forget()
                place.abandon()

    # --- workers

    async def _make(self) -> Worker:
        spec, foreign_functions = self._configure()
        if (told := of_none(spec)) is not None:
            logger.warning("%s", told)
        worker = Worker(self._app, spec, foreign_functions, self._shared, self._services)
        try:
            await worker.start(spec)
        except BaseException:
            await worker.stop()
            raise
        return worker

    def _forget(self) -> None:
        self.last = NOBODY
        self._changed()

    async def _end(self, place: Place) -> None:
        self._forget()
        await place.end()
