"""A connection of HTTP/1.1 to an upstream, over h11, which parses and knows the states.

Followed: RFC 9112; Envoy `source/common/http/http1/codec_impl.cc` and `source/common/http/codec_client.cc`. A
connection on which anything came that is not the answer to its last request is never used again: it would be read as
the answer to the next one, which is another request's.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections import deque
from typing import cast

import h11

from asgi_wasm.http_syntax import FIELD_VALUE
from asgi_wasm.services.callouts.connector import Connection
from asgi_wasm.services.callouts.messages import (
    MAX_FIELDS,
    Answer,
    ConnectionLostError,
    Request,
    UpstreamProtocolError,
)
from asgi_wasm.services.callouts.turns import Turns

# Of an answer's head, and of a chunk's; Envoy's is 60 KiB.
_MAX_HEAD = 64 * 1024
# Bytes that wait to be parsed before the socket is read no further.
_HIGH_WATER = 256 * 1024
# Parsed in one turn; an event takes some 10 microseconds.
_TURN_EVENTS = 32
_SWITCHING_PROTOCOLS, _NO_CONTENT = 101, 204
_VALUE = re.compile(FIELD_VALUE.encode())


class Http1Connection(Connection):
    """For one call at a time. To be made by `create_connection`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._parser = h11.Connection(h11.CLIENT, _MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._unparsed: deque[bytes] = deque()
        self._unparsed_bytes = 0
        self._is_reading = True
        self._in_turn = False
        # The upstream has ended its side, and why when it was not orderly.
        self._ended = False
        self._loss: Exception | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None
        # Since the request was sent.
        self._heard = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection, and nothing is sent before a call."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """What comes while nothing was asked is nobody's answer."""
        if self._done is None or self._done.done():
            self.abort()
            return
        self._heard = True
        self._unparsed.append(data)
        self._unparsed_bytes += len(data)
        if self._unparsed_bytes > _HIGH_WATER and self._is_reading and self._transport is not None:
            self._is_reading = False
            self._transport.pause_reading()
        self._ask_for_turn()

    def eof_received(self) -> bool:
        """The upstream has ended its side; the transport closes itself."""
        self._ended = True
        self._ask_for_turn()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over; what had come of an answer is still parsed, and then told."""
        self._ended, self._loss, self._transport = True, error, None
        self._ask_for_turn()

    # --- a call

    @property
    def is_usable(self) -> bool:
        """Whether it may have another call: it is idle, and nothing has come, not even into the kernel's buffer."""
        return self._transport is not None and not self._ended and self._done is None and not self._is_readable()

    def _is_readable(self) -> bool:
        assert self._transport is not None
        socket = self._transport.get_extra_info("socket")
        if socket is None or not hasattr(select, "poll"):
            return False
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def exchange(self, request: Request, answer: Answer) -> None:
        """Send it, and fill ``answer``. Raises `CalloutError`; whatever ends it early ends the connection.

        Whether another call may come afterwards, `is_usable` tells.
        """
        self._answer, self._heard = answer, False
        # No local name for it here and in `_advance`: an exception would keep its frames, and they the exception.
        self._done = asyncio.get_running_loop().create_future()
        try:
            self._send(request)
            await self._done
        except BaseException:
            self.abort()
            raise
        finally:
            self._answer = self._done = None

    def _send(self, request: Request) -> None:
        transport = self._transport
        if transport is None:
            raise ConnectionLostError("the connection was closed")
        head = h11.Request(method=request.method, target=request.target, headers=request.headers)
        pieces = [self._parser.send(head)]
        if request.body:
            pieces.append(request.body)
            self._parser.send(h11.Data(data=request.body))
        self._parser.send(h11.EndOfMessage())
        transport.writelines([piece for piece in pieces if piece is not None])

    def abort(self) -> None:
        """Close it at once, with whatever is under way. Idempotent."""
        transport, self._transport = self._transport, None
        self._ended = True
        self._unparsed.clear()
        if transport is not None:
            transport.abort()

    # --- what comes

    def _ask_for_turn(self, *, again: bool = False) -> None:
        if not self._in_turn and self._done is not None:
            self._in_turn = True
            self._turns.soon(self._advance, again=again)

    def _advance(self) -> None:
        """One turn."""
        self._in_turn = False
        if self._done is None or self._done.done():
            return
        try:
            if self._parse():
                self._recycle()
                self._done.set_result(None)
        except h11.RemoteProtocolError as error:
            self._done.set_exception(UpstreamProtocolError(str(error)))
        except Exception as error:
            self._done.set_exception(error)

    def _parse(self) -> bool:
        """Whether the answer is whole. Asks for another turn when there is more to do. Raises `CalloutError`, h11's."""
        for _ in range(_TURN_EVENTS):
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                if not self._feed():
                    return False
            elif self._take(event):
                return True
        self._ask_for_turn(again=True)
        return False

    def _feed(self) -> bool:
        """Give the parser what has come, or the end. False when it must wait."""
        if self._unparsed:
            data = self._unparsed.popleft()
            self._unparsed_bytes -= len(data)
            self._parser.receive_data(data)
            if not self._unparsed and not self._is_reading and self._transport is not None:
                self._is_reading = True
                self._transport.resume_reading()
            return True
        if not self._ended:
            return False
        if self._loss is not None or not self._heard:
            raise ConnectionLostError(str(self._loss or "the upstream closed the connection without an answer"))
        self._parser.receive_data(b"")
        return True

    def _take(self, event: object) -> bool:
        """Whether it was the last event of the answer."""
        answer = self._answer
        assert answer is not None
        if isinstance(event, h11.Data):
            answer.append(event.data, begins_piece=event.chunk_start)
        elif isinstance(event, h11.Response):
            answer.begin(event.status_code, _fields(event))
        elif isinstance(event, h11.InformationalResponse):
            if event.status_code == _SWITCHING_PROTOCOLS:
                answer.begin(event.status_code, _fields(event))
                return True
            answer.interim()
            # Of the answer nothing, if this is all.
            self._heard = bool(self._unparsed or self._parser.trailing_data[0])
        else:
            return isinstance(event, h11.EndOfMessage)
        return False

    def _recycle(self) -> None:
        """Make ready for the next call, or close: after bytes beyond the answer, or an answer to half a request."""
        parser, transport = self._parser, self._transport
        is_over = parser.our_state is h11.DONE and parser.their_state is h11.DONE
        left = self._unparsed or parser.trailing_data[0] or self._ended
        if transport is None or not is_over or left or transport.get_write_buffer_size():
            self.abort()
        else:
            parser.start_next_cycle()


def _fields(answer: h11.Response | h11.InformationalResponse) -> list[tuple[bytes, bytes]]:
    """Its headers. Raises `UpstreamProtocolError` for what h11 lets pass and Envoy does not."""
    fields = list(answer.headers)
    if len(fields) > MAX_FIELDS:
        raise UpstreamProtocolError(f"it has more than {MAX_FIELDS} headers")
    if not all(_VALUE.fullmatch(value) for _, value in fields):
        raise UpstreamProtocolError("its headers have characters that no header can carry")
    framing = dict(fields)
    length, is_coded = framing.get(b"content-length"), b"transfer-encoding" in framing
    if length is not None and is_coded:
        # Whoever reads it otherwise would take the end of it for another answer.
        raise UpstreamProtocolError("it has a content-length and a transfer-encoding")
    # What Envoy keeps to itself.
    unsaid = {b"keep-alive"}
    if answer.status_code == _NO_CONTENT:
        if is_coded or length not in (None, b"0"):
            raise UpstreamProtocolError("it announces a body with status 204")
        unsaid.add(b"content-length")
    return [(name, value) for name, value in fields if name not in unsaid]
