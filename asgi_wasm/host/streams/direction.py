"""Moves headers, body and trailers of one direction through its filters, by the rules of `host.streams.iteration`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from asgi_wasm.host.directions import HEADERS_MAPS
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.iteration import Action, Input, State
from asgi_wasm.host.streams.running import run_body, run_headers, run_trailers
from asgi_wasm.host.streams.stage import Owner, Sink, Stage, growing

if TYPE_CHECKING:
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.contexts import StreamContext

_PASSING = frozenset({State.CONTINUE, State.CLOSED})


class PieceWay(NamedTuple):
    """How far a piece of a body has come: ``passed`` filters have let it pass.

    The next one has answered ``verdict``, or None: it is yet to be asked, or failed. ``buffer`` is what it was shown,
    if it may have changed it.
    """

    passed: int
    verdict: int | None
    buffer: Buffer | None


class Direction:
    """The filters of one direction, in the order in which they see it."""

    def __init__(self, kind: int, stages: Sequence[Stage], sink: Sink, limit: int, owner: Owner) -> None:
        self.kind = kind
        self.stages = stages
        self.headers_map: HeaderMap | None = None
        self.trailers_map: HeaderMap | None = None
        self.closed = False
        self._sink = sink
        self._limit = limit
        self._owner = owner

    # --- what comes in

    def headers(self, headers: HeaderMap, end_of_stream: bool, *, passed: int = 0, verdict: int | None = None) -> None:
        """The first piece. ``passed`` filters have let it pass already, and the next one has answered ``verdict``."""
        self.headers_map = headers
        if passed:
            self.adopt(headers, passed)
        self._headers_from(passed, end_of_stream, verdict)

    def adopt(self, headers: HeaderMap, passed: int) -> None:
        """Take over headers that so many filters have let pass."""
        self.headers_map = headers
        for stage in self.stages[:passed]:
            stage.headers_passed = True

    def data(self, data: bytes, end_of_stream: bool, way: PieceWay | None = None) -> None:
        """A piece of the body, the last with ``end_of_stream``. ``way``: some filters have seen it already."""
        if way is None:
            self._data_from(0, data, end_of_stream)
            return
        for stage in self.stages[: way.passed]:
            stage.taken += len(data)
            stage.given += len(data)
        self._data_from(way.passed, data, end_of_stream, way)

    def trailers(self, trailers: HeaderMap) -> None:
        """The last piece, after a body whose pieces were no end of stream."""
        self._trailers_from(0, trailers)

    def resume(self, context: StreamContext) -> None:
        """Let go what this filter holds (`proxy_continue_stream`); nothing when it holds nothing."""
        for stage in self.stages:
            if stage.context is context:
                action = stage.advance(Input.RESUME)
                if action is not Action.IGNORE:
                    self._let_go(stage, replay=action is Action.REPLAY)

    def held_by(self, context: StreamContext) -> bool:
        """Whether this filter holds something back."""
        return any(stage.context is context and stage.state not in _PASSING for stage in self.stages)

    def close(self) -> None:
        """Nothing passes any more."""
        self.closed = True
        for stage in self.stages:
            stage.advance(Input.CLOSE)
            stage.held, stage.trailers = bytearray(), None

    def release(self) -> None:
        """After `close`: let go of all that may refer to it."""
        self.stages = ()
        self.headers_map = self.trailers_map = None
        del self._sink, self._owner

    # --- what the far end asks (`stage.Way`)

    @property
    def balance(self) -> int:
        """By how many bytes filters have made the body longer so far; less than 0 when shorter."""
        return sum(stage.balance(self.kind) for stage in self.stages)

    @property
    def unbalanced(self) -> list[str]:
        """The names of the plugins that did."""
        changed = [stage.context for stage in self.stages if stage.balance(self.kind)]
        return [context.root.spec.name for context in changed if context is not None]

    # --- what the ASGI border asks

    @property
    def paused_by(self) -> StreamContext | None:
        """The first filter that holds something back."""
        for stage in self.stages:
            if stage.state not in _PASSING:
                return stage.context
        return None

    @property
    def wants_data(self) -> bool:
        """False while a filter holds more than the limit and asked for back-pressure."""
        for stage in self.stages:  # noqa: SIM110  # asked for every piece, and a generator is two calls more
            if stage.watermark and len(stage.held) >= self._limit:
                return False
        return True

    @property
    def reads_body(self) -> bool:
        """Whether any filter has, or holds, something to do with the body; if not, the body may bypass the chain."""
        return any(
            stage.state is not State.CONTINUE or (stage.context is not None and stage.context.sees_body(self.kind))
            for stage in self.stages
        )

    # --- headers

    def _headers_from(self, index: int, end: bool, verdict: int | None = None) -> None:
        headers = self.headers_map
        assert headers is not None
        for stage in self.stages[index:]:
            event = run_headers(stage, self.kind, headers, end, verdict, self._owner)
            verdict = None
            if stage.advance(event) is not Action.PASS:
                stage.end = stage.headers_ended = end
                stage.watermark = stage.state is State.STOP_ALL_WATERMARK
                stage.settle()
                return
            stage.headers_passed = True
            stage.settle()
            if self.closed:
                return
        self._sink.headers(headers, end)

    # --- body

    def _data_from(self, index: int, data: bytes, end: bool, way: PieceWay | None = None) -> None:
        made: HeaderMap | None = None
        made_at = 0
        for stage in self.stages[index:]:
            if stage.buffering:
                stage.take_back(self.kind)
            stage.taken += len(data)
            action = stage.advance(Input.DATA_ARRIVES)
            if action is Action.HOLD:
                stage.held += data
                stage.end, stage.holds_body = end, True
                self._check_limit(stage)
                break
            if action is Action.IGNORE:
                return
            if stage.buffering:
                stage.held += data
            buffer = Buffer(stage.held if stage.buffering else data)
            if way is not None and way.buffer is not None:
                buffer = way.buffer
            if stage.buffering and len(buffer) > self._limit:
                self._owner.overflow(self.kind)
                return
            verdict = None if way is None else way.verdict
            event, trailers = run_body(stage, self.kind, buffer, end, verdict, self._owner)
            way = None
            if trailers is not None:
                made, made_at, end = trailers, stage.index + 1, False
            if not self._after_body(stage, event, buffer, end):
                if made is not None and made_at > stage.index:
                    # It made them and holds the body before them.
                    stage.trailers, made = made, None
                break
            data = bytes(buffer.data)
            if self.closed:
                return
        else:
            self._sink.data(data, end)
        if made is not None:
            self._trailers_from(made_at, made)

    def _after_body(self, stage: Stage, event: Input, buffer: Buffer, end: bool) -> bool:
        """Do what the verdict asks. True when the buffer's bytes go on to the next filter."""
        kept = bytearray() if stage.buffering else stage.held
        before_headers = not stage.headers_passed
        action = stage.advance(event)
        if action is Action.PASS:
            stage.given += len(buffer.data)
            stage.settle()
            return True
        if action is Action.RELEASE:
            # All that was held goes on in one piece with this one, after the headers.
            stage.buffering, stage.held, stage.holds_body = False, bytearray(), False
            buffer.data = kept + buffer.data if kept else buffer.data
            stage.given += len(buffer)
            stage.settle()
            if before_headers and not self.closed:
                self._pass_headers(stage, end=False)
            return True
        if action is not Action.IGNORE:
            if stage.buffering:
                stage.held = growing(buffer.data)
            elif action is Action.HOLD:
                stage.held += buffer.data
            stage.end, stage.holds_body = end, stage.holds_body or action is Action.HOLD
            stage.buffering = event is Input.DATA_BUFFER
            stage.watermark = event is Input.DATA_WATERMARK
            if stage.buffering and stage.context is not None:
                # To be read and changed meanwhile, say in the answer to a callout.
                stage.context.bodies[self.kind] = Buffer(stage.held)
            self._check_limit(stage)
            stage.settle()
        return False

    def _check_limit(self, stage: Stage) -> None:
        if len(stage.held) > self._limit and not stage.watermark:
            self._owner.overflow(self.kind)

    # --- trailers

    def _trailers_from(self, index: int, trailers: HeaderMap) -> None:
        self.trailers_map = trailers
        for stage in self.stages[index:]:
            action = stage.advance(Input.TRAILERS_ARRIVE)
            if action is Action.CALL:
                action = stage.advance(run_trailers(stage, self.kind, trailers, self._owner))
            if action is Action.HOLD:
                stage.trailers, stage.end = trailers, False
            stage.settle()
            if self.closed or action in (Action.HOLD, Action.IGNORE):
                return
            if action is Action.RELEASE:
                stage.end = False
                self._let_go(stage, replay=False)
        self._sink.trailers(trailers)

    # --- letting go

    def _let_go(self, stage: Stage, *, replay: bool) -> None:
        """Hand on what a filter held. With ``replay`` its own callbacks have not seen body and trailers yet."""
        stage.take_back(self.kind)
        data, end, trailers, holds_body = bytes(stage.held), stage.end, stage.trailers, stage.holds_body
        stage.held, stage.end, stage.trailers, stage.holds_body = bytearray(), False, None, False
        stage.buffering = stage.watermark = False
        if replay:
            stage.taken -= len(data)
        else:
            stage.given += len(data)
        ended_by_headers = False
        if not stage.headers_passed:
            # Who was promised more than headers is to hear of the end, be it by an empty piece.
            ended_by_headers = end and not holds_body and trailers is None and stage.headers_ended
            self._pass_headers(stage, ended_by_headers)
        following = stage.index if replay else stage.index + 1
        # Also what the plugin has emptied meanwhile (Envoy's buffer is there, with nothing in it).
        if holds_body or (end and not ended_by_headers):
            self._data_from(following, data, end and trailers is None)
        if trailers is not None and not self.closed:
            self._trailers_from(following, trailers)

    def _pass_headers(self, stage: Stage, end: bool) -> None:
        stage.headers_passed = True
        if stage.context is not None:
            stage.context.maps[HEADERS_MAPS[self.kind]] = None
        self._headers_from(stage.index + 1, end)
