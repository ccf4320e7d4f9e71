"""Each limit that is kept has a setting, and each setting of limits is kept somewhere."""

from __future__ import annotations

from dataclasses import fields

from asgi_wasm import limits as bounds
from asgi_wasm.settings.limits import Limits, PluginLimits

# Kept by what is none of `limits.py`: `specs.HostSpec.call_response_limit` and `stack_limit`.
_OF_THE_HOST = {"call_response", "stack"}


def names(*kinds: type[bounds.PluginLimits | bounds.StoreLimits | bounds.StreamLimits]) -> set[str]:
    return {field.name for kind in kinds for field in fields(kind)}


def test_each_limit_of_a_plugin_has_a_setting() -> None:
    told = set(PluginLimits.model_fields)
    assert told == names(bounds.PluginLimits), "a limit of a plugin stands in limits.py and in settings/limits.py"


def test_each_limit_of_all_has_a_setting() -> None:
    kept = names(bounds.PluginLimits, bounds.StoreLimits, bounds.StreamLimits) | _OF_THE_HOST
    assert set(Limits.model_fields) == kept, "a limit stands in limits.py and in settings/limits.py (Limits)"
