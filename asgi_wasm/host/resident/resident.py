"""One VM's kernel: what it is lent, what it changed, and how a callback that needs more is taken over from it.

A map is lent as its names and values in turn. The kernel asks for it at its first use (`Resident.fill`), which costs a
call out of the guest; a map that a callback has asked for once is given before the next one (`Resident.give`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from asgi_wasm.engines.companion import Beside
from asgi_wasm.host.resident import layout
from asgi_wasm.host.resident.lent import Keeper, LentContext, Neighbour
from asgi_wasm.host.resident.window import Change, Local, Window

if TYPE_CHECKING:
    from asgi_wasm.host.resident.native import NativeKernel
    from asgi_wasm.host.vm.contexts import Context, RootContext, StreamContext

_PACK = [struct.Struct(f"<{2 * count}I").pack_into for count in range(layout.MAX_PAIRS + 1)]
_GIVE = struct.Struct("<3I").pack_into
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
_NOW_AT = 4 * layout.NOW
_TIME = struct.Struct("<Q").pack_into
_GIVEN_AT, _ARENA = 4 * layout.GIVEN, layout.ARENA
# What says that something is lent.
_LENT = layout.ACTIVE, layout.READABLE, layout.WRITABLE, layout.ANSWERABLE, layout.ANSWERED, layout.BODIES


def _callback(words: Sequence[int], crossing: str) -> str:
    return _BY_STEP.get(words[layout.STEP], _BY_CROSSING[crossing])


class Resident(Window):
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
        super().__init__(beside)
        self._arena = self.view[layout.ARENA_AT :]
        self.request, self.response, self.request_body, self.response_body, self.log, self.finish, self.end = (
            # Each has a result.
            cast("Callable[..., int]", beside.function(name, partial(_callback, self.words, name)))
            for name in ("request", "response", "request_body", "response_body", "log", "finish", "end")
        )
        self.gives = [False] * layout.SLOTS
        self._realtime = realtime
        self._lent: dict[int, LentContext] = {}
        self.native = native
        # Of ``piece``.
        self.keeper: Keeper = self if native is None else native
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
        if size <= _ARENA:
            self._arena[:size] = data
            _GIVE(self.view, _GIVEN_AT, len(flat) >> 1, size, 0)

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

    def tell_gone(self) -> None:
        """The VM has failed, or a root context of it is gone: see ``stale``."""
        self.stale = True
        if self.native is not None:
            self.native.stale = True

    def close(self) -> None:
        """Nothing may be asked any more."""
        if self.native is not None:
            self.native.close()
        self.clear()
        self._arena = self.view
        self.gives[:] = [False] * layout.SLOTS
        self._beside.close()
