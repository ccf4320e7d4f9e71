"""All sources as one: of each key what the first source says that names it, and which source that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from asgi_wasm.settings import names, nested
from asgi_wasm.settings.mistakes import Mistakes
from asgi_wasm.settings.models import Settings
from asgi_wasm.settings.sources import Source

Fields = dict[str, tuple[Any, Source]]

_TOP_KEYS = sorted(Settings.model_fields)


class Merged:
    """Plugins and upstreams are merged by name and key, limits and metrics by key; any other value is taken whole."""

    def __init__(self, sources: Sequence[Source], mistakes: Mistakes) -> None:
        """``sources`` begin with the one that wins."""
        self.values: Fields = {}
        self.limits: Fields = {}
        self.metrics: Fields = {}
        self.plugins: dict[str, Fields] = {}
        self.upstreams: dict[str, Fields] = {}
        self._blame = mistakes.blame
        # From the lowest source up, so that a name keeps the place where the lowest source put it.
        for source in reversed(sources):
            self._add(source)

    def _add(self, source: Source) -> None:
        data = dict(source.data)
        # APISIX's own file: `wasm: {plugins: [...]}`.
        if "wasm" in data:
            self._unwrap(source, data)
        for key, value in data.items():
            if key == "plugins":
                self._add_plugins(source, value)
            elif key == "upstreams":
                self._add_upstreams(source, value)
            elif key == "limits":
                self._update(self.limits, source, key, value)
            elif key == "metrics":
                self._add_metrics(source, value)
            elif key in Settings.model_fields:
                self.values[key] = (value, source)
            else:
                self._blame(source, str(key), names.unknown(str(key), _TOP_KEYS))

    def _unwrap(self, source: Source, data: dict[str, Any]) -> None:
        wasm = data.pop("wasm")
        if not isinstance(wasm, Mapping):
            self._blame(source, "wasm", "must be a mapping with plugins")
            return
        for key in wasm:
            if key != "plugins":
                self._blame(source, "wasm", names.unknown(str(key), ["plugins"]))
        if "plugins" in wasm and "plugins" in data:
            self._blame(source, "wasm.plugins", "means the same as plugins: keep one of them")
        elif "plugins" in wasm:
            data["plugins"] = wasm["plugins"]

    def _update(self, fields: Fields, source: Source, where: str, value: Any) -> None:
        entry = as_mapping(value)
        if entry is None:
            self._blame(source, where, "must be a mapping")
        else:
            fields.update({key: (item, source) for key, item in entry.items()})

    def _add_metrics(self, source: Source, value: Any) -> None:
        entry = as_mapping(value)
        if entry is None:
            entry = {"enabled": value}
        try:
            # Who says how wants them.
            entry = {"enabled": True, **names.canonical(entry, names.METRICS)}
        except ValueError as error:
            self._blame(source, "metrics", str(error))
        else:
            self._update(self.metrics, source, "metrics", entry)

    def _add_upstreams(self, source: Source, value: Any) -> None:
        if not isinstance(value, Mapping):
            self._blame(source, "upstreams", "must be a mapping of names to URLs")
            return
        for name, item in value.items():
            entry = {"url": item} if isinstance(item, str) else item
            if as_mapping(entry) is None:
                self._blame(source, f"upstreams.{name}", "must be a mapping with url, or a URL alone")
                continue
            self._update(self.upstreams.setdefault(str(name), {}), source, f"upstreams.{name}", entry)

    def meant(self, name: str) -> str | None:
        """The plugin with a file that is called almost so: the name of one without, in a variable, is misspelled."""
        whole = [known for known, fields in self.plugins.items() if "file" in fields]
        return next(iter(get_close_matches(name, whole, 1)), None)

    def _add_plugins(self, source: Source, value: Any) -> None:
        seen: set[str] = set()
        for label, entry in entries(value, "name"):
            fields = self._plugin_fields(source, label, entry)
            if fields is None:
                continue
            name = fields.pop("name")
            if not isinstance(name, str):
                self._blame(source, f"plugins[{label}].name", "must be a text: put it in quotes")
                continue
            if name in seen:
                self._blame(source, f"plugins.{name}", "is there twice: give each plugin a name of its own")
            seen.add(name)
            key = self._key(name, source)
            merged = self.plugins.setdefault(key, {"name": (name, source)})
            merged.update({field: (item, source) for field, item in fields.items()})

    def _plugin_fields(self, source: Source, label: int | str, entry: Any) -> dict[str, object] | None:
        where = f"plugins[{label}]" if isinstance(label, int) else f"plugins.{label}"
        mapping = as_mapping(entry)
        if mapping is None:
            self._blame(source, where, "must be a mapping with name and file")
            return None
        try:
            fields = nested.flat(mapping)
        except ValueError as error:
            self._blame(source, where, str(error))
            return None
        if fields.get("name") is None:
            self._blame(source, f"{where}.name", "is missing: every plugin needs a name")
            return None
        return fields

    def _key(self, name: str, source: Source) -> str:
        """Under which name the plugin is kept; a spelling from the environment gives way to any other."""
        for known, fields in self.plugins.items():
            spelled_loosely = source.loose_names or fields["name"][1].loose_names
            if known == name or not (spelled_loosely and _loose(known) == _loose(name)):
                continue
            if source.loose_names:
                return known
            fields["name"] = (name, source)
            self.plugins = {name if key == known else key: value for key, value in self.plugins.items()}
            break
        return name


def as_mapping(entry: Any) -> Mapping[str, Any] | None:
    """What was said in an entry, be it a mapping or one of our models; None for anything else.

    What stands in a model is checked already, and stays as it is.
    """
    if isinstance(entry, BaseModel):
        return {name: value for name, value in entry if name in entry.model_fields_set}
    return entry if isinstance(entry, Mapping) else None


def entries(value: Any, name_key: str | None) -> list[tuple[int | str, Any]]:
    """The entries of a list, by index, or of a mapping by name."""
    if isinstance(value, Mapping):
        return [
            (name, {name_key: name, **item} if name_key and isinstance(item, Mapping) else item)
            for name, item in value.items()
        ]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return [(0, value)]


def _loose(name: str) -> str:
    return name.lower().replace("-", "_")
