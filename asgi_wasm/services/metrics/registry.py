"""The metrics of this process, in prometheus_client's types; needs the extra ``metrics``, so it is imported late.

prometheus_client keeps a value in memory, or, where ``PROMETHEUS_MULTIPROC_DIR`` is set when it is first imported, in
that directory, in files of each process's own that any of the processes can read.
"""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from asgi_wasm.errors import SettingsError

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
# The names of a family's samples: its own and these suffixes (OpenMetrics, "MetricFamily").
_SUFFIXES = {
    COUNTER: ("", "_total", "_created"),
    GAUGE: ("",),
    HISTOGRAM: ("", "_bucket", "_sum", "_count", "_created"),
}
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

Labels = tuple[tuple[str, str], ...]


class NameTakenError(Exception):
    """Raised for a name whose samples would be mistaken for another family's."""


class SharedGauge:
    """One series of a gauge that several middlewares of this process may feed, perhaps in several threads: their sum.

    Values are ints until they are shown, because the difference of two great floats is not exact.
    """

    def __init__(self, family: Family, labels: Labels) -> None:
        self._family = family
        self._labels = labels
        self._child = family.gauge(labels)
        self._total = 0
        self._lock = Lock()
        self.shares = 0

    def add(self, delta: int) -> None:
        """Change the sum."""
        with self._lock:
            self._total += delta
            self._child.set(self._total)

    def release(self) -> None:
        """One feeder fewer; the series ends with the last one."""
        self._family.release(self, self._labels)


class GaugeShare:
    """What one middleware adds to a `SharedGauge`."""

    def __init__(self, gauge: SharedGauge) -> None:
        self._gauge = gauge
        self.value = 0

    def set(self, value: int) -> None:
        """Replace this share."""
        self._gauge.add(value - self.value)
        self.value = value

    def close(self) -> None:
        """Take this share back. Once."""
        self.set(0)
        self._gauge.release()


class Family:
    """The metrics of one name: one object of prometheus_client for each set of label names."""

    def __init__(self, name: str, kind: str, documentation: str, buckets: Sequence[float]) -> None:
        self.name = name
        self.kind = kind
        self.documentation = documentation
        self._buckets = buckets
        self._metrics: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}
        self._gauges: dict[Labels, SharedGauge] = {}
        # Held where something is made or dropped; prometheus_client's own objects are safe.
        self._lock = Lock()

    def _metric(self, labels: Labels) -> Counter | Gauge | Histogram:
        names = tuple(name for name, _ in labels)
        metric = self._metrics.get(names)
        if metric is None:
            made = self._make(names)
            # One wins when two threads make it.
            metric = self._metrics.setdefault(names, made)
        return metric

    def _make(self, names: tuple[str, ...]) -> Counter | Gauge | Histogram:
        if self.kind == COUNTER:
            return Counter(self.name, self.documentation, names, registry=None)
        if self.kind == GAUGE:
            # Each worker counts its own part (streams in flight, bytes of memory), and a dead one has none.
            return Gauge(self.name, self.documentation, names, registry=None, multiprocess_mode="livesum")
        return Histogram(self.name, self.documentation, names, registry=None, buckets=self._buckets)

    def _child(self, labels: Labels) -> Counter | Gauge | Histogram:
        metric = self._metric(labels)
        # To prometheus_client, a metric without labels is its own only child.
        return metric.labels(**dict(labels)) if labels else metric

    def counter(self, labels: Labels) -> Counter:
        """The counter with these labels."""
        child = self._child(labels)
        assert isinstance(child, Counter)
        return child

    def gauge(self, labels: Labels) -> Gauge:
        """The gauge with these labels."""
        child = self._child(labels)
        assert isinstance(child, Gauge)
        return child

    def histogram(self, labels: Labels) -> Histogram:
        """The histogram with these labels."""
        child = self._child(labels)
        assert isinstance(child, Histogram)
        return child

    def share(self, labels: Labels) -> GaugeShare:
        """A new share of the gauge with these labels."""
        with self._lock:
            gauge = self._gauges.get(labels)
            if gauge is None:
                gauge = self._gauges[labels] = SharedGauge(self, labels)
            gauge.shares += 1
        return GaugeShare(gauge)

    def release(self, gauge: SharedGauge, labels: Labels) -> None:
        """Take one share back; with the last one the gauge is forgotten.

        In multi-process mode it stays, as zero: prometheus_client cannot take it out of the file.
        """
        with self._lock:
            gauge.shares -= 1
            if not gauge.shares and directory() is None:
                del self._gauges[labels]
                if labels:
                    self._metric(labels).remove(*(value for _, value in labels))
                else:
                    del self._metrics[()]

    def collect(self) -> Metric:
        """All its samples, but for the times of creation, which multi-process mode does not have either."""
        collected = Metric(self.name, self.documentation, self.kind)
        for metric in list(self._metrics.values()):
            for part in metric.collect():
                collected.samples += [sample for sample in part.samples if sample.name != f"{self.name}_created"]
        return collected


class MetricRegistry:
    """Every family of this process, and which names their samples use."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._owners: dict[str, Family] = {}
        # Called before a scrape: sets what is only worth knowing then.
        self.measures: list[Callable[[], None]] = []
        self._lock = Lock()

    def family(self, name: str, kind: str, documentation: str, buckets: Sequence[float] = ()) -> Family:
        """The family, made if need be; the buckets are the first asker's.

        Raises `NameTakenError`, also for a family that is described otherwise: a plugin's is never the host's.
        """
        with self._lock:
            family = self._families.get(name)
            if family is not None and (family.kind, family.documentation) == (kind, documentation):
                return family
            samples = [name + suffix for suffix in _SUFFIXES[kind]]
            if any(sample in self._owners for sample in samples):
                raise NameTakenError(name)
            family = self._families[name] = Family(name, kind, documentation, buckets)
            self._owners.update(dict.fromkeys(samples, family))
            return family

    def collect(self) -> Iterable[Metric]:
        """prometheus_client's `Collector`: the families that have samples, as they are in this process's memory."""
        with self._lock:
            families = list(self._families.values())
        return [metric for family in families if (metric := family.collect()).samples]


@cache
def process_registry() -> MetricRegistry:
    """The one store of this process, the only state in asgi-wasm that no object owns.

    As in Envoy, where all listeners and workers share one. The two things outside of us are one per process too: the
    scrape, and the files of multi-process mode. A counter that a restarted middleware goes on with never falls.
    """
    return MetricRegistry()


# Now, while nobody else can: two threads that are the first to ask would each get one of their own.
process_registry()


def directory() -> Path | None:
    """Where processes share their metrics; None when each is alone. Raises `SettingsError` when it is not there."""
    value = os.environ.get(DIRECTORY_VARIABLE)
    if not value:
        return None
    path = Path(value)
    if not path.is_dir():
        raise SettingsError(f"{DIRECTORY_VARIABLE}: {value} is no directory: make it, empty, before the server starts")
    return path


async def expose(accept: str, compress: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a scrape: this process's metrics, or in multi-process mode those of all processes.

    The files of all processes are read on a thread; the store belongs to the event loop's. Raises `SettingsError`.
    """
    shared = directory()
    for measure in tuple(process_registry().measures):
        measure()
    registry = CollectorRegistry(auto_describe=False)
    if shared is None:
        registry.register(process_registry())
        return _encode(registry, accept, compress)
    _bury_the_dead(shared)
    registry.register(_SharedFiles(shared))
    return await asyncio.to_thread(_encode, registry, accept, compress)


def _encode(registry: CollectorRegistry, accept: str, compress: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    try:
        encoder, content_type = choose_encoder(accept)
        body = encoder(registry)
    except (TypeError, ValueError):
        # prometheus_client fails on a version that is no number, in a header that anybody may send.
        encoder, content_type = choose_encoder("")
        body = encoder(registry)
    headers = [(b"content-type", content_type.encode("latin-1")), (b"vary", b"accept, accept-encoding")]
    if compress:
        headers.append((b"content-encoding", b"gzip"))
        body = gzip.compress(body)
    return headers, body


class _SharedFiles:
    """`MultiProcessCollector`, but for files that another process has made and not yet filled: those it fails on."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared

    def collect(self) -> Iterable[Metric]:
        """The metrics of all processes, summed."""
        files = [str(path) for path in self._shared.glob("*.db") if _size(path)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _bury_the_dead(shared: Path) -> None:
    """Take the live gauges of killed workers out: uvicorn has no hook that could call `mark_process_dead` for them.

    That function is not used here either, since it fails when two workers do this at once. Not on Windows, where
    signal 0 is Ctrl-C; and only where our own files bear our process id, since prometheus_client can be told to name
    processes otherwise.
    """
    if os.name != "posix" or not any(shared.glob(f"*_{os.getpid()}.db")):
        return
    for path in shared.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        # Another user's process may not be asked, but is there.
        return not isinstance(error, ProcessLookupError)
    return True
