"""What is around plugins, to be read by a test: one plugin of several, and shared data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence

from asgi_wasm.services.stores.memory import MemoryState
from asgi_wasm.testing.records import Calls, LogLine, Recorder, without_allocations


class SharedDataView(MutableMapping[bytes, bytes]):
    """The shared data of one vm_id. A key or value that is given as text is its UTF-8."""

    def __init__(self, memory: Callable[[], MemoryState], vm_id: str) -> None:
        self._memory = memory
        self._vm_id = vm_id

    def _items(self) -> dict[bytes, bytes]:
        return self._memory().shared_data.items(self._vm_id)

    def __getitem__(self, key: bytes | str) -> bytes:
        items = self._items()
        try:
            return items[_bytes(key)]
        except KeyError:
            raise _missing(key, items) from None

    def __setitem__(self, key: bytes | str, value: bytes | str) -> None:
        self._memory().shared_data.set(self._vm_id, _bytes(key), _bytes(value), 0)

    def __delitem__(self, key: bytes) -> None:
        raise TypeError("shared data has no way to remove a key: set it to b''")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items())

    def __len__(self) -> int:
        return len(self._items())

    def __repr__(self) -> str:
        return repr(self._items())


class Metrics(dict[str, "int | tuple[int, int]"]):
    """Metrics by name; a name that is none says which there are."""

    def __missing__(self, name: str) -> int:
        raise _missing(name, self)


def _bytes(given: bytes | str) -> bytes:
    return given.encode() if isinstance(given, str) else given


def _missing(name: object, there: Iterable[object]) -> KeyError:
    return KeyError(f"there is no {name!r} (there are: {', '.join(map(repr, there)) or 'none'})")


class PluginView:
    """What one plugin did, from its start on, and what is kept for it."""

    def __init__(self, name: str, vm_id: str, recorder: Recorder, memory: Callable[[], MemoryState]) -> None:
        self.name = name
        self._recorder = recorder
        self._memory = memory
        self._vm_id = vm_id
        # What plugins of its `vm_id` share, to be read and written.
        self.shared_data = SharedDataView(memory, vm_id)

    def _calls(self, *, callbacks: bool) -> Calls:
        told = without_allocations(self._recorder.every_call)
        return Calls(call for call in told if call.is_callback == callbacks and call.plugin == self.name)

    @property
    def calls(self) -> Calls:
        """Its hostcalls."""
        return self._calls(callbacks=False)

    @property
    def callbacks(self) -> Calls:
        """Its callbacks."""
        return self._calls(callbacks=True)

    @property
    def logs(self) -> list[LogLine]:
        """What it, or the host about it, has logged."""
        return [line for line in self._recorder.lines if line.plugin == self.name]

    @property
    def queues(self) -> Mapping[bytes, Sequence[bytes]]:
        """What waits in the queues of its `vm_id`, by their names."""
        return self._memory().queues.waiting(self._vm_id)

    @property
    def metrics(self) -> Mapping[str, int | tuple[int, int]]:
        """Its metrics by name: counters and gauges; of histograms the count and the sum."""
        kept = self._memory().metrics
        found = Metrics()
        for table in (kept.counters, kept.gauges, kept.histograms):
            found.update({name: value for (plugin, name), value in table.items() if plugin == self.name})
        return found
