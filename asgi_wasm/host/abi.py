"""The numbers of the ABI, and the one table of what a plugin may import and export.

Values: proxy-wasm/spec `abi-versions/v0.2.1/README.md`; where spec and Envoy differ, the numbers are those of
proxy-wasm-cpp-host `include/proxy-wasm/wasm_api_impl.h` and `src/wasm.cc` (`registerCallbacks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from asgi_wasm.engines.base import FuncType


class AbiVersion(IntEnum):
    """The versions that are hosted, in order of age."""

    V0_1_0 = 10
    V0_2_0 = 20
    V0_2_1 = 21

    def __str__(self) -> str:
        return self.name[1:].replace("_", ".")


# Exported, never called: its name alone declares the version (spec: "Proxy-Wasm ABI version").
MARKERS = {
    "proxy_abi_version_0_1_0": AbiVersion.V0_1_0,
    "proxy_abi_version_0_2_0": AbiVersion.V0_2_0,
    "proxy_abi_version_0_2_1": AbiVersion.V0_2_1,
}


class ProxyStatus(IntEnum):
    """What a hostcall answers (`proxy_status_t`)."""

    OK = 0
    NOT_FOUND = 1
    BAD_ARGUMENT = 2
    SERIALIZATION_FAILURE = 3
    PARSE_FAILURE = 4
    BAD_EXPRESSION = 5
    INVALID_MEMORY_ACCESS = 6
    EMPTY = 7
    CAS_MISMATCH = 8
    RESULT_MISMATCH = 9
    INTERNAL_FAILURE = 10
    BROKEN_CONNECTION = 11
    UNIMPLEMENTED = 12


class LogLevel(IntEnum):
    """`proxy_log_level_t`."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    CRITICAL = 5


class BufferType(IntEnum):
    """`proxy_buffer_type_t`."""

    HTTP_REQUEST_BODY = 0
    HTTP_RESPONSE_BODY = 1
    DOWNSTREAM_DATA = 2
    UPSTREAM_DATA = 3
    HTTP_CALL_RESPONSE_BODY = 4
    GRPC_RECEIVE_BUFFER = 5
    VM_CONFIGURATION = 6
    PLUGIN_CONFIGURATION = 7
    CALL_DATA = 8


class MapType(IntEnum):
    """`proxy_header_map_type_t`."""

    HTTP_REQUEST_HEADERS = 0
    HTTP_REQUEST_TRAILERS = 1
    HTTP_RESPONSE_HEADERS = 2
    HTTP_RESPONSE_TRAILERS = 3
    GRPC_RECEIVE_INITIAL_METADATA = 4
    GRPC_RECEIVE_TRAILING_METADATA = 5
    HTTP_CALL_RESPONSE_HEADERS = 6
    HTTP_CALL_RESPONSE_TRAILERS = 7


class StreamType(IntEnum):
    """`proxy_stream_type_t`."""

    HTTP_REQUEST = 0
    HTTP_RESPONSE = 1
    DOWNSTREAM = 2
    UPSTREAM = 3


class CalloutType(IntEnum):
    """The low two bits of a callout's token (proxy-wasm-cpp-host `include/proxy-wasm/wasm.h`)."""

    HTTP_CALL = 0
    GRPC_CALL = 1
    GRPC_STREAM = 2


class MetricType(IntEnum):
    """`proxy_metric_type_t`."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class HeadersStatus(IntEnum):
    """What a headers callback may return. The spec knows 0 and 1 only; the rest is Envoy's `FilterHeadersStatus`."""

    CONTINUE = 0
    STOP_ITERATION = 1
    CONTINUE_AND_END_STREAM = 2
    STOP_ALL_ITERATION_AND_BUFFER = 3
    STOP_ALL_ITERATION_AND_WATERMARK = 4


class DataStatus(IntEnum):
    """What a body callback may return. The spec knows 0 and 1 only; the rest is Envoy's `FilterDataStatus`."""

    CONTINUE = 0
    STOP_ITERATION_AND_BUFFER = 1
    STOP_ITERATION_AND_WATERMARK = 2
    STOP_ITERATION_NO_BUFFER = 3


class TrailersStatus(IntEnum):
    """What a trailers callback may return."""

    CONTINUE = 0
    STOP_ITERATION = 1


class HostcallError(Exception):
    """Raised inside a hostcall to answer with ``status``; never leaves the hostcall (see `host.vm.linker`)."""

    def __init__(self, status: ProxyStatus) -> None:
        super().__init__(status.name)
        self.status = status


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
