"""One VM's kernel: what it is lent, what it changed, and how a callback that needs more is taken over from it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from asgi_wasm.engines.base import Beside
from asgi_wasm.errors import LinkError
from asgi_wasm.host.resident import layout
from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap, ResponseHeaderMap
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import Pairs
    from asgi_wasm.host.resident.native import NativeKernel
    from asgi_wasm.host.vm.contexts import Context, RootContext, StreamContext

_MAPS: tuple[type[HeaderMap], ...] = (RequestHeaderMap, ResponseHeaderMap)
_PACK = [struct.Struct(f"<{2 * count}I").pack_into for count in range(layout.MAX_PAIRS + 1)]
_CHANGE = struct.Struct("<4I").iter_unpack
_flatten = chain.from_iterable
# What says that something is lent.
_LENT = layout.ACTIVE, layout.READABLE, layout.WRITABLE, layout.ANSWERABLE, layout.ANSWERED, layout.BODIES
_CLASSES = bytes(
    layout.IN_NAME * bool(re.fullmatch(TOKEN, chr(byte))) | layout.IN_VALUE * bool(re.fullmatch(FIELD_VALUE, chr(byte)))
    for byte in range(256)
)

# What a callback did to one map: hostcall (`layout.ADD` and so on), name, value.
Change = tuple[int, bytes, bytes]
# Headers that are lent, or what makes them once they are used.
Lendable = Sequence[tuple[bytes, bytes]] | Callable[[], Sequence[tuple[bytes, bytes]]]


class Local(NamedTuple):
    """A local response as the plugin gave it: ``pairs`` are serialized."""

    status: int
    details: bytes
    body: bytes
    pairs: bytes


class Lent(Protocol):
    """A request whose headers are lent to kernels, and which has no contexts that hostcalls could act for."""

    def recall(self) -> None:
        """Make its contexts, which the VM has then, and lend no more."""
        ...


class Neighbour(Protocol):
    """What a kernel asks of the VM that it stands beside (`host.vm.vm.WasmVM`)."""

    thread: int
    current: Context | None
    contexts: dict[int, Context]
    lent: dict[int, Lent]


class LentContext:
    """Whom a hostcall acts for while a kernel answers for it: its root; its stream is made when asked for."""

    __slots__ = ("_resident", "root")

    def __init__(self, root: RootContext, resident: Resident) -> None:
        self.root = root
        self._resident = resident

    @property
    def stream(self) -> StreamContext | None:
        """The stream context, which takes over from the kernel."""
        return self._resident.recall()

    @property
    def stream_id(self) -> int:
        """The stream context's id, whether that is made or not."""
        return self._resident.words[layout.STREAM]


class Resident:
    """The kernel beside one VM's instance.

    ``lists`` are the headers that are lent: pairs of bytes, names in lower case, pseudo-headers first. A crossing
    (`request` and so on) gives back 0 when the callback went on at once and changed nothing.
    """

    def __init__(self, vm: Neighbour, beside: Beside, native: NativeKernel | None = None) -> None:
        """``native`` is what enters the kernel without Python.

        Raises `LinkError` when the kernel is not the one that `layout` describes.
        """
        self._vm = vm
        self._beside = beside
        self.request = beside.function("request")
        self.response = beside.function("response")
        self.response_body = beside.function("response_body")
        self.log = beside.function("log")
        self.finish = beside.function("finish")
        self.end = beside.function("end")
        self.window_address = beside.function("window_address")() or 0
        if beside.function("window_size")() != layout.SIZE:
            raise LinkError("the kernel's window has another layout")
        self.words: Sequence[int] = beside.words(self.window_address, layout.WORDS)
        self.view = beside.view(self.window_address, layout.SIZE)
        self.lists: list[Lendable] = [(), ()]
        # The piece of a body that the callback is shown.
        self.piece = b""
        self._lent: dict[int, LentContext] = {}
        for slot, kind in enumerate(_MAPS):
            self._tell_singles(slot, sorted(kind.single))
        self.view[layout.CLASSES_AT : layout.CLASSES_AT + len(_CLASSES)] = _CLASSES
        self.native = native
        if native is not None:
            self._attach(native)

    def _attach(self, native: NativeKernel) -> None:
        way = self._beside.native
        functions = tuple(way.function(name) for name in ("request", "response", "log", "finish", "end"))
        window = self._beside.address(self.window_address, layout.SIZE)
        thread, vm = self._vm.thread, self._vm
        native.attach(
            *(way.call, way.store, way.entry, functions, window, self.window_address),
            *(thread, way, vm, self.fill, way.fail, way.headroom),
        )

    def _tell_singles(self, slot: int, names: Sequence[bytes]) -> None:
        words = cast("list[int]", self.words)
        at = 0
        for index, name in enumerate(names):
            where = layout.SINGLE + 2 * (slot * layout.MAX_SINGLES + index)
            words[where : where + 2] = [at, len(name)]
            start = layout.SINGLES_AT + slot * layout.SINGLES_BYTES + at
            self.view[start : start + len(name)] = name
            at += len(name)
        words[layout.SINGLES + slot] = len(names)

    # --- for the kernel

    def fill(self, slot: int) -> int:
        """A lent map is used for the first time. 0 when it is no list of as many pairs of bytes as fit."""
        pairs = self.lists[slot]
        try:
            flat = list(_flatten(pairs() if callable(pairs) else pairs))
            data = b"".join(flat)
        except TypeError:
            return 0
        names = flat[::2]
        distinct = set(names)
        if len(distinct) < len(names) and self._repeats(names, _MAPS[slot]):
            return 0
        words, view = cast("list[int]", self.words), self.view
        used = words[layout.USED]
        count = len(names)
        if count > layout.MAX_PAIRS or len(flat) != 2 * count or len(data) > layout.ARENA - used:
            return 0
        start = layout.ARENA_AT + used
        view[start : start + len(data)] = data
        _PACK[count](view, 4 * layout.SIZES, *map(len, flat))
        words[layout.COUNT + slot] = count
        return 1

    @staticmethod
    def _repeats(names: Iterable[bytes], kind: type[HeaderMap]) -> bool:
        """Whether a name that a map keeps once is there twice: its values are to be joined first."""
        singles = [name for name in names if name in kind.single]
        return len(set(singles)) < len(singles)

    # --- for hostcalls in Python

    def acting(self) -> Context | None:
        """Whom a hostcall acts for that came here from a callback in the kernel's care."""
        words = self.words
        active = words[layout.ACTIVE]
        if not active or words[layout.RESTRICTED]:
            return None
        found = self._lent.get(active)
        if found is None:
            root = cast("RootContext", self._vm.contexts[active])
            found = self._lent[active] = LentContext(root, self)
        return cast("Context", found)

    def recall(self) -> StreamContext | None:
        """Let the host go on by itself with the callback that runs: its stream context."""
        vm, words = self._vm, self.words
        if not words[layout.ACTIVE]:
            # Taken back already, by this hostcall; or no callback runs.
            return cast("StreamContext | None", vm.current)
        stream_id = words[layout.STREAM]
        vm.lent[stream_id].recall()
        vm.current = found = cast("StreamContext", vm.contexts[stream_id])
        return found

    # --- for the lane

    def take_back(self) -> tuple[list[tuple[int, Change]], Local | None]:
        """Lend no more in this callback: what it has changed so far, with the slot of each, and its local response."""
        words = cast("list[int]", self.words)
        taken = self.changes(), self.local()
        words[layout.RECALLED] = 1
        for index in _LENT:
            words[index] = 0
        words[layout.CHANGES] = 0
        return taken

    def changes(self) -> list[tuple[int, Change]]:
        """The log of the last callback."""
        count = self.words[layout.CHANGES]
        if not count:
            return []
        view, start = self.view, 4 * layout.CHANGE
        found = []
        for kind, name_size, size, where in _CHANGE(view[start : start + 16 * count]):
            at = where - self.window_address
            middle = at + name_size
            found.append((kind >> 8, (kind & 0xFF, bytes(view[at:middle]), bytes(view[middle : middle + size]))))
        return found

    def ordinary_changes(self, delicate: Container[bytes]) -> list[Change] | None:
        """The log of a callback that was lent one map; None where it has one of these names."""
        view, start = self.view, 4 * layout.CHANGE
        found: list[Change] = []
        for kind, name_size, size, where in _CHANGE(view[start : start + 16 * self.words[layout.CHANGES]]):
            at = where - self.window_address
            middle = at + name_size
            name = bytes(view[at:middle])
            if name in delicate:
                return None
            found.append((kind & 0xFF, name, bytes(view[middle : middle + size])))
        return found

    def local(self) -> Local | None:
        """The local response that the last callback left."""
        if not self.words[layout.ANSWERED]:
            return None
        status, *parts = self.words[layout.LOCAL : layout.LOCAL + 7]
        texts = []
        for where, size in zip(parts[::2], parts[1::2], strict=True):
            at = where - self.window_address
            texts.append(bytes(self.view[at : at + size]))
        return Local(status, *texts)

    def close(self) -> None:
        """Nothing may be asked any more."""
        if self.native is not None:
            self.native.close()
        self.words, self.view = [0] * layout.WORDS, memoryview(b"")
        self._beside.close()


def repeat(headers: HeaderMap, changes: Iterable[Change]) -> None:
    """Do to a map what a plugin did to the kernel's."""
    for kind, name, value in changes:
        if kind == layout.ADD:
            headers.add(name, value)
        elif kind == layout.REPLACE:
            headers.replace(name, value)
        else:
            headers.remove(name)


def changed_pairs(pairs: Sequence[tuple[bytes, bytes]], changes: Iterable[Change]) -> Pairs:
    """`repeat` for a list, where no change concerns a pseudo-header or joins values (`layout.COMPLEX`)."""
    made = list(pairs)
    for kind, name, value in changes:
        if kind != layout.ADD:
            made = [pair for pair in made if pair[0] != name]
        if kind != layout.REMOVE:
            made.append((name, value))
    return made
