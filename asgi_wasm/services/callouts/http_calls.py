"""`proxy_http_call`: a task for each call, and what its answer or its failure is to the plugin.

Followed for everything that goes wrong: Envoy `source/common/http/async_client_impl.cc` and `source/common/router/`.
What breaks off before an answer's headers is a local answer of 502, 503 or 504, in the same words; what breaks off
after them is a failure. As in Envoy, trailers of a request are not sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, KeysView

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.effects import EndCallouts, EndStreamCallouts, HttpCall
from asgi_wasm.host.ports import NANOSECOND, LimitReachedError
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.vm import delivery
from asgi_wasm.host.vm.vm import vm_of
from asgi_wasm.limits import DEFAULT_CALL_RESPONSE_LIMIT
from asgi_wasm.logs import get_logger
from asgi_wasm.services.callouts.blocks import LARGE, map_large_blocks
from asgi_wasm.services.callouts.deadline import CallLater, Deadline
from asgi_wasm.services.callouts.messages import (
    Answer,
    AnswerMemory,
    AnswersTooLargeError,
    ClientLeftError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    OverflowingError,
    StreamResetError,
    UnsendableError,
    UpstreamProtocolError,
)
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.services.callouts.upstreams import Upstream
from asgi_wasm.services.tasks import ByStream, Tasks, share
from asgi_wasm.specs import UpstreamSpec

_BAD_GATEWAY, _SERVICE_UNAVAILABLE, _GATEWAY_TIMEOUT = 502, 503, 504
_RESET = b"upstream connect error or disconnect/reset before headers. reset reason: "
# The first row that fits.
_LOCAL_ANSWERS: tuple[tuple[type[Exception], int, bytes], ...] = (
    (OverflowingError, _SERVICE_UNAVAILABLE, _RESET + b"overflow"),
    (LimitReachedError, _SERVICE_UNAVAILABLE, _RESET + b"overflow"),
    (asyncio.TimeoutError, _GATEWAY_TIMEOUT, b"upstream request timeout"),
    (ConnectTimeoutError, _SERVICE_UNAVAILABLE, _RESET + b"connection timeout"),
    (ConnectError, _SERVICE_UNAVAILABLE, _RESET + b"remote connection failure"),
    (ConnectionLostError, _SERVICE_UNAVAILABLE, _RESET + b"connection termination"),
    (StreamResetError, _SERVICE_UNAVAILABLE, _RESET + b"remote reset"),
    (UpstreamProtocolError, _BAD_GATEWAY, _RESET + b"protocol error"),
)

_LEVELS = {logging.DEBUG: LogLevel.DEBUG, logging.INFO: LogLevel.INFO, logging.WARNING: LogLevel.WARN}

logger = get_logger("asgi_wasm.host")


class HttpCalls:
    """Carries out HTTP calls as tasks of the running event loop."""

    def __init__(
        self,
        upstreams: Iterable[UpstreamSpec],
        max_response: int = DEFAULT_CALL_RESPONSE_LIMIT,
        call_later: CallLater | None = None,
    ) -> None:
        """``max_response`` is in bytes; ``call_later`` is used for timeouts in place of the event loop's.

        Raises `MissingExtraError` when an upstream wants HTTP/2 and cannot have it.
        """
        self._turns = turns = Turns()
        self._upstreams = {upstream.name: Upstream(upstream, turns) for upstream in upstreams}
        self._max_response = max_response
        self._memory = AnswerMemory()
        self._call_later = call_later
        self._tasks = Tasks()
        self._by_stream: ByStream[Deadline] = ByStream()

    @property
    def names(self) -> KeysView[str]:
        """The upstreams that may be called now."""
        return self._upstreams.keys()

    def add(self, upstream: Upstream) -> None:
        """Let one more be called."""
        self._upstreams[upstream.spec.name] = upstream

    def start(self, call: HttpCall) -> None:
        """Send it; its answer, or its failure, is delivered to the root context later, once."""
        seconds = self._upstreams[call.upstream].spec.timeout_of(call.timeout_milliseconds)
        deadline = Deadline(seconds, self._call_later)
        if self._tasks.start(self._run(call, deadline), call.root) is not None:
            self._by_stream.add(call.root, call.stream_id, deadline)

    def end(self, effect: EndCallouts) -> None:
        """Cancel the calls of a root context that is gone."""
        self._tasks.cancel(effect.root)

    def leave(self, effect: EndStreamCallouts) -> None:
        """End the calls of a stream whose client has gone; each is a failure to its plugin."""
        for deadline in self._by_stream.of(effect.root, effect.stream_id):
            deadline.end(ClientLeftError("the client has gone"))

    async def _run(self, call: HttpCall, deadline: Deadline) -> None:
        answer = Answer(self._max_response, memory=self._memory)
        try:
            await self._call(call, deadline, answer)
        finally:
            answer.release()
            self._by_stream.discard(call.root, call.stream_id, deadline)

    async def _call(self, call: HttpCall, deadline: Deadline, answer: Answer) -> None:
        upstream = self._upstreams[call.upstream]
        ports = call.root.vm.ports
        began = ports.clock.monotonic()

        def ended(outcome: str) -> None:
            took = (ports.clock.monotonic() - began) * NANOSECOND
            ports.host_metrics.callout_ended(call.root.spec.name, call.upstream, outcome, took)

        try:
            with deadline, share(call.root, len(call.body)):
                await upstream.exchange(call, answer)
            ended("response")
        except Exception as error:
            # Whatever it was: the plugin's token must be answered, once.
            ended(_outcome(error))
            if isinstance(error, AnswersTooLargeError):
                ports.host_metrics.limit_reached(call.root.spec.name, "call_responses")
            local = None if answer.headers is not None else _local_answer(error)
            reason = str(error) or "it took too long"
            told = f"HTTP call to {call.upstream!r}: {type(error).__name__}: {reason}"
            if local is None:
                _tell(call, logging.DEBUG if isinstance(error, ClientLeftError) else logging.WARNING, told)
                delivery.deliver_http_failure(call.root, call.token)
                return
            _tell(call, logging.INFO, told)
            answer = local
        # A plugin may take long over an answer, and many may be there at once.
        await self._turns.turn()
        _deliver(call, answer)

    @property
    def under_way(self) -> bool:
        """Whether any call has not been answered."""
        return self._tasks.under_way

    async def close(self) -> None:
        """Cancel what is under way, and close the connections."""
        await self._tasks.close()
        for upstream in self._upstreams.values():
            await upstream.close()

    def abandon(self) -> None:
        """`close` for a worker whose event loop is closed, and its connections with it."""
        self._tasks.abandon()


def _tell(call: HttpCall, level: int, sentence: str) -> None:
    """A line of the log, in the plugin's share of it: it may call again and again."""
    if logger.isEnabledFor(level):
        vm_of(call.root).log_lines.host(_LEVELS[level], sentence, call.root)


def _deliver(call: HttpCall, answer: Answer) -> None:
    if len(answer.body) >= LARGE:
        map_large_blocks()
    headers, body = answer.headers or HeaderMap(), bytes(answer.body)
    delivery.deliver_http_response(call.root, call.token, headers, body, answer.trailers)


def _outcome(error: Exception) -> str:
    """As the host's metric of callouts names it."""
    if isinstance(error, asyncio.TimeoutError):
        return "timeout"
    return "connection_failure" if isinstance(error, ConnectError) else "failure"


def _local_answer(error: Exception) -> Answer | None:
    """What Envoy answers itself for a call that got no headers. None for an error that should not happen."""
    if isinstance(error, UnsendableError):
        return _answer(_SERVICE_UNAVAILABLE, error.words)
    for kind, status, body in _LOCAL_ANSWERS:
        if isinstance(error, kind):
            return _answer(status, body)
    return None


def _answer(status: int, body: bytes) -> Answer:
    fields = [(b":status", b"%d" % status), (b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    return Answer(len(body), HeaderMap(fields), bytearray(body))
