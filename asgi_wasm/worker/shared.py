"""What the workers of one middleware have in common, in whichever event loops and threads they run."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from asgi_wasm.services.metrics.names import Admission
from asgi_wasm.services.stores.memory import MemoryState
from asgi_wasm.services.stores.siblings import Siblings

if TYPE_CHECKING:
    from asgi_wasm.services.metrics.exported import ExportedMetrics
    from asgi_wasm.specs import MetricsSpec


class Shared:
    """State of ``memory://``, and what this process has once.

    It outlives the workers: each event loop of a test client goes on where the last one ended. `reset` begins anew.
    """

    def __init__(self) -> None:
        self.memory = MemoryState()
        # The exporters of a process are one, and never forget a name.
        self.admission = Admission()
        self._siblings = Siblings()
        self._lock = Lock()
        self._workers = 0
        self._exported: tuple[MetricsSpec, ExportedMetrics] | None = None

    def enter(self) -> None:
        """One worker more."""
        with self._lock:
            self._workers += 1

    def leave(self) -> None:
        """One worker fewer. With the last one, what describes the present ends."""
        with self._lock:
            self._workers -= 1
            if not self._workers:
                self._siblings.leave()
                self._withdraw()

    def reset(self) -> None:
        """Forget what plugins stored, if no worker is left: the middleware was stopped."""
        with self._lock:
            if not self._workers:
                self.memory = MemoryState()

    def is_second_process(self) -> bool:
        """Whether another worker process of this server was met before this one."""
        with self._lock:
            return self._siblings.is_second()

    def exported(self, spec: MetricsSpec) -> ExportedMetrics:
        """The exporter of the metrics in memory: one for all workers, so that a gauge counts once."""
        from asgi_wasm.services.metrics.exported import ExportedMetrics
        from asgi_wasm.services.metrics.registry import process_registry

        with self._lock:
            if self._exported is None or self._exported[0] != spec:
                self._withdraw()
                made = ExportedMetrics(self.memory.metrics, process_registry(), spec, self.admission, is_alone=True)
                self._exported = spec, made
            return self._exported[1]

    def _withdraw(self) -> None:
        if self._exported is not None:
            self._exported[1].close()
            self._exported = None
