"""What is known of a chain of filters before any request comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asgi_wasm.host.plugin import Plugin

if TYPE_CHECKING:
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.resident.native import Accelerator

_WAYS = ("request", "response")


@dataclass(frozen=True)
class Plan:
    """Which callbacks some plugin of the chain exports, by direction: what nobody exports is never prepared.

    ``is_straight`` is false when a plugin of the chain could not be loaded; ``may_lend`` is true when each may have a
    kernel beside it, which ``accelerator`` may enter.
    """

    is_straight: bool
    sees_body: tuple[bool, bool]
    sees_response: bool
    may_lend: bool
    accelerator: Accelerator | None

    @classmethod
    def of(cls, filters: Sequence[Filter]) -> Plan:
        """The plan of these filters."""
        plugins = [each.plugin for each in filters if isinstance(each.plugin, Plugin)]
        exports = {name for plugin in plugins for name in plugin.code.module.exports}
        request, response = (bool(exports & {f"proxy_on_{way}_body", f"proxy_on_{way}_trailers"}) for way in _WAYS)
        kits = [plugin.code.kit for plugin in plugins]
        return cls(
            len(plugins) == len(filters),
            (request, response),
            sees_response="proxy_on_response_headers" in exports,
            may_lend=None not in kits,
            accelerator=next((kit.accelerator for kit in kits if kit is not None), None),
        )
