"""One HTTP/2 connection to a gRPC server, by h2: it carries conversations until it breaks or the peer says goodbye.

What a server sends costs the event loop slices of two milliseconds, and no memory but what the conversations keep:
reading stops while there is too much that nobody looked at, or too much that the server does not take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import cast

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from hpack import HeaderTuple

from asgi_wasm.logs import get_logger
from asgi_wasm.services.callouts import connector
from asgi_wasm.services.callouts.grpc import status as grpc_status
from asgi_wasm.services.callouts.grpc.conversation import Conversation
from asgi_wasm.services.callouts.grpc.http2 import Stream, Turns, bound_table, open_h2
from asgi_wasm.services.callouts.http2_frames import GOAWAY, Frames
from asgi_wasm.services.callouts.slices import run_in_slices

# Streams until the server has said how many it takes; RFC 9113 6.5.2 wants no less from it.
FIRST_STREAMS = 100
# Bytes that came and wait their turn, and replies that the server does not take, until nothing more is read.
_MAX_UNREAD = 64 * 1024
_MAX_UNTAKEN = 1024 * 1024
# Frames until replies to them are sent.
_REPLY_FRAMES = 64

logger = get_logger("asgi_wasm.host")


class Connection(connector.Connection):
    """Made by a channel, which is told when there may be room for a stream, and when the connection is gone."""

    def __init__(self, upstream: str, on_room: Callable[[], None], on_lost: Callable[[Connection], None]) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._upstream = upstream
        self._on_room = on_room
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._h2 = open_h2()
        self._streams: dict[int, Stream] = {}
        self._ids: dict[Conversation, int] = {}
        self._turns = Turns()
        self._knows_settings = False
        # No new streams: the peer said goodbye, or it is broken.
        self._is_leaving = False
        # Why what it carries breaks off, once what came before was looked at.
        self._end: bytes | None = None
        # The transport takes no more for now.
        self._is_blocked = False
        self._is_paused = False
        self._is_working = False
        self._has_news = False

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello. Calls may be sent before the server answers."""
        self._transport = cast("asyncio.Transport", transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Look at it, at most for a slice now."""
        if self._end is not None:
            return
        self._frames.feed(data)
        if len(self._frames) > _MAX_UNREAD and self._transport is not None and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._work()

    def pause_writing(self) -> None:
        """The server does not take more."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """The server takes more again: what waited goes on."""
        self._is_blocked = False
        self._work()

    def connection_lost(self, error: Exception | None) -> None:
        """What came before is delivered; then whatever it carries breaks off."""
        self._transport = None
        self._is_leaving = True
        self._end = self._end or grpc_status.TERMINATED
        self.lost.set_result(None)
        self._on_lost(self)
        self._work()

    # --- what a channel and conversations ask

    @property
    def room(self) -> int:
        """How many more streams it may carry."""
        if self._is_leaving:
            return 0
        most = self._h2.remote_settings.max_concurrent_streams if self._knows_settings else FIRST_STREAMS
        return most - len(self._streams)

    @property
    def is_idle(self) -> bool:
        """Whether it carries nothing."""
        return not self._streams

    @property
    def is_unused(self) -> bool:
        """Whether it has never carried anything."""
        return not self._h2.highest_outbound_stream_id

    def open(self, conversation: Conversation, fields: list[HeaderTuple]) -> None:
        """Begin a stream; there must be `room`."""
        conversation.carrier = None
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, fields)
        except H2Error:
            # After a billion streams, or if h2 counts them otherwise.
            self._is_leaving = True
            self._work(soon=True)
            conversation.break_off(grpc_status.REFUSED)
            return
        self._streams[stream_id] = Stream(conversation)
        self._ids[conversation] = stream_id
        conversation.carrier = self
        self.send(conversation)

    def send(self, conversation: Conversation) -> None:
        """It has something to send, together with what others have when the loop comes to it."""
        self._turns.add(self._ids[conversation])
        self._work(soon=True)

    def drop(self, conversation: Conversation) -> None:
        """It is over: reset its stream unless both sides have ended it."""
        stream_id = self._ids.pop(conversation)
        stream = self._streams.pop(stream_id)
        self._turns.remove(stream_id)
        if self._end is None and not (stream.is_sent and stream.is_received):
            with suppress(H2Error):
                self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
            self._work(soon=True)
        self._on_room()

    def abort(self) -> None:
        """End it now. Idempotent."""
        self._leave(self._end or grpc_status.TERMINATED)

    # --- what it does, in short steps

    def _work(self, *, soon: bool = False) -> None:
        """What there is to do: for a slice now, or in the loop's next turn."""
        self._has_news = True
        if self._is_working:
            return
        self._is_working = True
        if soon:
            asyncio.get_running_loop().call_soon(run_in_slices, self._steps())
        else:
            run_in_slices(self._steps())

    def _steps(self) -> Iterator[None]:
        try:
            while self._has_news:
                self._has_news = False
                yield from self._read()
                yield from self._write()
                self._flush()
                if self._end is not None:
                    yield from self._break_off(self._end)
        finally:
            self._is_working = False
        if self._transport is not None:
            if self._is_leaving and self.is_idle:
                self._leave(grpc_status.TERMINATED)
            elif self._is_paused and not self._is_clogged:
                self._is_paused = False
                self._transport.resume_reading()

    def _read(self) -> Iterator[None]:
        count = 0
        while not self._is_clogged:
            try:
                frame = self._frames.next()
                if frame is None:
                    return
                last_stream = frame.last_stream() if frame.kind == GOAWAY else None
                events = self._h2.receive_data(frame.data) if last_stream is None else []
            except Exception as error:
                # h2's errors are many, and not all its own: whatever a server sends is no error of ours.
                reason = str(error) or type(error).__name__
                logger.info("gRPC upstream %r: its connection ends, it broke HTTP/2: %s", self._upstream, reason)
                self._leave(grpc_status.PROTOCOL_ERROR)
                return
            if last_stream is not None:
                yield from self._on_goaway(last_stream)
            for event in events:
                yield from self._on_event(event)
            count += 1
            if count % _REPLY_FRAMES == 0:
                self._flush()
            yield

    @property
    def _is_clogged(self) -> bool:
        """Whether the server takes so little of what it makes us reply that nothing more of it is looked at."""
        return self._transport is not None and self._transport.get_write_buffer_size() > _MAX_UNTAKEN

    def _on_goaway(self, last_stream: int) -> Iterator[None]:
        """Streams up to the last one go on (RFC 9113 6.8)."""
        self._is_leaving = True
        for conversation in [stream.conversation for key, stream in self._streams.items() if key > last_stream]:
            conversation.break_off(grpc_status.REFUSED)
            yield

    def _on_event(self, event: Event) -> Iterator[None]:
        if isinstance(event, RemoteSettingsChanged):
            self._on_settings()
        elif isinstance(event, WindowUpdated):
            self._turns.open(event.stream_id or 0)
        elif isinstance(event, DataReceived):
            # At once: what is kept of it is bounded where it is kept.
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            stream = self._streams.get(event.stream_id or 0)
            if stream is not None:
                if event.data:
                    self._frames.renew()
                yield from stream.conversation.receive_data(event.data or b"")
                if event.stream_ended is not None:
                    stream.is_received = True
                    stream.conversation.receive_end()
        elif isinstance(event, (ResponseReceived, TrailersReceived, StreamReset)):
            stream = self._streams.get(event.stream_id or 0)
            if stream is not None:
                self._frames.renew()
                stream.receive(event)

    def _on_settings(self) -> None:
        self._knows_settings = True
        bound_table(self._h2)
        self._turns.open(0)
        self._on_room()

    def _write(self) -> Iterator[None]:
        for stream_id in self._turns:
            if self._is_blocked or self._end is not None:
                self._turns.add(stream_id)
                return
            stream = self._streams[stream_id]
            try:
                stream.send(stream_id, self._h2, self._turns)
                self._frames.renew()
            except H2Error:
                stream.conversation.break_off(grpc_status.REMOTE_RESET)
            self._flush()
            yield

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    def _break_off(self, reason: bytes) -> Iterator[None]:
        while self._ids:
            next(iter(self._ids)).break_off(reason)
            yield

    def _leave(self, reason: bytes) -> None:
        """End the connection; what it carries breaks off for this reason."""
        self._is_leaving = True
        self._end = reason
        self._frames.clear()
        transport = self._transport
        if transport is not None:
            with suppress(H2Error):
                self._h2.close_connection()
            self._flush()
            self._transport = None
            # Not `close`, which waits for a server that takes nothing.
            transport.abort()
