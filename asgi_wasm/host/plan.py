"""What is known of a chain of filters before any request comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asgi_wasm.host import directions
from asgi_wasm.host.directions import InBoth
from asgi_wasm.host.plugin import Plugin
from asgi_wasm.specs import Mode

if TYPE_CHECKING:
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.resident.native import Accelerator

# Hostcalls by which a plugin may keep a property of a request.
_SETTERS = frozenset({"proxy_set_property", "proxy_call_foreign_function"})


@dataclass(frozen=True)
class Plan:
    """Which callbacks some plugin of the chain has: what nobody has is never prepared.

    ``sees_body`` is true where there is one for the body or the trailers, ``changes_body`` where for the body.
    ``is_straight`` is false when a plugin of the chain could not be loaded, or observes; ``may_lend`` is true when each
    may have a kernel beside it, which ``accelerator`` may enter.
    """

    filters: Sequence[Filter]
    is_straight: bool
    sees_body: InBoth
    changes_body: InBoth
    sees_response: bool
    sees_log: bool
    may_set_properties: bool
    may_lend: bool
    accelerator: Accelerator | None

    @classmethod
    def of(cls, filters: Sequence[Filter]) -> Plan:
        """The plan of these filters."""
        plugins = [each.plugin for each in filters if isinstance(each.plugin, Plugin)]
        callbacks = {name for plugin in plugins for name in plugin.callbacks}
        imports = {each.name for plugin in plugins for each in plugin.code.module.imports}
        # Who observes changes nothing, and is as odd as one that is missing.
        enforcing = [plugin for plugin in plugins if plugin.spec.mode is Mode.ENFORCE]
        deciding = {name for plugin in enforcing for name in plugin.callbacks}
        is_straight = len(enforcing) == len(filters)
        kits = [plugin.code.kit for plugin in plugins]
        return cls(
            filters,
            is_straight=is_straight,
            sees_body=directions.sees_body(callbacks),
            changes_body=InBoth(*(f"proxy_on_{way}_body" in deciding for way in directions.NAMES)),
            sees_response="proxy_on_response_headers" in callbacks,
            sees_log="proxy_on_log" in callbacks,
            may_set_properties=bool(imports & _SETTERS),
            may_lend=None not in kits and is_straight,
            accelerator=next((kit.accelerator for kit in kits if kit is not None), None),
        )
