"""How long a body is said to be: the `content-length` that goes to the app, and to the client, is decided here alone.

It is true or absent. What is announced is kept: never more bytes than that, and fewer are no whole body. RFC 9110 8.6
and 9.3, RFC 9112 6.

A plugin that changes a body may forget its length, or write another one, and servers take both as they are told. What
passes no filter that may change it has the length that its sender gave it. Else, what counts is what is known when the
head goes out: the whole body, or by how many bytes the filters have made it longer so far (`host.stage.Way`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from asgi_wasm.asgi.translate import may_have_body

if TYPE_CHECKING:
    from asgi_wasm.host.stage import Way

Fields = list[tuple[bytes, bytes]]

_NAME = b"content-length"
_DIGITS = re.compile(rb"[0-9]{1,18}")
_NOT_MODIFIED = 304


class TooShortError(Exception):
    """The body has ended before it was as long as announced. Says which plugin is to blame."""


class Length:
    """The length of one body. ``own`` is what its sender said, before any plugin; None when it did not say any."""

    def __init__(self) -> None:
        self.own: int | None = None
        # What went out in the head; None when nothing did.
        self.announced: int | None = None
        # How many bytes of the body have gone out, and why some had to be left out, once they had.
        self.passed = 0
        self.cut: str | None = None
        self._way: Way | None = None

    def begin(self, own: int | None, way: Way) -> None:
        """A body begins on its way through filters."""
        self.own, self._way = own, way

    def settle(self, fields: Fields, size: int | None, *, may_change: bool = True) -> Fields:
        """These fields, with the length that is true. ``size`` is that of the whole body, where it is known.

        Not ``may_change``: no filter may change the body.
        """
        self.announced = length = self._length(said_by(fields), size, may_change)
        return write(fields, length)

    def _length(self, said: int | None, size: int | None, may_change: bool) -> int | None:
        if size is not None:
            return size if said is not None or self.own is not None else None
        if not may_change:
            return self.own
        # Right if all that is yet to come passes unchanged.
        return said if self.own is not None and said == self.own + self._balance else None

    @property
    def _balance(self) -> int:
        return 0 if self._way is None else self._way.balance

    @property
    def _plugins_differ(self) -> bool:
        """Whether filters, and not the sender, are why the body is not as long as announced."""
        return self.own is not None and self.announced != self.own + self._balance

    @property
    def blame(self) -> str:
        """The plugins that changed the body's length."""
        names = [] if self._way is None else self._way.unbalanced
        return ", ".join(map(repr, names)) or "unknown"

    def admit(self, data: bytes, end: bool) -> bytes:
        """What may go out of this piece. Raises `TooShortError` at the ``end`` of a body that plugins made too short.

        A sender that does not keep to its own length is for the receiver to judge, as without plugins.
        """
        if self.announced is not None and self._plugins_differ:
            left = self.announced - self.passed
            if len(data) > left:
                self.cut = self.cut or f"plugin {self.blame} made it longer than the {self.announced} bytes of its head"
                data = data[:left]
            elif end and len(data) < left:
                raise TooShortError(f"plugin {self.blame} left {left - len(data)} of {self.announced} bytes out of it")
        self.passed += len(data)
        return data


class ResponseLength(Length):
    """The length of a response's body. ``method`` is the client's own: it decides whether there can be one."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.bodiless = False
        # Whose own length is that of a body that this response does not have.
        self.own_status = 0
        self._method = method

    def settle_response(
        self, fields: Fields, status: int, size: int | None, *, may_change: bool, ends: bool = False
    ) -> Fields:
        """`settle` for a response with this status; it ``ends`` with its head when nobody sent a body."""
        self.bodiless = not may_have_body(self._method, status)
        if not self.bodiless:
            if ends:
                # As Envoy's codec does; servers would make chunks of nothing.
                return write(fields, 0)
            return self.settle(fields, size, may_change=may_change)
        said = said_by(fields)
        if status == _NOT_MODIFIED:
            # What a 200 would have: only who made the 304 knows that, and servers wait for as many bytes.
            return write(fields, said if said == self.own and self.own_status == status else None)
        # RFC 9110 8.6: none in a 204 or a 2xx to CONNECT; to HEAD, what a GET would get.
        return write(fields, said if self._method == "HEAD" and may_have_body("GET", status) else None)

    def admit(self, data: bytes, end: bool) -> bytes:
        """See `Length.admit`. Of a response that has no body, nothing: it would be read as another response."""
        return b"" if self.bodiless else super().admit(data, end)


def number(value: bytes) -> int | None:
    """A content-length, or one that is said several times; None for any other."""
    values = {each.strip(b" \t") for each in value.split(b",")}
    only = values.pop()
    return int(only) if not values and _DIGITS.fullmatch(only) else None


def said_by(fields: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The content-length of these header fields."""
    values = [bytes(value) for name, value in fields if bytes(name).lower() == _NAME]
    return number(b",".join(values)) if values else None


def write(fields: Fields, length: int | None) -> Fields:
    """The fields with this content-length, in its place; without any for None."""
    values = [value for name, value in fields if name == _NAME]
    new = [] if length is None else [b"%d" % length]
    if values == new:
        return fields
    written: Fields = []
    for name, value in fields:
        if name != _NAME:
            written.append((name, value))
        elif new:
            written.append((name, new.pop()))
    return [*written, *((_NAME, value) for value in new)]
