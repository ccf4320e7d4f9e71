"""What a case is: a chain, and what a client does to it. The cases themselves are in `cases_*`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.conformance.client import Connection, Response, burst
from tests.conformance.hops import SCHEME_HEADER

_PAUSE_SECONDS = 0.3
#: What is compared of what the app saw; each is a field "app.NAME".
APP_FIELDS = ("method", "path", "decoded_path", "query", "scheme", "headers", "size", "body", "disconnected")


class Controls(Protocol):
    """What a step may ask of the app behind the host."""

    def body_size(self) -> int:
        """How much of the last request's body the app has got."""
        ...

    def called(self) -> bool:
        """Whether the app has seen a request."""
        ...

    def release(self) -> None:
        """Let the app send one piece more."""
        ...

    def beat(self) -> None:
        """Let the host read what was sent."""
        ...


@dataclass
class Outcome:
    """What a client saw."""

    responses: list[Response] = field(default_factory=list)
    #: Answers to what the steps asked: whether pieces came through at once, whether a connection ended.
    notes: list[str] = field(default_factory=list)


class Step(Protocol):
    """Something that a client does."""

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """Do it, and tell what came of it."""
        ...


# By the ends of cases' names.
Requests = Mapping[str, Sequence[Step]]


@dataclass(frozen=True)
class Send:
    """Send these bytes."""

    data: bytes

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        connection.send(self.data)


@dataclass(frozen=True)
class Receive:
    """Await the response to a request of this method."""

    method: str = "GET"

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        outcome.responses.append(connection.receive(self.method))


@dataclass(frozen=True)
class ReceiveGated:
    """Await a response whose app makes each of its ``pieces`` only when told: is the last one here by then?"""

    pieces: int

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        outcome.notes.append(f"the head arrived at once: {connection.arrives()}")
        for number in range(self.pieces):
            controls.release()
            outcome.notes.append(f"piece {number} arrived at once: {connection.arrives_anew()}")
        # And once more, for the end.
        controls.release()
        outcome.responses.append(connection.receive())


@dataclass(frozen=True)
class AwaitBody:
    """Does the app get so many bytes of the body although the client has not sent all?"""

    size: int

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        arrived = connection.waits_for(lambda: controls.body_size() >= self.size)
        outcome.notes.append(f"the app got {self.size} bytes at once: {arrived}")


@dataclass(frozen=True)
class AwaitCall:
    """Wait until the app is called."""

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        outcome.notes.append(f"the app was called: {connection.waits_for(controls.called)}")


@dataclass(frozen=True)
class Continued:
    """Wait for an interim response before going on."""

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        outcome.notes.append(f"interim: {connection.interim()}")


@dataclass(frozen=True)
class Release:
    """Await the response's head, let the app send a piece, and await that too."""

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        connection.arrives()
        controls.release()
        outcome.notes.append(f"a piece arrived: {connection.arrives_anew()}")


@dataclass(frozen=True)
class Ends:
    """Does the server close the connection?"""

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        outcome.notes.append(f"connection ended: {connection.ends()}")


@dataclass(frozen=True)
class Pause:
    """Let the server read what was sent before more is sent."""

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        controls.beat()
        time.sleep(_PAUSE_SECONDS)
        controls.beat()


@dataclass(frozen=True)
class Close:
    """Go away."""

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        connection.close()


@dataclass(frozen=True)
class Burst:
    """Send a request over so many connections at once."""

    data: bytes
    count: int

    def run(self, connection: Connection, port: int, controls: Controls, outcome: Outcome) -> None:
        """As said."""
        outcome.responses += burst(port, self.data, self.count)


@dataclass(frozen=True)
class Case:
    """One thing that a client does to one chain. ``name`` is unique within the chain.

    ``shows`` is the column of `ENVOY.md`'s table that the case fills. Not ``ordered``: requests run beside each
    other, so what was logged and seen is compared without its order. With ``pieces``, how a body was cut into them is
    compared too. ``unsure`` are fields that are chance and not compared: the reason stands where it is set. With
    ``late_ticks`` the plugin's timer may go off after the request, so what it does then is left out.
    """

    chain: str
    name: str
    steps: Sequence[Step]
    shows: str
    ordered: bool = True
    pieces: bool = False
    unsure: frozenset[str] = frozenset()
    late_ticks: bool = False

    @property
    def id(self) -> str:
        """Names the case to pytest and in the list of differences."""
        return f"{self.chain}/{self.name}"


Fields = Iterable[tuple[str | bytes, str | bytes]]


def head(
    method: str, target: str | bytes, fields: Fields = (), *, before: Fields = (("Host", "case.test"), SCHEME_HEADER)
) -> bytes:
    """A request's head, to the byte."""
    lines = [b"%s %s HTTP/1.1" % (method.encode(), _bytes(target))]
    lines += [_bytes(name) + b": " + _bytes(value) for name, value in (*before, *fields)]
    return b"\r\n".join([*lines, b"", b""])


def request(method: str, target: str | bytes, fields: Fields = (), body: bytes | None = None) -> bytes:
    """A request; with a body, its content-length."""
    sized = [*fields] if body is None else [*fields, ("content-length", str(len(body)))]
    return head(method, target, sized) + (body or b"")


def chunked(method: str, target: str | bytes, pieces: Sequence[bytes], fields: Fields = ()) -> bytes:
    """A request whose body is sent in these chunks."""
    start = head(method, target, [*fields, ("Transfer-Encoding", "chunked")])
    return start + b"".join(chunk(piece) for piece in pieces) + LAST_CHUNK


def chunk(piece: bytes) -> bytes:
    """One chunk of a body."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def ask(method: str, target: str | bytes, fields: Fields = (), body: bytes | None = None) -> tuple[Step, ...]:
    """One request and its response."""
    return (Send(request(method, target, fields, body)), Receive(method))


def pattern(size: int) -> bytes:
    """So many bytes that are not all alike."""
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]
