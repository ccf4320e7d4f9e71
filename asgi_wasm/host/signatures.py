"""The one table of what a plugin may import and export: names, parameters, results, and the versions that have them.

Names and types: proxy-wasm/spec `abi-versions/v0.2.1/README.md`; where spec and Envoy differ, those of
proxy-wasm-cpp-host `src/exports.cc` and `src/wasm.cc` (`registerCallbacks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from asgi_wasm.engines.base import FuncType
from asgi_wasm.host.abi import AbiVersion


@dataclass(frozen=True)
class Signature:
    """One row of the tables below: a wire name, its parameters by name, and the versions that know it.

    ``params`` are (name, value type) pairs; ``result`` is the value type of the result or None.
    ``anytime`` marks the few hostcalls that answer while the module starts or allocates.
    """

    name: str
    params: tuple[tuple[str, str], ...]
    result: str | None
    since: AbiVersion = AbiVersion.V0_1_0
    until: AbiVersion = AbiVersion.V0_2_1
    anytime: bool = False

    @property
    def type(self) -> FuncType:
        """Its WebAssembly type."""
        return FuncType(tuple(kind for _, kind in self.params), (self.result,) if self.result else ())

    def known_to(self, version: AbiVersion) -> bool:
        """Whether a module of this version may import or export it."""
        return self.since <= version <= self.until


def parameters(text: str) -> tuple[tuple[str, str], ...]:
    """Names split by spaces, each an i32 unless it says ``name:i64``."""
    parts = (param.partition(":") for param in text.split())
    return tuple((name, kind or "i32") for name, _, kind in parts)


def _row(
    name: str,
    params: str,
    result: str | None = "i32",
    *,
    since: AbiVersion = AbiVersion.V0_1_0,
    until: AbiVersion = AbiVersion.V0_2_1,
    anytime: bool = False,
) -> Signature:
    return Signature(name, parameters(params), result, since, until, anytime)


_020 = AbiVersion.V0_2_0
_010 = AbiVersion.V0_1_0

# Module "env". The order is the spec's.
HOSTCALLS: tuple[Signature, ...] = (
    _row("proxy_log", "level message_data message_size", anytime=True),
    _row("proxy_get_log_level", "return_level", since=AbiVersion.V0_2_1),
    _row("proxy_get_status", "return_code return_message_data return_message_size"),
    _row("proxy_get_configuration", "return_data return_size", until=_010),
    _row("proxy_get_property", "path_data path_size return_value_data return_value_size"),
    _row("proxy_set_property", "path_data path_size value_data value_size"),
    # SPEC 0.1.0 gives these three no result; proxy-wasm-cpp-host and every SDK have one, so do we.
    _row("proxy_continue_request", "", until=_010),
    _row("proxy_continue_response", "", until=_010),
    _row("proxy_clear_route_cache", "", until=_010),
    _row("proxy_continue_stream", "stream_type", since=_020),
    _row("proxy_close_stream", "stream_type", since=_020),
    _row(
        "proxy_send_local_response",
        "status_code details_data details_size body_data body_size headers_data headers_size grpc_status",
    ),
    _row("proxy_get_shared_data", "key_data key_size return_value_data return_value_size return_cas"),
    _row("proxy_set_shared_data", "key_data key_size value_data value_size cas"),
    _row("proxy_register_shared_queue", "name_data name_size return_token"),
    _row("proxy_resolve_shared_queue", "vm_id_data vm_id_size name_data name_size return_token"),
    _row("proxy_dequeue_shared_queue", "token return_value_data return_value_size"),
    _row("proxy_enqueue_shared_queue", "token value_data value_size"),
    _row("proxy_get_header_map_value", "map_type key_data key_size return_value_data return_value_size"),
    _row("proxy_add_header_map_value", "map_type key_data key_size value_data value_size"),
    _row("proxy_replace_header_map_value", "map_type key_data key_size value_data value_size"),
    _row("proxy_remove_header_map_value", "map_type key_data key_size"),
    _row("proxy_get_header_map_pairs", "map_type return_pairs_data return_pairs_size"),
    _row("proxy_set_header_map_pairs", "map_type pairs_data pairs_size"),
    _row("proxy_get_header_map_size", "map_type return_size"),
    _row("proxy_get_buffer_bytes", "buffer_type start max_size return_data return_size"),
    _row("proxy_get_buffer_status", "buffer_type return_size return_flags"),
    _row("proxy_set_buffer_bytes", "buffer_type start size value_data value_size"),
    _row(
        "proxy_http_call",
        "upstream_data upstream_size headers_data headers_size body_data body_size "
        "trailers_data trailers_size timeout_milliseconds return_token",
    ),
    _row(
        "proxy_grpc_call",
        "upstream_data upstream_size service_data service_size method_data method_size "
        "metadata_data metadata_size message_data message_size timeout_milliseconds return_token",
    ),
    _row(
        "proxy_grpc_stream",
        "upstream_data upstream_size service_data service_size method_data method_size "
        "metadata_data metadata_size return_token",
    ),
    _row("proxy_grpc_send", "token message_data message_size end_stream"),
    _row("proxy_grpc_cancel", "token"),
    _row("proxy_grpc_close", "token"),
    _row("proxy_set_tick_period_milliseconds", "period"),
    _row("proxy_get_current_time_nanoseconds", "return_time"),
    _row("proxy_define_metric", "metric_type name_data name_size return_metric_id"),
    _row("proxy_increment_metric", "metric_id offset:i64"),
    _row("proxy_record_metric", "metric_id value:i64"),
    _row("proxy_get_metric", "metric_id return_value"),
    _row("proxy_set_effective_context", "context_id"),
    _row("proxy_done", ""),
    _row(
        "proxy_call_foreign_function",
        "name_data name_size arguments_data arguments_size return_results_data return_results_size",
    ),
    # Not of the spec: C++ plugins built by emscripten import them (proxy-wasm-cpp-host `src/exports.cc`).
    _row("pthread_equal", "left right"),
    _row("emscripten_notify_memory_growth", "memory_index", None, anytime=True),
)

# Imported by the old AssemblyScript SDK before initial metadata existed: the same calls without those two parameters,
# which are the seventh and eighth.
GRPC_METADATA_AT = 6
SHORT_GRPC_TYPES = {
    "proxy_grpc_call": FuncType(("i32",) * 10, ("i32",)),
    "proxy_grpc_stream": FuncType(("i32",) * 7, ("i32",)),
}

# What the host calls. ``_initialize``, ``_start``, ``main`` and ``__main_void`` belong to WASI and are in `host.vm.vm`.
CALLBACKS: tuple[Signature, ...] = (
    _row("proxy_on_memory_allocate", "size"),
    _row("malloc", "size"),
    _row("proxy_on_context_create", "context_id parent_context_id", None),
    _row("proxy_on_vm_start", "root_context_id vm_configuration_size"),
    _row("proxy_validate_configuration", "root_context_id plugin_configuration_size"),
    _row("proxy_on_configure", "root_context_id plugin_configuration_size"),
    _row("proxy_on_tick", "root_context_id", None),
    _row("proxy_on_done", "context_id"),
    _row("proxy_on_log", "context_id", None),
    _row("proxy_on_delete", "context_id", None),
    _row("proxy_on_request_headers", "context_id num_headers", until=_010),
    _row("proxy_on_request_headers", "context_id num_headers end_of_stream", since=_020),
    _row("proxy_on_request_body", "context_id body_size end_of_stream"),
    _row("proxy_on_request_trailers", "context_id num_trailers"),
    _row("proxy_on_request_metadata", "context_id num_elements"),
    _row("proxy_on_response_headers", "context_id num_headers", until=_010),
    _row("proxy_on_response_headers", "context_id num_headers end_of_stream", since=_020),
    _row("proxy_on_response_body", "context_id body_size end_of_stream"),
    _row("proxy_on_response_trailers", "context_id num_trailers"),
    _row("proxy_on_response_metadata", "context_id num_elements"),
    _row("proxy_on_http_call_response", "root_context_id token num_headers body_size num_trailers", None),
    _row("proxy_on_grpc_receive_initial_metadata", "root_context_id token num_elements", None),
    _row("proxy_on_grpc_receive", "root_context_id token message_size", None),
    _row("proxy_on_grpc_receive_trailing_metadata", "root_context_id token num_elements", None),
    _row("proxy_on_grpc_close", "root_context_id token grpc_status", None),
    _row("proxy_on_queue_ready", "root_context_id token", None),
    _row("proxy_on_foreign_function", "root_context_id function_id arguments_size", None, since=_020),
    _row("proxy_on_new_connection", "context_id"),
    _row("proxy_on_downstream_data", "context_id data_size end_of_stream"),
    _row("proxy_on_upstream_data", "context_id data_size end_of_stream"),
    _row("proxy_on_downstream_connection_close", "context_id close_source", None),
    _row("proxy_on_upstream_connection_close", "context_id close_source", None),
)


def hostcalls(version: AbiVersion) -> Iterator[Signature]:
    """The hostcalls that a module of this version may import."""
    return (row for row in HOSTCALLS if row.known_to(version))


def callbacks(version: AbiVersion) -> dict[str, Signature]:
    """The callbacks of this version, by wire name."""
    return {row.name: row for row in CALLBACKS if row.known_to(version)}
