"""The numbers of the ABI: statuses, types, verdicts. What a plugin may import and export is in `host.signatures`.

Values: proxy-wasm/spec `abi-versions/v0.2.1/README.md`; where spec and Envoy differ, the numbers are those of
proxy-wasm-cpp-host `include/proxy-wasm/wasm_api_impl.h` and `src/wasm.cc` (`registerCallbacks`).
"""

from __future__ import annotations

from enum import IntEnum


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
    # Higress's SDK for Go, a fork of that for 0.2.0: it adds imports, which answer UNIMPLEMENTED here.
    "proxy_abi_version_0_2_100": AbiVersion.V0_2_0,
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
    """How much a line of the log matters (`proxy_log_level_t`)."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    CRITICAL = 5


class BufferType(IntEnum):
    """Which bytes a plugin reads or changes (`proxy_buffer_type_t`)."""

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
    """Which headers, trailers or metadata (`proxy_header_map_type_t`)."""

    HTTP_REQUEST_HEADERS = 0
    HTTP_REQUEST_TRAILERS = 1
    HTTP_RESPONSE_HEADERS = 2
    HTTP_RESPONSE_TRAILERS = 3
    GRPC_RECEIVE_INITIAL_METADATA = 4
    GRPC_RECEIVE_TRAILING_METADATA = 5
    HTTP_CALL_RESPONSE_HEADERS = 6
    HTTP_CALL_RESPONSE_TRAILERS = 7


class StreamType(IntEnum):
    """Which way of a stream is resumed or closed (`proxy_stream_type_t`)."""

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
    """What a metric of a plugin's is (`proxy_metric_type_t`)."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


# "Continue", whichever callback of a stream says it: the enumerations below differ in their other numbers only. A plain
# number, since it is compared with on every request's way.
CONTINUE = 0


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
