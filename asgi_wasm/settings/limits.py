"""What the settings may say of limits; what each bounds is told where it is kept (`specs.PluginLimits`)."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

from asgi_wasm import specs
from asgi_wasm.settings.entry import Count, CountOrNone, Entry, Number

# Less runs no plugin of Go's; more than this is no thread's.
Stack = Annotated[Number, Field(ge=64 * 1024, le=2 * 1024 * 1024)]
_Limits = TypeVar("_Limits", specs.PluginLimits, specs.StoreLimits, specs.StreamLimits)


class PluginLimits(Entry):
    """Bounds of one plugin. What is None is as in `Limits`; times are in milliseconds, 0 is no limit there."""

    memory: Count | None = None
    table_elements: Count | None = None
    compile_ms: Count | None = None
    callback_ms: CountOrNone | None = None
    slow_callback_ms: CountOrNone | None = None
    header_bytes: Count | None = None
    header_count: Count | None = None
    property_bytes: Count | None = None
    metrics: Count | None = None
    metric_bytes: Count | None = None
    callback_calls: Count | None = None
    callback_call_bytes: Count | None = None
    local_reply_bytes: Count | None = None
    log_line_bytes: Count | None = None
    log_lines_per_second: Count | None = None
    tick_ms: Count | None = None
    contexts: Count | None = None


class Limits(PluginLimits):
    """Bounds of every plugin that has none of its own, and of the host; what is None has its default."""

    request_body: Count | None = None
    response_body: Count | None = None
    call_response: Count | None = None
    stack: Stack | None = None
    shared_data_keys: Count | None = None
    shared_data_bytes: Count | None = None
    queues: Count | None = None
    queue_length: Count | None = None
    queue_bytes: Count | None = None


def limits_of(kind: type[_Limits], *said: PluginLimits) -> _Limits:
    """The limits of one kind: of each what the last of ``said`` says that says anything, else its default."""
    values: dict[str, int] = {}
    for each in said:
        given = each.model_dump(exclude_none=True)
        values.update({name: given[name] for name in kind.__dataclass_fields__ if name in given})
    return kind(**values)
