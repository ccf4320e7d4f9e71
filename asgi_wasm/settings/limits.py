"""What the settings may say of limits; what each bounds is told where it is kept (`asgi_wasm.limits`)."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from asgi_wasm import limits as bounds
from asgi_wasm.settings.entry import Count, CountOrNone, Entry, Number

# Less runs no plugin of Go's; more than this is no thread's.
Stack = Annotated[Number, Field(ge=64 * 1024, le=2 * 1024 * 1024)]
_Limits = TypeVar("_Limits", bounds.PluginLimits, bounds.StoreLimits, bounds.StreamLimits)


class PluginLimits(Entry):
    """Bounds of one plugin. What is None is as in `Limits`; times are in milliseconds, 0 is no limit there."""

    memory: Count | None = None
    """Bytes of linear memory; growing fails. Wasmtime only."""
    table_elements: Count | None = None
    """Elements of each table; growing fails. Wasmtime only. A plugin has one memory and at most 16 tables."""
    compile_ms: Count | None = None
    """Milliseconds until a plugin whose code is being compiled counts as broken."""
    callback_ms: CountOrNone | None = None
    """Milliseconds of one entry into the plugin; then its VM is stopped. 0: for ever. Wasmtime, and libwasmer
    roughly."""
    slow_callback_ms: CountOrNone | None = None
    """Milliseconds after which the log says that a callback is slow, once a minute (surely from half as long again on).
    0: never."""
    header_bytes: Count | None = None
    """Bytes of a header map that the plugin adds to."""
    header_count: Count | None = None
    """Fields of a header map that the plugin adds to."""
    property_bytes: Count | None = None
    """Bytes of all that plugins of one request set."""
    name_bytes: Count | None = None
    """Bytes of any name: of a header, a property, an upstream, a queue, a metric, a key. What is looked up by a longer
    one is unknown (NOT_FOUND, BAD_ARGUMENT)."""
    value_bytes: Count | None = None
    """Bytes of one value for shared data or a queue."""
    foreign_bytes: Count | None = None
    """Bytes of what a foreign function is given."""
    body_bytes: Count | None = None
    """Bytes of a body, or of the piece of one that a callback sees, that the plugin has added to."""
    metrics: Count | None = None
    """Metrics that a VM defines; beyond, a known name gets the id that it has."""
    metric_bytes: Count | None = None
    """Bytes of their names."""
    callback_effects: Count | None = None
    """Whatever one callback leaves to be done after it: streams to resume, to answer or to reset, calls."""
    callback_calls: Count | None = None
    """HTTP, gRPC and asynchronous foreign calls that one callback asks for."""
    callback_call_bytes: Count | None = None
    """Bytes in all of them and in its local responses, and bytes that wait for gRPC servers to take them."""
    calls_under_way: Count | None = None
    """HTTP, gRPC and asynchronous foreign calls that the plugin has under way in a worker. A further one, and one
    with which they have more than `callback_call_bytes`, is answered 503 (`overflow`), or fails (gRPC: hostcall 10)."""
    local_reply_bytes: Count | None = None
    """Bytes of a local response's body."""
    log_line_bytes: Count | None = None
    """A longer line is cut, and says so."""
    log_lines_per_second: Count | None = None
    """Further lines are dropped, and counted in the log; so are the host's own about what the plugin does."""
    tick_ms: Count | None = None
    """Milliseconds; a shorter period of ticks becomes this one."""
    contexts: Count | None = None
    """Requests of one VM at once; a further one gets the failure policy."""


class Limits(PluginLimits):
    """Bounds of every plugin that has none of its own, and of the host; what is None has its default."""

    request_body: Count | None = None
    """Bytes of a request's body that are held while a plugin pauses; more is answered 413."""
    response_body: Count | None = None
    """Bytes of a response's body that are held while a plugin pauses; more is answered 500."""
    call_response: Count | None = None
    """Bytes of an HTTP call's answer; a larger one is a failure."""
    stack: Stack | None = None
    """Bytes of native stack of a plugin's calls; beyond it traps. Wasmtime only. A thread with less stack than this and
    256 KiB starts no plugin."""
    shared_data_keys: Count | None = None
    """Keys of one `vm_id` in `memory://`."""
    shared_data_bytes: Count | None = None
    """Bytes of keys and values of one `vm_id` in `memory://`."""
    queues: Count | None = None
    """Queues of one `vm_id` in `memory://`."""
    queue_length: Count | None = None
    """Values that wait in one of them."""
    queue_bytes: Count | None = None
    """Bytes that wait in one of them."""
    stored_metrics: Count | None = None
    """Metrics of one plugin in `memory://`, of all VMs that it has had. One more is defined, but not counted."""
    stored_metric_bytes: Count | None = None
    """Bytes of their names."""


def limits_of(kind: type[_Limits], *said: PluginLimits) -> _Limits:
    """The limits of one kind: of each what the last of ``said`` says that says anything, else its default."""
    values: dict[str, int] = {}
    for each in said:
        values.update({name: value for name, value in each if value is not None and name in kind.__dataclass_fields__})
    return kind(**values)
