"""The most of everything that is bounded: each limit that settings can name, with its unit and its default.

Read by `settings/limits.py`; kept by `host/limits.py` where a hostcall asks, else by whatever holds what is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

# Envoy's `per_connection_buffer_limit_bytes` defaults to 1 MiB; a paused body beyond it is answered 413 or 500.
DEFAULT_BODY_LIMIT = 1024 * 1024
# Envoy's `http.async_response_buffer_limit` defaults to 32 MiB; a larger answer of an HTTP call is a failure.
DEFAULT_CALL_RESPONSE_LIMIT = 32 * 1024 * 1024
# proxy-wasm-cpp-host `limits.h`: PROXY_WASM_HOST_MAX_WASM_MEMORY_SIZE_BYTES.
DEFAULT_MEMORY_LIMIT = 1024 * 1024 * 1024
# Bytes of the native stack that a plugin's calls may use: wasmtime's own default.
DEFAULT_STACK_LIMIT = 512 * 1024
# A thousand times what a callback of ordinary plugins takes.
DEFAULT_CALLBACK_MS = 1000
# A hundred times what a Go plugin of 3 MB takes.
DEFAULT_COMPILE_MS = 300_000
# Bytes of a plugin's file. The largest plugins that are known (firewalls with all of their rules) have 24 MB.
MAX_FILE_BYTES = 256 * 1024 * 1024
# asyncio's own `slow_callback_duration`.
DEFAULT_SLOW_CALLBACK_MS = 100


@dataclass(frozen=True)
class PluginLimits:
    """Bounds of what one plugin may make the host keep or do. Each is the most that is still allowed.

    A hostcall that would go beyond one answers INTERNAL_FAILURE, unless said otherwise. The defaults are such that
    ordinary plugins never meet them. Those of plugins that share a VM are the VM's, which are the first plugin's.
    """

    # Bytes of linear memory; `memory.grow` answers -1.
    memory: int = DEFAULT_MEMORY_LIMIT
    # Elements of each table, which are 8 bytes; `table.grow` answers -1. One such instruction cannot be interrupted.
    table_elements: int = 1_000_000
    # Milliseconds that compiling may take: loops in each other take a compiler the square of their number.
    compile_ms: int = DEFAULT_COMPILE_MS
    # Milliseconds that one entry into the guest may take, its hostcalls included, before the VM is stopped; 0 is no
    # limit. Envoy has none; nobody else is served meanwhile.
    callback_ms: int = DEFAULT_CALLBACK_MS
    # After so many milliseconds the log is told; 0 is never.
    slow_callback_ms: int = DEFAULT_SLOW_CALLBACK_MS
    # Bytes and number of the fields of a header map, or of trailers, that the plugin adds to: what cpp-host's
    # `limits.h` allows a serialized map to have (PROXY_WASM_HOST_PAIRS_MAX_BYTES and _COUNT).
    header_bytes: int = 1024 * 1024
    header_count: int = 1024
    # Bytes of all that plugins of one request set by `proxy_set_property`, paths included.
    property_bytes: int = 1024 * 1024
    # Bytes of any name that is passed to a hostcall: of a header, a property, an upstream, a key. What is longer names
    # nothing that there is.
    name_bytes: int = 64 * 1024
    # Bytes of one value for shared data or a queue, and of what a foreign function is given (zlib takes half a second
    # for as much).
    value_bytes: int = 16 * 1024 * 1024
    foreign_bytes: int = 16 * 1024 * 1024
    # Bytes of a body, or a piece of one, that the plugin has written to.
    body_bytes: int = 64 * 1024 * 1024
    # Metrics that a VM defines, and the bytes of their names: both stay in memory for ever.
    metrics: int = 10_000
    metric_bytes: int = 4 * 1024 * 1024
    # Whatever one callback leaves to be done after it, such as to resume each of many streams.
    callback_effects: int = 100_000
    # HTTP, gRPC and asynchronous foreign calls that one callback may ask for, and the bytes in all of them, and in its
    # local responses; as many bytes may wait for gRPC servers to take them.
    callback_calls: int = 1024
    callback_call_bytes: int = 64 * 1024 * 1024
    # HTTP, gRPC and asynchronous foreign calls that a plugin has under way in a worker; as many bytes as above in all.
    # A further one has Envoy's answer for too many, or fails. Less than one upstream of HTTP takes (2048), so that
    # others can call it too.
    calls_under_way: int = 2000
    # Bytes of a local response's body.
    local_reply_bytes: int = 16 * 1024 * 1024
    # A longer line is cut, and says so; more lines within a second are dropped and counted.
    log_line_bytes: int = 64 * 1024
    log_lines_per_second: int = 10_000
    # A shorter period becomes this one.
    tick_ms: int = 5
    # Requests that one VM serves at once; a further one has the plugin's failure policy.
    contexts: int = 100_000


@dataclass(frozen=True)
class StoreLimits:
    """What plugins may keep in memory://, by vm_id or by plugin; beyond it a hostcall answers INTERNAL_FAILURE.

    LMDB and Redis have bounds of their own: `map_size` and Redis's `maxmemory`.
    """

    # Keys, and the bytes of keys and values.
    shared_data_keys: int = 100_000
    shared_data_bytes: int = 64 * 1024 * 1024
    # Queues, and what waits in one of them: values, and their bytes.
    queues: int = 1000
    queue_length: int = 100_000
    queue_bytes: int = 64 * 1024 * 1024
    # Metrics of one plugin, and the bytes of their names, whichever VM defined them: a VM that takes the place of one
    # that failed may define others. Twice what one VM may.
    stored_metrics: int = 20_000
    stored_metric_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True)
class StreamLimits:
    """How many bytes of a body may be held back while a plugin pauses: more is answered 413 or 500."""

    request_body: int = DEFAULT_BODY_LIMIT
    response_body: int = DEFAULT_BODY_LIMIT


DEFAULT_PLUGIN_LIMITS = PluginLimits()
DEFAULT_STORE_LIMITS = StoreLimits()
DEFAULT_STREAM_LIMITS = StreamLimits()
