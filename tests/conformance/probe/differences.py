"""All that differs between the two hosts in the probe's run, and why; a table of `ENVOY.md` is made from this."""

from __future__ import annotations

from tests.conformance.probe.compare import Difference

DIFFERENCES = (
    Difference(
        "Envoy crashes: a local response or `close_stream` from `on_log`, `on_done` or `on_delete`, `continue_stream` "
        "of a response that does not exist yet, a gRPC call to the empty service. Here they do nothing or are refused",
        (
            "reply-in-log",
            "reply-in-done",
            "reply-in-delete",
            "close-in-log",
            "continue-1-in-stream_create",
            "continue-1-in-request_headers",
            "continue-1-in-request_body",
            "continue-other-direction",
            "grpc-call-empty-service",
            "grpc-stream-empty-service",
        ),
        hostcalls=("send_local_response", "close_stream", "continue_stream", "grpc_call", "grpc_stream"),
    ),
    Difference(
        "`continue_stream` inside the callback that pauses is lost in Envoy, and the client waits for ever; here it "
        "resumes the stream after the callback",
        ("continue-in-paused-headers",),
        hostcalls=("continue_stream",),
    ),
    Difference(
        "`continue_stream` of a stream that is not paused: Envoy garbles the response, or takes the body out of the "
        "buffer of the running callback; here it does nothing",
        ("continue-1-in-response_headers", "continue-0-in-request_body"),
        hostcalls=("continue_stream",),
    ),
    Difference(
        "A local response through a root context answers nobody, but Envoy then also stops the stream whose callback "
        "asked for it, for ever; here that stream goes on",
        ("context-reply-through-root",),
        hostcalls=("send_local_response",),
    ),
    Difference(
        "Buffer 8 outside of foreign functions is, in Envoy, whatever buffer was looked at last; here it is empty",
        ("body-call-data",),
    ),
    Difference(
        "A header that HTTP/1 cannot carry: Envoy answers 503 or cuts the connection, and lets CR and LF in a value "
        "split the response; here it is left out, with a warning",
        ("request-odd-*", "response-odd-*", "reply-form-odd-header"),
        r"client|app: ",
        hostcalls=("add_header_map_value", "send_local_response"),
    ),
    Difference(
        "Spaces around a value: ASGI gives them to the app, HTTP/1 does not", ("request-odd-spaces-around-value",)
    ),
    Difference(
        "A request without a usable `:path` or `:method` gets 404 or 503 from Envoy's router; here the app gets the "
        "request's own, and a method in upper case. A `:method` or `:scheme` of other bytes than HTTP has, and a "
        "`:path` with white space or a control character, is answered 503 and reaches no app; of these, Envoy refuses "
        "CR, LF and NUL",
        ("request-pseudo-remove-*", "request-pseudo-empty-path", "request-pseudo-lower-method"),
        hostcalls=("replace_header_map_value", "remove_header_map_value"),
    ),
    Difference(
        "A `content-length` or `transfer-encoding` that a plugin writes into a request: Envoy hands it on, so that the "
        "server behind it reads another body, or none; here the app is told the true length",
        ("request-framing-*",),
        hostcalls=("add_header_map_value", "replace_header_map_value"),
    ),
    Difference(
        "The 503 to an `:authority` with a control character: Envoy's body says why, here it is empty and the log does",
        ("request-authority-newline", "request-authority-nul", "request-authority-control"),
        r"client: ",
        hostcalls=("replace_header_map_value",),
    ),
    Difference(
        "A status that is no final response's (below 200, above 599, no number): Envoy sends it, answers 502 or cuts "
        "the connection; ASGI servers send none of these, so it becomes 500",
        ("pairs-*status*", "pairs-add-pseudo", "reply-form-0", "reply-form-100*", "reply-form-600", "reply-form-999"),
        hostcalls=(
            "add_header_map_value",
            "replace_header_map_value",
            "remove_header_map_value",
            "send_local_response",
        ),
    ),
    Difference(
        "A body that was changed under a declared content-length: Envoy sends it so, and breaks the message; here the "
        "app gets the whole body",
        ("body-length-lies",),
        hostcalls=("set_buffer_bytes",),
    ),
    Difference(
        "An ASGI app cannot reset a connection on which nothing was sent: the server answers 500 for it. An answer "
        "that was already sent is not reset either",
        ("close-[01]-*", "close-then-reply", "reply-then-close"),
        r"client",
        hostcalls=("close_stream",),
    ),
    Difference(
        "The head of a response with a content-length is held until the first verdict on its body, so that a plugin "
        "that fails there can still be answered for",
        ("trap-in-response_end",),
        hostcalls=(),
    ),
    Difference(
        "The request after a trap gets a fresh VM here; in Envoy only with FAIL_RELOAD",
        ("trap-then-next",),
        hostcalls=(),
    ),
    Difference(
        "`failure_policy: FAIL_OPEN` does not cover the request in which the VM fails in Envoy: it is answered 503, "
        "and later ones pass the plugin over. Here that request passes too, and the next gets a fresh VM",
        ("open-trap-*",),
        hostcalls=(),
    ),
    Difference(
        "A trap in the allocator ends the callback here; in Envoy the hostcall answers 6, and the callback goes on",
        ("allocator-*",),
        r'plugin_name" = 6|after',
        hostcalls=(),
    ),
    Difference(
        "While the host allocates, Envoy allows `proxy_log` and `fd_write` only; here also the rest of WASI and "
        "`emscripten_notify_memory_growth`, which languages' allocators call",
        ("allocator-calls-growth", "allocator-calls-environ", "allocator-calls-random", "allocator-calls-sched_yield"),
    ),
    Difference("`fd_fdstat_get` to a bad address is success in Envoy", ("wasi-files",), "fd_fdstat_get 1 0xfffffff0"),
    Difference(
        "Metrics are each plugin's own here; in Envoy equal names are one metric", ("metric-two-plugins",), "get_metric"
    ),
    Difference(
        "A line logged while another root context is the effective one stands under that plugin's name here",
        ("context-second-root",),
        hostcalls=("set_effective_context",),
    ),
    Difference(
        "What only a proxy knows (`xds.*`, `upstream.*`, `connection.id`, `response.backend_latency`) is NOT_FOUND",
        ("property-in-*",),
        r'"(xds|upstream|upstream_filter_state|connection_id|connection\\x00id|response\\x00backend_latency)["\\]',
    ),
    Difference(
        "`listener_direction`, which plugins of Istio ask for, is inbound here; in Envoy it is NOT_FOUND, and "
        "`xds.listener_direction` has it",
        ("property-in-*",),
        "listener_direction",
    ),
)
