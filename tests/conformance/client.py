"""A client that sends exactly the bytes that a case says, and tells exactly what came back over the wire."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Longer than anything here takes, even on a busy machine.
SECONDS = 60.0
# How long something is awaited that may rightly never come: a chunk of a body that a plugin holds back, an end. Where
# one host had it by then, and the other had not, it is asked again with the other patience.
LIVE_SECONDS = 2.0
PATIENT_SECONDS = 20.0
_PIECE = 1 << 16
_BODILESS = (204, 304)
_CONTINUE = 100


class CutError(Exception):
    """Raised when the connection ended in the middle of a response."""


@dataclass
class Response:
    """One response as it came: names in their own case, headers in their order."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    # How its length was told: "length", "chunked", "close", or "none" when it can have no body.
    framing: str = ""
    #: Statuses of interim responses that came before it.
    interim: list[int] = field(default_factory=list)
    # The connection ended before the response did.
    cut: bool = False

    def header(self, name: str) -> str | None:
        """The first value."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Connection:
    """One connection to 127.0.0.1."""

    def __init__(self, port: int, patience: float = LIVE_SECONDS) -> None:
        self._patience = patience
        # Whether something did not come for so long.
        self.gave_up = False
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._ended = False

    def send(self, data: bytes) -> None:
        """Send, while reading what comes meanwhile; a server that has had enough is no error."""
        view = memoryview(data)
        while view and not self._ended:
            readable, writable, _ = select.select([self._socket], [self._socket], [], SECONDS)
            if not readable and not writable:
                raise TimeoutError("the server takes no more")
            if readable:
                self._read()
            elif writable:
                try:
                    view = view[self._socket.send(view[:_PIECE]) :]
                except ConnectionError:
                    self._ended = True

    def receive(self, method: str = "GET") -> Response:
        """The next response, to a request of this method."""
        response = Response()
        try:
            self._head(response)
            while response.status == _CONTINUE:
                response.interim.append(response.status)
                self._head(response)
            self._body(response, method)
        except CutError:
            response.cut = True
        return response

    def interim(self) -> int:
        """The status of an interim response that a client waits for before it goes on; 0 when none comes."""
        response = Response()
        if not self.arrives():
            return 0
        self._head(response)
        return response.status

    def arrives(self) -> bool:
        """Whether anything is here, or comes soon."""
        return bool(self._buffer) or self.arrives_anew()

    def arrives_anew(self) -> bool:
        """Whether anything more than what is here already comes soon."""
        before = len(self._buffer)
        if self._is_readable():
            self._read()
        return len(self._buffer) > before

    def waits_for(self, condition: Callable[[], bool]) -> bool:
        """Whether something outside becomes true soon."""
        deadline = time.monotonic() + self._patience
        while not (true := condition()) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.gave_up = self.gave_up or not true
        return true

    def ends(self) -> bool:
        """Whether the server closes the connection now, without sending more."""
        while not self._ended and not self._buffer:
            if not self._is_readable():
                return False
            self._read()
        return self._ended and not self._buffer

    def close(self) -> None:
        """Go away, without waiting for anything."""
        self._socket.close()

    def _is_readable(self) -> bool:
        readable, _, _ = select.select([self._socket], [], [], self._patience)
        self.gave_up = self.gave_up or not readable
        return bool(readable)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_PIECE)
        except ConnectionError:
            data = b""
        self._ended = self._ended or not data
        self._buffer += data

    def _more(self) -> None:
        if self._ended:
            raise CutError
        self._read()
        if self._ended:
            raise CutError

    def _line(self) -> str:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._more()
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return line

    def _exactly(self, size: int, response: Response) -> None:
        try:
            while len(self._buffer) < size:
                self._more()
        finally:
            taken = bytes(self._buffer[:size])
            del self._buffer[: len(taken)]
            response.body += taken

    def _head(self, response: Response) -> None:
        _, status, *reason = self._line().split(" ", 2)
        response.status, response.reason = int(status), " ".join(reason)
        response.headers = self._fields()

    def _fields(self) -> list[tuple[str, str]]:
        fields: list[tuple[str, str]] = []
        while line := self._line():
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        return fields

    def _body(self, response: Response, method: str) -> None:
        length = response.header("content-length")
        if method == "HEAD" or response.status in _BODILESS:
            response.framing = "none"
        elif (response.header("transfer-encoding") or "").lower() == "chunked":
            response.framing = "chunked"
            while size := int(self._line().partition(";")[0], 16):
                self._exactly(size, response)
                self._line()
            self._fields()
        elif length is not None:
            response.framing = "length"
            self._exactly(int(length), response)
        else:
            response.framing = "close"
            while not self._ended:
                self._read()
            response.body, self._buffer = bytes(self._buffer), bytearray()


def burst(port: int, data: bytes, count: int) -> Sequence[Response]:
    """The responses to this request, sent at once over as many connections."""
    connections = [Connection(port) for _ in range(count)]
    for connection in connections:
        connection.send(data)
    responses = [connection.receive() for connection in connections]
    for connection in connections:
        connection.close()
    return responses
