"""The far ends of a plugin in ``mode: observe``: nothing goes out here, it is compared with what came in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from asgi_wasm.host.directions import NAMES, REQUEST, RESPONSE
from asgi_wasm.host.host_metrics import NoHostMetrics
from asgi_wasm.host.ports import NO_ORIGIN, LogOrigin

if TYPE_CHECKING:
    from asgi_wasm.host.abi import LogLevel
    from asgi_wasm.host.ports import Log
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.streams.stage import Way
    from asgi_wasm.host.vm.trace import TraceSink

_LENGTH = b"content-length"
# A verdict in a word, and the sentence's end: "it would have …".
Note = Callable[[str, str], None]
ANSWER, CLOSE, PAUSE, FAILURE, LATE = "answer", "close", "pause", "failure", "late"


class Tally:
    """How long a body is so far, and a sum over its bytes: where it is cut into pieces makes no difference."""

    def __init__(self) -> None:
        self.size = self.sum = 0

    def add(self, data: bytes) -> None:
        """One more piece."""
        self.size += len(data)
        self.sum = crc32(data, self.sum)


class End:
    """One direction (`host.streams.stage.Sink`): its methods hear what the plugin lets pass."""

    def __init__(self, direction: int, note: Note) -> None:
        self.direction = direction
        self.given_headers: HeaderMap | None = None
        self.given_trailers: HeaderMap | None = None
        self.given, self._taken = Tally(), Tally()
        self._note = note

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """Compare them."""
        self._compare("headers", self.given_headers, headers)

    def data(self, data: bytes, end_of_stream: bool) -> None:
        """Compare the body, at its end."""
        self._taken.add(data)
        if end_of_stream:
            self._compare_bodies()

    def trailers(self, trailers: HeaderMap) -> None:
        """Compare them, and the body before them."""
        self._compare_bodies()
        self._compare("trailers", self.given_trailers, trailers)

    def _compare_bodies(self) -> None:
        given, taken = self.given, self._taken
        if (given.size, given.sum) != (taken.size, taken.sum):
            way = NAMES[self.direction]
            self._note(f"{way}_body", f"changed the {way}'s body from {given.size} to {taken.size} bytes")

    def _compare(self, part: str, given: HeaderMap | None, taken: HeaderMap) -> None:
        before = [] if given is None else given.pairs
        if before == taken.pairs:
            return
        names = {name for name, _ in set(before).symmetric_difference(taken.pairs)}
        way = NAMES[self.direction]
        changed = ", ".join(sorted(name.decode("latin-1") for name in names)) or "their order"
        self._note(f"{way}_{part}", f"changed the {way}'s {part}: {changed}")


class AppEnd(End):
    """The app's side."""

    def __init__(self, note: Note) -> None:
        super().__init__(REQUEST, note)


class ClientEnd(End):
    """The client's side (`host.streams.stage.ResponseSink`). ``answers``: the response is not the app's."""

    def __init__(self, note: Note, answers: Callable[[], bool]) -> None:
        super().__init__(RESPONSE, note)
        self.started = False
        self._answers = answers

    def received(self, size: int | None, way: Way) -> None:
        """Of no account: nothing is sent."""

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """An answer of the plugin's, or of the host because of it; else compare."""
        # As in `asgi.exchange.sides`: the head of a sized body waits for the first verdict on that.
        self.started = end_of_stream or self.given_headers is None or self.given_headers.get(_LENGTH) is None
        if not self._answers():
            super().headers(headers, end_of_stream)
            return
        status = (headers.get(b":status") or b"").decode("latin-1")
        self._note(ANSWER, f"answered {status}")

    def data(self, data: bytes, end_of_stream: bool) -> None:
        """Compare the app's."""
        self.started = True
        if not self._answers():
            super().data(data, end_of_stream)

    def trailers(self, trailers: HeaderMap) -> None:
        """Compare the app's."""
        if not self._answers():
            super().trailers(trailers)

    def reset(self, reason: str) -> None:
        """It asked for the end of the connection, or has answered too late."""
        self._note(CLOSE, f"ended the connection: {reason}")


class ObservedMetrics(NoHostMetrics):
    """Counts a failure as one that was observed."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def policy_applied(self, plugin: str, policy: str) -> None:
        """Its VM failed, or could not be started."""
        self._note(FAILURE, f"failed, and got {policy}")


class ObservedLog:
    """A log whose lines about requests say that nothing came of them."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def plugin(self, plugin: str, level: LogLevel, message: bytes, origin: LogOrigin = NO_ORIGIN) -> None:
        """A plugin's own line, as it is."""
        self._log.plugin(plugin, level, message, origin)

    def host(self, plugin: str, level: LogLevel, message: str, origin: LogOrigin = NO_ORIGIN) -> None:
        """A line of the host's, marked: what it tells of was not done."""
        self._log.host(plugin, level, f"observed only: {message}", origin)

    def level(self, plugin: str) -> LogLevel:
        """The level below which a plugin's lines are for nobody, unchanged."""
        return self._log.level(plugin)

    def last_lines(self, plugin: str) -> Sequence[str]:
        """The plugin's last lines, unchanged."""
        return self._log.last_lines(plugin)

    def trace(self) -> TraceSink | None:
        """Where the request's own calls are told of, too."""
        return self._log.trace()
