"""Where a worker's calls are told of, as the settings say."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from asgi_wasm.errors import MissingExtraError
from asgi_wasm.services.traces.requests import RequestTraces

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Effect
    from asgi_wasm.host.vm.trace import TraceSink
    from asgi_wasm.services.traces.spans import SpanTrace
    from asgi_wasm.specs import HostSpec


class Tracing:
    """The sinks of one worker; none, unless the settings want any."""

    def __init__(self, spec: HostSpec) -> None:
        """Settle where calls are told of. Raises `MissingExtraError`."""
        self.requests = RequestTraces(spec.trace_requests) if spec.trace_requests else None
        self.spans = _spans() if spec.opentelemetry else None
        self.sinks: tuple[TraceSink, ...] = tuple(sink for sink in (self.requests, self.spans) if sink is not None)

    def carried(self, effect: Effect) -> Effect:
        """A callout with the trace's headers; anything else as it is."""
        return effect if self.spans is None else self.spans.carried(effect)


def _spans() -> SpanTrace:
    if find_spec("opentelemetry") is None:
        raise MissingExtraError("the settings say 'opentelemetry': pip install 'asgi-wasm[opentelemetry]'")
    from asgi_wasm.services.traces.spans import SpanTrace

    return SpanTrace()
