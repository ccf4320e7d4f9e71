"""Spans of OpenTelemetry, as an SDK gets them: phases of plugins, callouts, and what surrounds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

from asgi_wasm import MissingExtraError, WasmMiddleware
from tests.driving import answering, request
from tests.plugins.conftest import PLUGINS
from tests.serving import dead_port, serve

trace = pytest.importorskip("opentelemetry.trace", reason="opentelemetry-api is not installed")
export = pytest.importorskip("opentelemetry.sdk.trace.export", reason="opentelemetry-sdk is not installed")
sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="no SDK")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AUTH = {
    "name": "auth",
    "file": str(PLUGINS / "http_auth" / "rust.wasm"),
    "conf": {"upstream": "up", "timeout_ms": 60_000},
}
FAULT = {"name": "fault", "file": str(PLUGINS / "fault_injection" / "c.wasm"), "conf": {"http_status": 418}}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Where the spans go; the tracer is this test's own."""
    exporter = in_memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", lambda name: provider.get_tracer(name))
    yield exporter
    provider.shutdown()


async def spans_of(
    exported: Any,
    plugins: Sequence[dict[str, Any]],
    body: Callable[[WasmMiddleware], Awaitable[object]],
    **settings: Any,
) -> dict[str, Any]:
    """By name; those of a plugin's start and end are left out."""
    given = {"opentelemetry": True, **settings, "plugins": plugins}
    async with WasmMiddleware(answering(b"ok"), settings=given) as middleware:
        exported.clear()
        await body(middleware)
    return {span.name: span for span in exported.get_finished_spans()}


async def test_a_span_for_each_plugin_and_phase(exported: Any) -> None:
    headers = {"name": "headers", "file": str(PLUGINS / "headers" / "rust.wasm"), "conf": {}, "priority": 1}
    spans = await spans_of(
        exported, [headers, FAULT], lambda app: request(app, headers=[(b"traceparent", PARENT.encode())])
    )
    assert {"headers request_headers", "fault request_headers", "headers response_headers", "headers log"} <= {*spans}
    fault = spans["fault request_headers"]
    assert fault.attributes["wasm.plugin"] == "fault" and fault.attributes["wasm.action"] == "pause"
    assert spans["headers request_headers"].attributes["wasm.action"] == "continue"
    (event,) = fault.events
    assert (event.name, event.attributes["http.response.status_code"]) == ("wasm.local_response", 418)
    # Nobody outside of us has a span, so the request itself says whose child it is.
    assert f"{fault.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{fault.parent.span_id:016x}" == PARENT.split("-")[2]


async def test_what_surrounds_the_middleware_is_the_parent(exported: Any) -> None:
    outside: list[Any] = []

    async def body(app: WasmMiddleware) -> None:
        with trace.get_tracer("test").start_as_current_span("server") as span:
            outside.append(span.get_span_context())
            await request(app, headers=[(b"traceparent", PARENT.encode())])

    spans = await spans_of(exported, [FAULT], body)
    assert spans["fault request_headers"].parent.span_id == outside[0].span_id


async def test_a_callout_carries_the_trace(exported: Any) -> None:
    async def body(app: WasmMiddleware) -> None:
        answer = await request(app, headers=[(b"x-user", b"bob"), (b"traceparent", PARENT.encode())])
        assert answer.status == 200

    with serve("tests.services.traces.upstream:app") as server:
        spans = await spans_of(exported, [AUTH], body, upstreams={"up": server.url})
        told = server.log()
    callout = spans["HTTP up"]
    assert callout.kind is trace.SpanKind.CLIENT and callout.attributes["http.request.method"] == "POST"
    assert callout.parent.span_id == spans["auth request_headers"].context.span_id
    assert spans["auth http_call_response"].parent.span_id == callout.context.span_id
    carried = f"traceparent: 00-{callout.context.trace_id:032x}-{callout.context.span_id:016x}-01"
    assert carried in told, told
    assert callout.status.is_ok or callout.status.is_unset


async def test_failures(exported: Any) -> None:
    probe = {"name": "probe", "file": str(PLUGINS / "probe" / "abi_0_2_1.wasm"), "conf": "request_headers: trap"}
    failed = (await spans_of(exported, [probe], request))["probe request_headers"]
    assert not failed.status.is_ok and "trap" in failed.status.description
    assert [event.name for event in failed.events] == ["wasm.failure"]


async def test_a_grpc_call_that_fails(exported: Any) -> None:
    grpc = {
        "name": "grpc",
        "file": str(PLUGINS / "grpc_auth" / "rust.wasm"),
        "conf": {"upstream": "up", "timeout_ms": 60_000},
    }
    with dead_port() as port:
        spans = await spans_of(exported, [grpc], request, upstreams={"up": f"http://127.0.0.1:{port}"})
    callout = spans["gRPC up"]
    assert callout.attributes["rpc.method"] == "test.Auth/Check" and callout.attributes["rpc.grpc.status_code"] == 14
    assert callout.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
async def test_a_grpc_call_carries_the_trace_on_the_wire(exported: Any, stream: bool) -> None:
    """Beside the plugin's own metadata."""
    grpc_server = pytest.importorskip("tests.grpc_server", reason="grpcio is not installed").grpc_server

    async with grpc_server() as server:
        conf = {"upstream": "up", "stream": stream, "timeout_ms": 60_000}
        grpc = {"name": "grpc", "file": str(PLUGINS / "grpc_auth" / "rust.wasm"), "conf": conf}
        given = {"opentelemetry": True, "plugins": [grpc], "upstreams": {"up": server.url}}
        async with WasmMiddleware(answering(b"ok"), settings=given) as app:
            answer = await request(app, headers=[(b"x-user", b"bob"), (b"traceparent", PARENT.encode())])
            assert answer.status == 200
        ((_, metadata, _),) = server.calls
    (callout,) = [span for span in exported.get_finished_spans() if span.name == "gRPC up"]
    assert metadata["traceparent"] == f"00-{callout.context.trace_id:032x}-{callout.context.span_id:016x}-01"
    assert (f"{callout.context.trace_id:032x}", metadata["x-user"]) == (PARENT.split("-")[1], "bob")


async def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asgi_wasm.worker.tracing.find_spec", lambda name: None if name == "opentelemetry" else find_spec(name)
    )
    middleware = WasmMiddleware(answering(), settings={"opentelemetry": True, "plugins": [FAULT]})
    with pytest.raises(MissingExtraError, match=r"pip install 'asgi-wasm\[opentelemetry\]'"):
        await middleware.start()
