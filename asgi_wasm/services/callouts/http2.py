"""A connection of HTTP/2 to an upstream, which many calls share, over h2, which knows frames and states.

Followed: RFC 9113; Envoy `source/common/http/http2/codec_impl.cc`. Needs the extra ``http2``, so it is imported late.
"""

from __future__ import annotations

import asyncio
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from asgi_wasm.services.callouts.connector import Connection
from asgi_wasm.services.callouts.http2_fields import Stream, fill, sent_headers
from asgi_wasm.services.callouts.http2_frames import GOAWAY, BrokenFramesError, Frames, PlainEncoder
from asgi_wasm.services.callouts.messages import (
    Answer,
    CalloutError,
    ConnectionLostError,
    Request,
    UpstreamProtocolError,
)
from asgi_wasm.services.callouts.turns import Turns

# Calls that share one connection, if the server does not allow fewer.
_MAX_STREAMS = 100
# Bytes that an upstream may send before they are parsed: of one call, of all.
_STREAM_WINDOW = 1 << 20
_CONNECTION_WINDOW = 16 << 20
_FIRST_WINDOW = 65535
# Bytes of an answer's headers, as for HTTP/1.1.
_MAX_HEADERS = 64 * 1024
# Answers to pings and settings that the upstream does not read.
_MAX_UNSENT = 1 << 20
_HIGH_WATER = 256 * 1024
# Parsed in one turn; a frame takes some 50 microseconds.
_TURN_FRAMES = 16


class Http2Connection(Connection):
    """For as many calls at once as `has_room`. To be made by `create_connection`, then `wait_until_ready`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        # Headers are checked here, since what h2 finds wrong ends every call of the connection.
        self._h2 = H2Connection(H2Configuration(validate_inbound_headers=False))
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADERS,
            },
        )
        self._h2.encoder = PlainEncoder()
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._max_streams = _MAX_STREAMS
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Set when more of a request's body, or another call, may be sent.
        self._room = asyncio.Event()
        self._unparsed = Frames()
        self._is_reading = True
        self._in_turn = False
        self._goes_away = False
        # The upstream takes no more for now.
        self._is_blocked = False
        self._lost: CalloutError | None = None
        self.idle_since = 0.0

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin HTTP/2, with a window in which many answers have room."""
        self._transport = cast("asyncio.Transport", transport)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW - _FIRST_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Keep what came until its turn, and read no further while that is too much."""
        self._unparsed.feed(data)
        if len(self._unparsed) > _HIGH_WATER and self._is_reading and self._transport is not None:
            self._is_reading = False
            self._transport.pause_reading()
        self._ask_for_turn()

    def eof_received(self) -> bool:
        """The upstream has ended its side; the transport closes itself, when what has come is dealt with."""
        self._lost = ConnectionLostError("the upstream closed the connection")
        self._ask_for_turn()
        return False

    def pause_writing(self) -> None:
        """Bodies wait, and what the upstream sends once too many replies to it wait as well."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """Bodies go on, and so does what came meanwhile."""
        self._is_blocked = False
        self._room.set()
        self._ask_for_turn()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over: its calls fail, after what had come for them."""
        self._lost = self._lost or ConnectionLostError(str(error or "the connection was closed"))
        self._transport = None
        self._ask_for_turn()

    # --- calls

    @property
    def has_room(self) -> bool:
        """Whether it may have one more call."""
        is_open = self._transport is not None and self._lost is None and not self._goes_away
        return is_open and len(self._streams) < self._max_streams

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self._streams

    @property
    def is_over(self) -> bool:
        """Whether it never has room again."""
        return self._transport is None or self._lost is not None or self._goes_away

    @property
    def is_unused(self) -> bool:
        """Whether it has never had a call."""
        return not self._h2.highest_outbound_stream_id

    async def wait_for_room(self) -> None:
        """Wait until it may have room, or is over."""
        self._room.clear()
        await self._room.wait()

    async def wait_until_ready(self) -> None:
        """Wait until the server has said how many calls it allows. Raises `CalloutError`."""
        await self._ready

    async def exchange(self, request: Request, answer: Answer) -> None:
        """Send it, and fill ``answer``. Raises `CalloutError`. Whatever ends it early ends this one call."""
        stream_id = self._h2.get_next_available_stream_id()
        self._streams[stream_id] = stream = Stream(answer)
        try:
            self._h2.send_headers(stream_id, sent_headers(request), end_stream=not request.body)
            self._flush()
            await self._send_body(stream_id, stream, request.body)
            await stream.done
        except H2Error as error:
            raise UpstreamProtocolError(str(error)) from None
        finally:
            # An exception keeps this frame: what it has must not keep the exception.
            del stream
            self._forget(stream_id)

    async def _send_body(self, stream_id: int, stream: Stream, body: bytes) -> None:
        sent = 0
        while sent < len(body) and not stream.done.done():
            size = min(
                self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size, len(body) - sent
            )
            if size <= 0 or self._is_blocked:
                await self.wait_for_room()
                continue
            self._h2.send_data(stream_id, body[sent : sent + size], end_stream=sent + size == len(body))
            sent += size
            self._unparsed.renew()
            self._flush()
            await self._turns.turn()

    def _forget(self, stream_id: int) -> None:
        """The call is over; where the upstream does not know that yet, it is told."""
        del self._streams[stream_id]
        self.idle_since = asyncio.get_running_loop().time()
        try:
            self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        except H2Error:
            # Over for both already, or with the whole connection.
            return
        self._flush()

    def abort(self) -> None:
        """Close it at once, with whatever is under way. Idempotent."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._fail_all(self._lost or ConnectionLostError("the connection was closed"))

    def _fail_all(self, error: CalloutError) -> None:
        self._lost = error
        if not self._ready.done():
            self._ready.set_exception(error)
            # Perhaps nobody waits any more.
            self._ready.exception()
        for stream in self._streams.values():
            stream.fail(error)
        self._room.set()

    # --- what comes

    def _ask_for_turn(self, *, again: bool = False) -> None:
        if not self._in_turn:
            self._in_turn = True
            self._turns.soon(self._advance, again=again)

    def _advance(self) -> None:
        """One turn."""
        self._in_turn = False
        if self._is_clogged:
            return
        try:
            goes_on = self._parse()
        except (H2Error, BrokenFramesError, CalloutError) as error:
            self._flush()
            self._lost = UpstreamProtocolError(str(error))
            self.abort()
            return
        self._flush()
        if goes_on:
            self._ask_for_turn(again=True)
        elif self._lost is not None:
            self.abort()
        elif not self._is_reading and self._transport is not None:
            self._is_reading = True
            self._transport.resume_reading()

    @property
    def _is_clogged(self) -> bool:
        """Whether the upstream takes so little of what it makes us reply that nothing more of it is looked at."""
        return self._transport is not None and self._transport.get_write_buffer_size() > _MAX_UNSENT

    def _parse(self) -> bool:
        """Whether more is left for another turn. Raises h2's errors and `BrokenFramesError`."""
        for _ in range(_TURN_FRAMES):
            frame = self._unparsed.next()
            if frame is None:
                return False
            if frame.kind == GOAWAY:
                # To h2 it is the end of everything, while the calls before it are still answered (RFC 9113 6.8).
                self._go_away(frame.last_stream())
            else:
                for event in self._h2.receive_data(frame.data):
                    self._take(event)
        return True

    def _go_away(self, last_stream_id: int) -> None:
        self._goes_away = True
        for stream_id, stream in self._streams.items():
            if stream_id > last_stream_id:
                stream.fail(ConnectionLostError("the upstream goes away"))
        self._room.set()

    def _take(self, event: Event) -> None:
        if isinstance(event, RemoteSettingsChanged):
            allowed = self._h2.remote_settings.max_concurrent_streams
            self._max_streams = min(_MAX_STREAMS, allowed)
            self._room.set()
            if not self._ready.done():
                self._ready.set_result(None)
        elif isinstance(event, WindowUpdated):
            self._room.set()
        else:
            stream_id = getattr(event, "stream_id", None)
            if isinstance(event, DataReceived) and event.flow_controlled_length and event.stream_id:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            stream = self._streams.get(stream_id or 0)
            if stream is not None and not stream.done.done():
                self._unparsed.renew()
                try:
                    if fill(stream.answer, event):
                        stream.done.set_result(None)
                except CalloutError as error:
                    stream.fail(error)
                if stream.done.done():
                    # Perhaps it waits for room for its body.
                    self._room.set()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        transport = self._transport
        if data and transport is not None:
            transport.write(data)
