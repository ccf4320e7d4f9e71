"""How long a body is said to be: the `content-length` that goes to the app, and to the client, is decided here alone.

It is true or absent. What is announced is kept: never more bytes than that, and fewer are no whole body. RFC 9110 8.6
and 9.3, RFC 9112 6.

A plugin that changes a body may forget its length, or write another one, and servers take both as they are told. What
passes no filter that may change it has the length that its sender gave it. Else, what counts is what is known when the
head goes out: the whole body, or by how many bytes the filters have made it longer so far (`host.streams.stage.Way`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from asgi_wasm.asgi.messages.translate import BODILESS_METHODS, BODILESS_STATUSES, may_have_body

if TYPE_CHECKING:
    from asgi_wasm.host.streams.stage import Way

Fields = list[tuple[bytes, bytes]]

_NAME = b"content-length"
_MAX_DIGITS = 18
_DOUBTFUL = -1
_NOT_MODIFIED = 304


class TooShortError(Exception):
    """The body has ended before it was as long as announced. Says which plugin is to blame."""


class Length:
    """The length of one body. ``own`` is what its sender said, before any plugin; None when it did not say any."""

    own: int | None = None
    # What the body goes through.
    way: Way | None = None
    # What went out in the head; None when nothing did.
    announced: int | None = None
    # How many bytes of the body have gone out, and why some had to be left out, once they had.
    passed = 0
    cut: str | None = None
    # The fields said several lengths, or none that is a number.
    doubtful = False
    # There is no body, whatever comes of one: it would be read as another response.
    bodiless = False

    def settle(self, fields: Fields, size: int | None, *, may_change: bool = True) -> Fields:
        """These fields, with the length that is true. ``size`` is that of the whole body, where it is known.

        Not ``may_change``: no filter may change the body.
        """
        said, own = said_by(fields), self.own
        if own == _DOUBTFUL:
            own = None
        self.doubtful = said == _DOUBTFUL
        if size is not None:
            length = size if said is not None or own is not None else None
        elif not may_change:
            length = own
        else:
            # Right if all that is yet to come passes unchanged.
            length = said if own is not None and said == own + self._balance else None
        self.announced = length
        return write(fields, length)

    @property
    def _balance(self) -> int:
        return 0 if self.way is None else self.way.balance

    @property
    def _plugins_differ(self) -> bool:
        """Whether filters, and not the sender, are why the body is not as long as announced."""
        return self.own is not None and self.announced != self.own + self._balance

    @property
    def blame(self) -> str:
        """The plugins that changed the body's length."""
        names = [] if self.way is None else self.way.unbalanced
        return ", ".join(map(repr, names)) or "unknown"

    def admit(self, data: bytes, end: bool) -> bytes:
        """What may go out of this piece. Raises `TooShortError` at the ``end`` of a body that plugins made too short.

        A sender that does not keep to its own length is for the receiver to judge, as without plugins.
        """
        if self.bodiless:
            return b""
        left = None if self.announced is None else self.announced - self.passed
        if left is not None and (len(data) > left or (end and len(data) < left)) and self._plugins_differ:
            if len(data) < left:
                raise TooShortError(f"plugin {self.blame} left {left - len(data)} of {self.announced} bytes out of it")
            self.cut = self.cut or f"plugin {self.blame} made it longer than the {self.announced} bytes of its head"
            data = data[:left]
        self.passed += len(data)
        return data


class ResponseLength(Length):
    """The length of a response's body. ``method`` is the client's own: it decides whether there can be one."""

    method = "GET"
    # Whose own length is that of a body that this response does not have.
    own_status = 0

    def settle_response(
        self, fields: Fields, status: int, size: int | None, *, may_change: bool, ends: bool = False
    ) -> Fields:
        """`settle` for a response with this status; it ``ends`` with its head when nobody sent a body."""
        if status not in BODILESS_STATUSES and self.method not in BODILESS_METHODS:
            if ends:
                # As Envoy's codec does; servers would make chunks of nothing.
                return write(fields, 0)
            return self.settle(fields, size, may_change=may_change)
        if may_have_body(self.method, status):
            # A CONNECT that failed.
            return self.settle(fields, size, may_change=may_change)
        self.bodiless = True
        said = said_by(fields)
        self.doubtful = said == _DOUBTFUL
        if status == _NOT_MODIFIED:
            # What a 200 would have: only who made the 304 knows that, and servers wait for as many bytes.
            keeps = said == self.own and self.own_status == status
        else:
            # RFC 9110 8.6: none in a 204 or a 2xx to CONNECT; to HEAD, what a GET would get.
            keeps = self.method == "HEAD" and may_have_body("GET", status)
        return write(fields, said if keeps and not self.doubtful else None)


def said_by(fields: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The content-length of these header fields; less than 0 where they say several, or none that is a number."""
    said: int | None = None
    for name, value in fields:
        if name == _NAME or name.lower() == _NAME:
            said = int(value) if said is None and value.isdigit() and len(value) <= _MAX_DIGITS else _DOUBTFUL
    return said


def write(fields: Fields, length: int | None) -> Fields:
    """The fields with this content-length, in its place; without any for None."""
    value = None if length is None else b"%d" % length
    said = 0
    for field in fields:
        if field[0] == _NAME:
            said += 1 if field[1] == value else 2
    if said == (value is not None):
        return fields
    written: Fields = []
    for field in fields:
        if field[0] != _NAME:
            written.append(field)
        elif value is not None:
            written.append((_NAME, value))
            value = None
    return written if value is None else [*written, (_NAME, value)]
