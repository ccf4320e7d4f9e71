"""Moves headers, body and trailers of one direction through its filters, by the rules of `host.streams.iteration`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from asgi_wasm.host.directions import HEADERS_MAPS
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.iteration import Action, Input, State, data_input, headers_input, trailers_input
from asgi_wasm.host.streams.stage import Owner, Sink, Stage
from asgi_wasm.host.vm.contexts import VmFailedError

if TYPE_CHECKING:
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.host.vm.contexts import StreamContext

_PASSING = frozenset({State.CONTINUE, State.CLOSED})


def _growing(data: bytes | bytearray) -> bytearray:
    return data if isinstance(data, bytearray) else bytearray(data)


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
        return sum(map(self._balance_of, self.stages))

    @property
    def unbalanced(self) -> list[str]:
        """The names of the plugins that did."""
        changed = [stage.context for stage in self.stages if self._balance_of(stage)]
        return [context.root.spec.name for context in changed if context is not None]

    def _balance_of(self, stage: Stage) -> int:
        context = stage.context
        lent = context.bodies[self.kind] if stage.buffering and context is not None else None
        return stage.given + len(stage.held if lent is None else lent) - stage.taken

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
            event = self._run_headers(stage, headers, end, verdict)
            verdict = None
            if stage.advance(event) is not Action.PASS:
                stage.end = stage.headers_ended = end
                stage.watermark = stage.state is State.STOP_ALL_WATERMARK
                self._settle(stage)
                return
            stage.headers_passed = True
            self._settle(stage)
            if self.closed:
                return
        self._sink.headers(headers, end)

    def _run_headers(self, stage: Stage, headers: HeaderMap, end: bool, verdict: int | None) -> Input:
        context = stage.context or self._owner.open(stage)
        if context is None or context.failed:
            return Input.HEADERS_CONTINUE
        try:
            verdict = context.headers(self.kind, headers, end) if verdict is None else verdict
        except VmFailedError:
            self._owner.failed(context)
            return Input.HEADERS_CONTINUE
        if verdict == 0:
            # Its window is closed by now, unless it answered before this direction had it.
            context.maps[2 * self.kind] = None
            return Input.HEADERS_CONTINUE
        return headers_input(verdict, allow_stop_iteration=context.root.spec.allow_on_headers_stop_iteration)

    # --- body

    def _data_from(self, index: int, data: bytes, end: bool, way: PieceWay | None = None) -> None:
        made: HeaderMap | None = None
        made_at = 0
        for stage in self.stages[index:]:
            if stage.buffering:
                self._take_back(stage)
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
            event, trailers = self._run_body(stage, buffer, end, None if way is None else way.verdict)
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

    def _run_body(self, stage: Stage, buffer: Buffer, end: bool, verdict: int | None) -> tuple[Input, HeaderMap | None]:
        context = stage.context
        if context is None or context.failed:
            return Input.DATA_CONTINUE, None
        try:
            if verdict is None:
                verdict = context.body(self.kind, buffer, end)
            else:
                context.hide_body(self.kind)
        except VmFailedError:
            self._owner.failed(context)
            return Input.DATA_CONTINUE, None
        return data_input(verdict), context.take_made_trailers(self.kind) if end else None

    def _after_body(self, stage: Stage, event: Input, buffer: Buffer, end: bool) -> bool:
        """Do what the verdict asks. True when the buffer's bytes go on to the next filter."""
        kept = bytearray() if stage.buffering else stage.held
        before_headers = not stage.headers_passed
        action = stage.advance(event)
        if action is Action.PASS:
            stage.given += len(buffer.data)
            self._settle(stage)
            return True
        if action is Action.RELEASE:
            # All that was held goes on in one piece with this one, after the headers.
            stage.buffering, stage.held, stage.holds_body = False, bytearray(), False
            buffer.data = kept + buffer.data if kept else buffer.data
            stage.given += len(buffer)
            self._settle(stage)
            if before_headers and not self.closed:
                self._pass_headers(stage, end=False)
            return True
        if action is not Action.IGNORE:
            if stage.buffering:
                stage.held = _growing(buffer.data)
            elif action is Action.HOLD:
                stage.held += buffer.data
            stage.end, stage.holds_body = end, stage.holds_body or action is Action.HOLD
            stage.buffering = event is Input.DATA_BUFFER
            stage.watermark = event is Input.DATA_WATERMARK
            if stage.buffering and stage.context is not None:
                # To be read and changed meanwhile, say in the answer to a callout.
                stage.context.bodies[self.kind] = Buffer(stage.held)
            self._check_limit(stage)
            self._settle(stage)
        return False

    def _take_back(self, stage: Stage) -> None:
        """What a filter holds may have been changed since it was held."""
        context = stage.context
        if stage.buffering and context is not None:
            lent, context.bodies[self.kind] = context.bodies[self.kind], None
            if lent is not None:
                stage.held = _growing(lent.data)

    def _check_limit(self, stage: Stage) -> None:
        if len(stage.held) > self._limit and not stage.watermark:
            self._owner.overflow(self.kind)

    # --- trailers

    def _trailers_from(self, index: int, trailers: HeaderMap) -> None:
        self.trailers_map = trailers
        for stage in self.stages[index:]:
            action = stage.advance(Input.TRAILERS_ARRIVE)
            if action is Action.CALL:
                action = stage.advance(self._run_trailers(stage, trailers))
            if action is Action.HOLD:
                stage.trailers, stage.end = trailers, False
            self._settle(stage)
            if self.closed or action in (Action.HOLD, Action.IGNORE):
                return
            if action is Action.RELEASE:
                stage.end = False
                self._let_go(stage, replay=False)
        self._sink.trailers(trailers)

    def _run_trailers(self, stage: Stage, trailers: HeaderMap) -> Input:
        context = stage.context
        if context is None or context.failed:
            return Input.TRAILERS_CONTINUE
        # What was buffered is still there to be read and changed.
        self._take_back(stage)
        buffer = Buffer(stage.held)
        if stage.buffering:
            context.bodies[self.kind] = buffer
        try:
            verdict = context.trailers(self.kind, trailers)
        except VmFailedError:
            self._owner.failed(context)
            return Input.TRAILERS_CONTINUE
        context.bodies[self.kind] = None
        stage.held = _growing(buffer.data)
        return trailers_input(verdict)

    # --- letting go

    def _let_go(self, stage: Stage, *, replay: bool) -> None:
        """Hand on what a filter held. With ``replay`` its own callbacks have not seen body and trailers yet."""
        self._take_back(stage)
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

    def _settle(self, stage: Stage) -> None:
        """Carry out what the callback asked for besides its verdict."""
        if stage.context is not None and stage.context.vm.effects:
            stage.context.vm.perform()
