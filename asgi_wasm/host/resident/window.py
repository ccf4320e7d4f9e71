"""The window: the part of a kernel's memory through which the host and the kernel tell each other things."""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from asgi_wasm.engines.companion import Beside
from asgi_wasm.errors import LinkError
from asgi_wasm.host.resident import layout
from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap, ResponseHeaderMap
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN

if TYPE_CHECKING:
    from asgi_wasm.host.codecs.wire import Pairs

_MAPS: tuple[type[HeaderMap], ...] = (RequestHeaderMap, ResponseHeaderMap)
_CHANGE = struct.Struct("<4I").unpack_from
_LOCAL = struct.Struct("<7I").unpack_from
_LOCAL_AT, _LOCAL_END, _CHANGE_AT = 4 * layout.LOCAL, 4 * (layout.LOCAL + 7), 4 * layout.CHANGE
_CLASSES = bytes(
    layout.IN_NAME * bool(re.fullmatch(TOKEN, chr(byte))) | layout.IN_VALUE * bool(re.fullmatch(FIELD_VALUE, chr(byte)))
    for byte in range(256)
)

# What a callback did to one map: hostcall (`layout.ADD` and so on), name, value.
Change = tuple[int, bytes, bytes]


class Local(NamedTuple):
    """A local response as the plugin gave it: ``pairs`` are serialized."""

    status: int
    details: bytes
    body: bytes
    pairs: bytes


class LocalImage(NamedTuple):
    """A local response as it lies in the window: its words there, and from ``start`` to ``end`` its parts."""

    words: bytes
    start: int
    end: int
    parts: bytes


class Window:
    """Tells the kernel which names of headers are special, and reads what the last callback has done."""

    def __init__(self, beside: Beside) -> None:
        """Raises `LinkError` when the kernel is not the one that `layout` describes."""
        self.window_address = beside.function("window_address")() or 0
        if beside.function("window_size")() != layout.SIZE:
            raise LinkError("the kernel's window has another layout")
        self.words: Sequence[int] = beside.words(self.window_address, layout.WORDS)
        self.view = beside.view(self.window_address, layout.SIZE)
        self.raw: Any = beside.characters(self.window_address, layout.SIZE)
        self.tell_names(())
        self.view[layout.CLASSES_AT : layout.CLASSES_AT + len(_CLASSES)] = _CLASSES

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
        lengths = sorted(map(len, meanings))
        # Of each size, how many names are shorter.
        shorter = [bisect_left(lengths, size) for size in range(layout.SIZES_OF_NAMES)]
        words[first : first + len(shorter)] = shorter

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
        raw, base = self.raw, self.window_address
        if news >> layout.CHANGES_SHIFT == 1:
            kind, name_size, size, where = _CHANGE(self.view, _CHANGE_AT)
            if kind & 0xFF == layout.ADD:
                start = where - base
                middle = start + name_size
                return [*pairs, (raw[start:middle], raw[middle : middle + size])]
        made = list(pairs)
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

    def local_image(self) -> LocalImage:
        """That of the last callback's local response. The kernel puts details, body and pairs one after the other."""
        raw, base = self.raw, self.window_address
        _, details, *_, pairs, pairs_size = _LOCAL(self.view, _LOCAL_AT)
        start, end = details - base, pairs - base + pairs_size
        return LocalImage(raw[_LOCAL_AT:_LOCAL_END], start, end, raw[start:end])

    def is_local(self, image: LocalImage) -> bool:
        """Whether this was the last callback's local response: a quick look before `local`."""
        words, start, end, parts = image
        raw = self.raw
        # Where the words are the same, so are the parts' places.
        return bool(raw[_LOCAL_AT:_LOCAL_END] == words and raw[start:end] == parts)

    def clear(self) -> None:
        """Leave the kernel's memory alone from now on: what is read is nothing."""
        self.words, self.view, self.raw = [0] * layout.WORDS, memoryview(b""), b""


def repeat(headers: HeaderMap, changes: Iterable[Change]) -> None:
    """Do to a map what a plugin did to the kernel's."""
    for kind, name, value in changes:
        if kind == layout.ADD:
            headers.add(name, value)
        elif kind == layout.REPLACE:
            headers.replace(name, value)
        else:
            headers.remove(name)
