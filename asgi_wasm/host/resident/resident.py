"""One VM's kernel: what it is lent, what it changed, and how a callback that needs more is taken over from it.

A map is lent as its names and values in turn. The kernel asks for it at its first use (`Resident.fill`), which costs a
call out of the guest; a map that a callback has asked for once is given before the next one (`Resident.give`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from asgi_wasm.engines.companion import Beside
from asgi_wasm.errors import LinkError
from asgi_wasm.host.resident import layout
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap, ResponseHeaderMap
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import Pairs
    from asgi_wasm.host.resident.native import NativeKernel
    from asgi_wasm.host.vm.contexts import Context, RootContext, StreamContext

_MAPS: tuple[type[HeaderMap], ...] = (RequestHeaderMap, ResponseHeaderMap)
_PACK = [struct.Struct(f"<{2 * count}I").pack_into for count in range(layout.MAX_PAIRS + 1)]
_GIVE = struct.Struct("<3I").pack_into
_CHANGE = struct.Struct("<4I").unpack_from
_LOCAL = struct.Struct("<7I").unpack_from
# Which callback runs, by the kernel's own word where a crossing enters several.
_BY_STEP = {
    layout.CREATING: "proxy_on_context_create",
    layout.ENDING: "proxy_on_done",
    layout.DELETING: "proxy_on_delete",
}
_BY_CROSSING = {
    "request": "proxy_on_request_headers",
    "response": "proxy_on_response_headers",
    "request_body": "proxy_on_request_body",
    "response_body": "proxy_on_response_body",
    "log": "proxy_on_log",
    "finish": "proxy_on_done",
    "end": "proxy_on_log",
}
_LOCAL_AT, _NOW_AT = 4 * layout.LOCAL, 4 * layout.NOW
_TIME = struct.Struct("<Q").pack_into
_GIVEN_AT, _CHANGE_AT, _ARENA_AT = 4 * layout.GIVEN, 4 * layout.CHANGE, layout.ARENA_AT
# What says that something is lent.
_LENT = layout.ACTIVE, layout.READABLE, layout.WRITABLE, layout.ANSWERABLE, layout.ANSWERED, layout.BODIES
_CLASSES = bytes(
    layout.IN_NAME * bool(re.fullmatch(TOKEN, chr(byte))) | layout.IN_VALUE * bool(re.fullmatch(FIELD_VALUE, chr(byte)))
    for byte in range(256)
)

# What a callback did to one map: hostcall (`layout.ADD` and so on), name, value.
Change = tuple[int, bytes, bytes]


def _callback(words: Sequence[int], crossing: str) -> str:
    return _BY_STEP.get(words[layout.STEP], _BY_CROSSING[crossing])


class Local(NamedTuple):
    """A local response as the plugin gave it: ``pairs`` are serialized."""

    status: int
    details: bytes
    body: bytes
    pairs: bytes


class Lent(Protocol):
    """A request whose headers are lent to kernels, and which has no contexts that hostcalls could act for."""

    def flat(self, slot: int) -> Sequence[bytes]:
        """The names and values of a map (`layout.REQUEST_SLOT` and so on) in turn, pseudo-headers first."""
        ...

    def recall(self) -> None:
        """Make its contexts, which the VM has then, and lend no more."""
        ...


class Neighbour(Protocol):
    """What a kernel asks of the VM that it stands beside (`host.vm.vm.WasmVM`)."""

    thread: int
    current: Context | None
    contexts: dict[int, Context]
    lent: dict[int, Lent]


class LentBody(Buffer):
    """The piece of a body that a callback in the kernel's care is shown, for what the kernel leaves to Python."""

    __slots__ = ("_resident",)

    def __init__(self, resident: Resident) -> None:
        super().__init__(resident.keeper.piece)
        self._resident = resident

    def set(self, start: int, size: int, value: bytes) -> None:
        """As a buffer's; the kernel answers by what comes of it, and the host is to look at it after the callback."""
        super().set(start, size, value)
        words = cast("list[int]", self._resident.words)
        self._resident.keeper.piece = self.data = bytes(self.data)
        words[layout.BODY_SIZE] = len(self.data)
        words[layout.COMPLEX] = 1


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

    def body_shown(self, direction: int) -> Buffer | None:
        """The piece of a body, in its own callback; elsewhere nothing is held."""
        return LentBody(self._resident) if self._resident.words[layout.BODIES] >> direction & 1 else None


class Resident:
    """The kernel beside one VM's instance.

    A crossing (`request` and so on) gives back 0 when the callback went on at once and changed nothing, else what
    `layout.ODD` and so on say. ``gives`` is, by slot, whether the map is better given before the callback.
    """

    # Whether the plugin can ask for the time at all; `layout.WANTS_TIME` says whether it does.
    may_want_time = True
    # The VM has failed, or a root context of it is gone: a request is to look before it begins.
    stale = False
    # The piece of a body that the callback is shown.
    piece = b""

    def __init__(
        self,
        vm: Neighbour,
        beside: Beside,
        realtime: Callable[[], int],
        body_bytes: int,
        native: NativeKernel | None = None,
    ) -> None:
        """``native`` is what enters the kernel without Python; ``body_bytes`` how long a plugin may make a body.

        Raises `LinkError` when the kernel is not the one that `layout` describes.
        """
        self._vm = vm
        self._beside = beside
        self.window_address = beside.function("window_address")() or 0
        if beside.function("window_size")() != layout.SIZE:
            raise LinkError("the kernel's window has another layout")
        self.words: Sequence[int] = beside.words(self.window_address, layout.WORDS)
        self.request, self.response, self.request_body, self.response_body, self.log, self.finish, self.end = (
            # Each has a result.
            cast("Callable[..., int]", beside.function(name, partial(_callback, self.words, name)))
            for name in ("request", "response", "request_body", "response_body", "log", "finish", "end")
        )
        self.view = beside.view(self.window_address, layout.SIZE)
        self.raw: Any = beside.characters(self.window_address, layout.SIZE)
        self.gives = [False] * layout.SLOTS
        self._realtime = realtime
        self._lent: dict[int, LentContext] = {}
        self.tell_names(())
        self.view[layout.CLASSES_AT : layout.CLASSES_AT + len(_CLASSES)] = _CLASSES
        self.native = native
        # Of ``piece``.
        self.keeper: Resident | NativeKernel = self if native is None else native
        if native is not None:
            self._attach(native, body_bytes)

    def _attach(self, native: NativeKernel, body_bytes: int) -> None:
        way = self._beside.native
        names = ("request", "response", "log", "finish", "end", "response_body", "request_body")
        functions = tuple(way.function(name, partial(_callback, self.words, name)) for name in names)
        window = self._beside.address(self.window_address, layout.SIZE)
        native.attach(
            way.call,
            way.store,
            way.entry,
            way.guest,
            functions,
            window,
            self.window_address,
            self._vm.thread,
            way,
            self._vm,
            self.fill,
            way.fail,
            way.headroom,
            self._realtime,
            body_bytes,
        )

    def tell_names(self, delicate: Iterable[bytes]) -> None:
        """Tell the kernel which names are not like all others. A change of a ``delicate`` one is `layout.ODD`."""
        for slot, kind in enumerate(_MAPS):
            meanings = dict.fromkeys(kind.single, layout.SINGLE)
            for name in delicate:
                meanings[name] = meanings.get(name, 0) | layout.DELICATE
            self._tell(slot, meanings)

    def _tell(self, slot: int, meanings: Mapping[bytes, int]) -> None:
        words = cast("list[int]", self.words)
        at = 0
        for index, name in enumerate(sorted(meanings, key=len)):
            where = layout.NAME + 2 * (slot * layout.MAX_NAMES + index)
            words[where : where + 2] = [at, meanings[name]]
            start = layout.NAMES_AT + slot * layout.NAMES_BYTES + at
            self.view[start : start + len(name)] = name
            at += len(name)
        first = layout.FIRST + slot * layout.SIZES_OF_NAMES
        sizes = range(layout.SIZES_OF_NAMES)
        words[first : first + len(sizes)] = [sum(len(name) < size for name in meanings) for size in sizes]

    # --- for the kernel

    def fill(self, slot: int) -> int:
        """A lent map is used for the first time. 0 when it is no list of as many pairs of bytes as fit."""
        words, view = cast("list[int]", self.words), self.view
        # A log reads what others may not.
        self.gives[slot] = self.gives[slot] or words[layout.WRITABLE] != 0
        try:
            flat = self._vm.lent[words[layout.STREAM]].flat(slot)
            data = b"".join(flat)
        except TypeError:
            return 0
        count, used = len(flat) >> 1, words[layout.USED]
        if count > layout.MAX_PAIRS or len(data) > layout.ARENA - used:
            return 0
        start = layout.ARENA_AT + used
        view[start : start + len(data)] = data
        _PACK[count](view, 4 * layout.SIZES, *map(len, flat))
        words[layout.COUNT + slot] = count
        return 1

    def give(self, flat: Sequence[bytes]) -> None:
        """Let the next callback have this map; where it does not fit, the kernel will ask for it in vain."""
        try:
            data = b"\0".join(flat)
        except TypeError:
            return
        size = len(data)
        if size <= layout.ARENA:
            view = self.view
            view[_ARENA_AT : _ARENA_AT + size] = data
            _GIVE(view, _GIVEN_AT, len(flat) >> 1, size, 0)

    def changed_piece(self) -> bytes | None:
        """What the last callback made of the piece, where it let it pass and there is nothing else to look at."""
        words = self.words
        if words[layout.COMPLEX] and not words[layout.RECALLED] and words[layout.VERDICT] == 0:
            return self.keeper.piece
        return None

    def give_time(self) -> None:
        """Let the next callback have the time."""
        _TIME(self.view, _NOW_AT, self._realtime())

    def show_request(self, context_id: int, root_id: int, piece: bytes, ends: bool) -> int:
        """Show a piece of a request's body: a crossing. The piece is kept where there is anything to look at."""
        self.piece = piece
        news: int = self.request_body(context_id, root_id, len(piece), ends)
        if not news:
            self.piece = b""
        return news

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
        found = []
        for index in range(count):
            kind, name_size, size, where = _CHANGE(self.view, _CHANGE_AT + 16 * index)
            at = where - self.window_address
            middle = at + name_size
            found.append((kind >> 8, (kind & 0xFF, self.raw[at:middle], self.raw[middle : middle + size])))
        return found

    def changed(self, pairs: Sequence[tuple[bytes, bytes]], news: int) -> Pairs:
        """The list as the last callback left it, which gave back ``news`` that is not `layout.ODD`."""
        made = list(pairs)
        raw, base = self.raw, self.window_address
        for at in range(_CHANGE_AT, _CHANGE_AT + 16 * (news >> layout.CHANGES_SHIFT), 16):
            kind, name_size, size, where = _CHANGE(self.view, at)
            start = where - base
            middle = start + name_size
            name = raw[start:middle]
            change = kind & 0xFF
            if change != layout.ADD:
                made = [pair for pair in made if pair[0] != name]
            if change != layout.REMOVE:
                made.append((name, raw[middle : middle + size]))
        return made

    def local(self) -> Local | None:
        """The local response that the last callback left."""
        if not self.words[layout.ANSWERED]:
            return None
        status, details, details_size, body, body_size, pairs, pairs_size = _LOCAL(self.view, _LOCAL_AT)
        raw, base = self.raw, self.window_address
        return Local(
            status,
            raw[details - base : details - base + details_size],
            raw[body - base : body - base + body_size],
            raw[pairs - base : pairs - base + pairs_size],
        )

    def local_image(self) -> tuple[tuple[int, ...], bytes]:
        """How and where the local response of the last callback lies, and all that lies there: equal for equal ones.

        A quick look before `local`. The kernel puts details, body and pairs one after the other.
        """
        where = _LOCAL(self.view, _LOCAL_AT)
        base = self.window_address
        return where, self.raw[where[1] - base : where[5] - base + where[6]]

    def tell_gone(self) -> None:
        """The VM has failed, or a root context of it is gone: see ``stale``."""
        self.stale = True
        if self.native is not None:
            self.native.stale = True

    def close(self) -> None:
        """Nothing may be asked any more."""
        if self.native is not None:
            self.native.close()
        self.words, self.view, self.raw = [0] * layout.WORDS, memoryview(b""), b""
        self.gives[:] = [False] * layout.SLOTS
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
