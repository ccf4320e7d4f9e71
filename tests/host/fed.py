"""One request and its response through plugins, fed by hand, and far ends that keep what arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asgi_wasm.host.codecs.wire import Pairs, PropertyValue
from asgi_wasm.host.plugin import BrokenPlugin, Filter, Plugin
from asgi_wasm.host.streams.filter_chain import FilterChain
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.streams.stage import Way
from asgi_wasm.limits import StreamLimits
from tests.host.world import World


@dataclass
class RecordingSink:
    """A far end that keeps what arrives: ("headers", pairs, end), ("data", bytes, end), ("trailers", pairs)."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    started: bool = False
    reason: str | None = None
    way: Way | None = None
    size: int | None = None

    def received(self, size: int | None, way: Way) -> None:
        self.size, self.way = size, way

    def headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        self.started = True
        self.events.append(("headers", list(headers.pairs), end_of_stream))

    def data(self, data: bytes, end_of_stream: bool) -> None:
        self.events.append(("data", bytes(data), end_of_stream))

    def trailers(self, trailers: HeaderMap) -> None:
        self.events.append(("trailers", list(trailers.pairs)))

    def reset(self, reason: str) -> None:
        self.reason = reason

    @property
    def body(self) -> bytes:
        return b"".join(event[1] for event in self.events if event[0] == "data")

    @property
    def status(self) -> bytes | None:
        """The value of ``:status``, when headers came."""
        return dict(self.events[0][1]).get(b":status") if self.events else None


REQUEST_HEADERS: Pairs = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"example.test"),
    (b":path", b"/path?query"),
    (b"x-one", b"1"),
    (b"x-two", b"2"),
    (b"x-two", b"3"),
]
RESPONSE_HEADERS: Pairs = [(b":status", b"200"), (b"x-app", b"yes")]


class TestAttributes:
    """`host.ports.Attributes` over a mapping."""

    __test__ = False

    def __init__(self, values: Mapping[tuple[bytes, ...], PropertyValue]) -> None:
        self.values = dict(values)

    def get(self, path: tuple[bytes, ...]) -> PropertyValue | None:
        return self.values.get(path)


class Exchange:
    """One request and its response through plugins, fed by hand."""

    def __init__(
        self,
        world: World,
        *plugins: Plugin | BrokenPlugin,
        limits: StreamLimits | None = None,
        attributes: Mapping[tuple[bytes, ...], PropertyValue] | None = None,
        conf: bytes = b"conf",
    ) -> None:
        self.app, self.client = RecordingSink(), RecordingSink()
        filters = [Filter(each, conf) for each in plugins]
        self.chain = FilterChain(
            filters,
            self.app,
            self.client,
            TestAttributes(attributes or {}),
            limits or StreamLimits(),
            world.log,
        )

    def request(self, *body: bytes, headers: Pairs = REQUEST_HEADERS, trailers: Pairs | None = None) -> None:
        """The request; its body in these pieces, the last of which ends it unless there are trailers."""
        self.chain.request.headers(HeaderMap(headers), not body and trailers is None)
        self._rest(self.chain.request, body, trailers)

    def respond(self, *body: bytes, headers: Pairs = RESPONSE_HEADERS, trailers: Pairs | None = None) -> None:
        """The app's response, unless a plugin has answered."""
        if self.chain.answered_locally:
            return
        response = self.chain.respond(HeaderMap(headers), not body and trailers is None)
        self._rest(response, body, trailers)

    @staticmethod
    def _rest(direction: Any, body: Sequence[bytes], trailers: Pairs | None) -> None:
        for index, piece in enumerate(body):
            if not direction.closed:
                direction.data(piece, trailers is None and index == len(body) - 1)
        if trailers is not None and not direction.closed:
            direction.trailers(HeaderMap(trailers))
