"""h2 as the gRPC client uses it, its streams, and whose turn it is to send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ResponseReceived, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings

from asgi_wasm.services.callouts.grpc import status as grpc_status
from asgi_wasm.services.callouts.grpc.conversation import Conversation
from asgi_wasm.services.callouts.grpc.fields import MAX_FIELD_BYTES, fault
from asgi_wasm.services.callouts.http2_frames import MAX_BLOCK_BYTES, PlainEncoder

# What a server may send before it is told that it was read: of one stream, and of all. At ten milliseconds' distance
# these are 25 and 100 MB/s.
STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 1024 * 1024
# Of a message, in one frame: streams take turns.
_SENT_BYTES = 16 * 1024
# HPACK's own default: a server may not make us remember more.
_TABLE_BYTES = 4096


def open_h2() -> H2Connection:
    """The client's side of a connection, with its first frames ready to be sent.

    Fields are not looked at by h2, for which a bad one ends the connection instead of its stream.
    """
    config = H2Configuration(
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
    )
    connection = H2Connection(config)
    settings: dict[SettingCodes, int] = {
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_FIELD_BYTES,
    }
    connection.local_settings = Settings(client=True, initial_values=settings)
    connection.encoder = PlainEncoder()
    # What is over the bound of one answer is reset; what is over this one ends the connection.
    connection.decoder.max_header_list_size = 2 * MAX_BLOCK_BYTES
    connection.initiate_connection()
    connection.increment_flow_control_window(CONNECTION_WINDOW - connection.inbound_flow_control_window)
    return connection


def bound_table(h2: H2Connection) -> None:
    """After the server's settings came: remember no more of what is sent than by default."""
    h2.encoder.header_table_size = min(h2.remote_settings.header_table_size, _TABLE_BYTES)


class Turns:
    """Which streams have something to send: they take turns, but those that wait for the server's window."""

    def __init__(self) -> None:
        self._ready: dict[int, None] = {}
        self._stalled: dict[int, None] = {}

    def add(self, stream_id: int) -> None:
        """It has something to send: after those that have so before it."""
        self._ready[stream_id] = None

    def stall(self, stream_id: int) -> None:
        """It has, but there is no window."""
        self._stalled[stream_id] = None

    def open(self, stream_id: int) -> None:
        """There may be a window again: of this stream, or of all for 0."""
        if not stream_id:
            self._ready.update(self._stalled)
            self._stalled.clear()
        elif stream_id in self._stalled:
            del self._stalled[stream_id]
            self.add(stream_id)

    def remove(self, stream_id: int) -> None:
        """It is over."""
        self._ready.pop(stream_id, None)
        self._stalled.pop(stream_id, None)

    def __iter__(self) -> Iterator[int]:
        """Whose turn it is, as long as there is one."""
        while self._ready:
            stream_id = next(iter(self._ready))
            del self._ready[stream_id]
            yield stream_id


@dataclass
class Stream:
    """A conversation, and which sides of its stream are closed."""

    conversation: Conversation
    is_sent: bool = False
    is_received: bool = False

    def send(self, stream_id: int, h2: H2Connection, turns: Turns) -> None:
        """A piece of what it has to send; if there is more, it has another turn. Raises `H2Error`."""
        outgoing = self.conversation.outgoing
        window = h2.local_flow_control_window(stream_id)
        if outgoing.needs_window and window <= 0:
            turns.stall(stream_id)
        elif outgoing.has_more:
            most = max(0, min(window, h2.max_outbound_frame_size, _SENT_BYTES))
            data, self.is_sent = outgoing.take(most)
            h2.send_data(stream_id, data, end_stream=self.is_sent)
            if outgoing.has_more:
                turns.add(stream_id)

    def receive(self, event: ResponseReceived | TrailersReceived | StreamReset) -> None:
        """What the server said beside messages: hand it to the conversation, or break that off."""
        conversation = self.conversation
        if isinstance(event, StreamReset):
            self.is_sent = self.is_received = True
            is_refused = event.error_code == ErrorCodes.REFUSED_STREAM
            conversation.break_off(grpc_status.REFUSED if is_refused else grpc_status.REMOTE_RESET)
            return
        self.is_received = event.stream_ended is not None
        fields = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
        are_trailers = isinstance(event, TrailersReceived)
        reason = fault(fields, are_trailers=are_trailers)
        if reason is not None:
            conversation.break_off(reason)
        elif are_trailers:
            conversation.receive_trailers(fields)
        else:
            conversation.receive_headers(fields, is_last=self.is_received)
