"""Merge the sources, check them, and give the host its specs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from asgi_wasm import specs
from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import names
from asgi_wasm.settings.models import Limits, Metrics, Plugin, Route, Settings, Upstream
from asgi_wasm.settings.sources import Source, read_all
from asgi_wasm.settings.store_url import parse_store_url

_Model = TypeVar("_Model", bound=BaseModel)
_TOP_KEYS = sorted(Settings.model_fields)
_WASM_MAGIC = b"\0asm"
_COMPONENT_VERSION = b"\x0d\0\x01\0"


def load(
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    *,
    plugins: Sequence[Any] | Mapping[str, Any] | None = None,
    routes: Sequence[Any] | Mapping[str, Any] | None = None,
    upstreams: Mapping[str, Any] | None = None,
    engine: str | None = None,
    cache_dir: str | Path | None = None,
    metrics: Any = None,
    shared_data: str | None = None,
) -> specs.HostSpec:
    """Read, merge and check the settings.

    ``settings`` may be a file's path, which replaces the usual files; or a mapping or `Settings`, which replaces every
    other source; the other arguments win over all. Raises `SettingsError`, one sentence a mistake, each naming its
    source and key. A plugin's file that is missing or no Wasm is no such error, but ``problem`` of its spec, so that
    the other plugins can run.
    """
    given = {
        "plugins": plugins,
        "routes": routes,
        "upstreams": upstreams,
        "engine": engine,
        "cache_dir": cache_dir,
        "metrics": metrics,
        "shared_data": shared_data,
    }
    arguments = Source("the arguments", {key: value for key, value in given.items() if value is not None}, Path.cwd())
    if settings is None:
        others: Iterable[Source] = read_all()
    elif isinstance(settings, (str, Path)):
        others = read_all(Path(settings))
    else:
        data = settings.model_dump(exclude_unset=True) if isinstance(settings, Settings) else settings
        others = [Source("argument settings", data, Path.cwd())]
    return _Merge([arguments, *others]).host_spec()


class _Merge:
    """All sources as one, the first in the list winning; mistakes are collected."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.mistakes: list[str] = []
        self._values: dict[str, tuple[Any, Source]] = {}
        self._plugins: dict[str, dict[str, tuple[Any, Source]]] = {}
        self._upstreams: dict[str, tuple[Any, Source]] = {}
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
            elif key == "upstreams" and not isinstance(value, Mapping):
                self._blame(source, key, "must be a mapping of names to URLs")
            elif key == "upstreams":
                self._upstreams.update({name: (item, source) for name, item in value.items()})
            elif key in Settings.model_fields:
                self._values[key] = (value, source)
            else:
                self._blame(source, key, names.unknown(key, _TOP_KEYS))

    def _unwrap(self, source: Source, data: dict[str, Any]) -> None:
        wasm = data.pop("wasm")
        if not isinstance(wasm, Mapping):
            self._blame(source, "wasm", "must be a mapping with plugins")
            return
        for key in wasm:
            if key != "plugins":
                self._blame(source, "wasm", names.unknown(key, ["plugins"]))
        if "plugins" in wasm and "plugins" in data:
            self._blame(source, "wasm.plugins", "means the same as plugins: keep one of them")
        elif "plugins" in wasm:
            data["plugins"] = wasm["plugins"]

    def _add_plugins(self, source: Source, value: Any) -> None:
        seen: set[str] = set()
        for label, entry in _entries(value, "name"):
            fields = self._plugin_fields(source, label, entry)
            if fields is None:
                continue
            name = str(fields.pop("name"))
            if name in seen:
                self._blame(source, f"plugins.{name}", "is there twice: give each plugin a name of its own")
            seen.add(name)
            key = self._key(name, source)
            merged = self._plugins.setdefault(key, {"name": (name, source)})
            merged.update({field: (item, source) for field, item in fields.items()})

    def _plugin_fields(self, source: Source, label: int | str, entry: Any) -> dict[str, object] | None:
        where = f"plugins[{label}]" if isinstance(label, int) else f"plugins.{label}"
        if isinstance(entry, Plugin):
            entry = entry.model_dump(exclude_unset=True)
        if not isinstance(entry, Mapping):
            self._blame(source, where, "must be a mapping with name and file")
            return None
        try:
            fields = names.canonical(entry, names.PLUGIN)
        except ValueError as error:
            self._blame(source, where, str(error))
            return None
        if "name" not in fields:
            self._blame(source, f"{where}.name", "is missing: every plugin needs a name")
            return None
        return fields

    def _key(self, name: str, source: Source) -> str:
        """Under which name the plugin is kept; a spelling from the environment gives way to any other."""
        for known, fields in self._plugins.items():
            spelled_loosely = source.loose_names or fields["name"][1].loose_names
            if known == name or not (spelled_loosely and _loose(known) == _loose(name)):
                continue
            if source.loose_names:
                return known
            fields["name"] = (name, source)
            self._plugins = {name if key == known else key: value for key, value in self._plugins.items()}
            break
        return name

    # --- to specs

    def host_spec(self) -> specs.HostSpec:
        """Everything checked. Raises `SettingsError`."""
        plugins = tuple(spec for name in self._plugins if (spec := self._plugin(name)) is not None)
        routes = tuple(self._routes())
        upstreams = tuple(found for name in self._upstreams if (found := self._upstream(name)) is not None)
        limits = self._model(Limits, "limits", {})
        metrics = self._model(Metrics, "metrics", False)
        top = self._top({key: self._values[key][0] for key in _TOP_VALUES if key in self._values})
        if self.mistakes or limits is None or metrics is None or top is None:
            raise SettingsError("\n".join(self.mistakes))
        return specs.HostSpec(
            plugins=plugins,
            routes=routes,
            upstreams=upstreams,
            engine=top.engine,
            cache_dir=top.cache_dir,
            limits=specs.StreamLimits(limits.request_body, limits.response_body),
            call_response_limit=limits.call_response,
            pause_timeout=top.pause_timeout,
            metrics=_metrics_spec(metrics),
            store=replace(parse_store_url(top.shared_data), metrics=top.shared_metrics),
        )

    def _plugin(self, name: str) -> specs.PluginSpec | None:
        fields = self._plugins[name]
        source_of = {key: source for key, (_, source) in fields.items()}
        plugin = self._check(Plugin, {key: value for key, (value, _) in fields.items()}, f"plugins.{name}", source_of)
        if plugin is None:
            return None
        file = source_of["file"].folder / Path(plugin.file).expanduser()
        return specs.PluginSpec(
            name=name,
            file=file,
            problem=self._file_problem(file, plugin.sha256, f"{source_of['file'].name}: plugins.{name}.file"),
            env=tuple(plugin.env.items()),
            allowed_capabilities=frozenset(plugin.allowed_capabilities),
            limits=specs.PluginLimits(plugin.limits.memory),
            vm_conf=plugin.vm_conf or b"",
            **{key: getattr(plugin, key) for key in _SAME_IN_SPEC},
        )

    @staticmethod
    def _file_problem(file: Path, digest: str | None, where: str) -> str | None:
        try:
            with file.open("rb") as stream:
                head = stream.read(8)
                content = head + stream.read() if digest else b""
        except OSError as error:
            return f"{where}: cannot be read ({error.strerror}): check the path"
        if head[:4] != _WASM_MAGIC:
            return f"{where}: is {'empty' if not head else 'no WebAssembly file'}: give the .wasm that the SDK built"
        if head[4:] == _COMPONENT_VERSION:
            return f"{where}: is a component; Proxy-Wasm plugins are core modules: build it without the component model"
        if digest and sha256(content).hexdigest() != digest:
            return f"{where}: its sha256 is {sha256(content).hexdigest()}, not the configured one: it is another file"
        return None

    def _routes(self) -> Iterable[specs.RouteSpec]:
        value, source = self._values.get("routes", ((), None))
        if source is None:
            return
        seen: set[tuple[object, ...]] = set()
        for label, entry in _entries(value, None):
            where = f"routes[{label}]" if isinstance(label, int) else f"routes.{label}"
            data = entry.model_dump(exclude_unset=True) if isinstance(entry, Route) else entry
            route = self._check(Route, data, where, {}, source)
            if route is None:
                continue
            for name in route.plugins:
                if name not in self._plugins:
                    self._blame(source, f"{where}.plugins.{name}", f"no plugin is called {name!r}")
            for uri in route.uri:
                key = (uri, tuple(sorted(route.hosts)), frozenset(route.methods))
                if key in seen:
                    self._blame(source, where, f"{uri!r} is routed twice for the same hosts and methods")
                seen.add(key)
                yield specs.RouteSpec(
                    uri=uri,
                    hosts=tuple(host.lower() for host in route.hosts),
                    methods=frozenset(method.upper() for method in route.methods),
                    plugins={name: plugin.conf for name, plugin in route.plugins.items()},
                )

    def _upstream(self, name: str) -> specs.UpstreamSpec | None:
        value, source = self._upstreams[name]
        data = value.model_dump() if isinstance(value, Upstream) else value
        upstream = self._check(Upstream, data, f"upstreams.{name}", {}, source)
        if upstream is None:
            return None
        verify = upstream.verify
        if isinstance(verify, Path):
            verify = source.folder / verify.expanduser()
            if not verify.is_file():
                self._blame(
                    source, f"upstreams.{name}.verify", "is no file: give true, false, or a file of certificates"
                )
        headers = tuple(upstream.headers.items())
        return specs.UpstreamSpec(name, **{**dict(upstream), "headers": headers, "verify": verify})

    def _top(self, values: dict[str, Any]) -> Settings | None:
        return self._check(Settings, values, "", {key: source for key, (_, source) in self._values.items()})

    def _model(self, model: type[_Model], key: str, default: Any) -> _Model | None:
        value, source = self._values.get(key, (default, None))
        if isinstance(value, model):
            return value
        return self._check(model, value, key, {}, source)

    # --- mistakes

    def _check(
        self,
        model: type[_Model],
        data: Any,
        where: str,
        source_of: Mapping[str, Source],
        default: Source | None = None,
    ) -> _Model | None:
        """The checked entry; None, with its mistakes written down, when something is wrong."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_context=False, include_input=False):
                self._write_down(model, detail["type"], detail["loc"], detail["msg"], where, source_of, default)
            return None

    def _write_down(
        self,
        model: type[BaseModel],
        kind: str,
        loc: tuple[int | str, ...],
        message: str,
        where: str,
        source_of: Mapping[str, Source],
        default: Source | None,
    ) -> None:
        source = source_of.get(str(loc[0]) if loc else "", default) or next(iter(source_of.values()), None)
        if kind == "extra_forbidden":
            known = list(model.model_fields) if len(loc) == 1 else []
            message, loc = names.unknown(str(loc[-1]), known) if known else f"unknown key {loc[-1]!r}", loc[:-1]
        elif kind == "missing":
            message = "is missing"
        key = ".".join([part for part in (where, *map(str, loc)) if part])
        text = message.removeprefix("Value error, ")
        self._blame(source, key, text[:1].lower() + text[1:] if text[:5] == "Input" else text)

    def _blame(self, source: Source | None, key: str, problem: str) -> None:
        self.mistakes.append(f"{source.name if source else 'settings'}: {key}: {problem}")


def _metrics_spec(metrics: Metrics) -> specs.MetricsSpec:
    rules = tuple(
        specs.TagRule(rule.tag, None if rule.regex is None else re.compile(rule.regex), rule.value)
        for rule in metrics.rules
    )
    return specs.MetricsSpec(metrics.enabled, rules, tuple(metrics.buckets))


_TOP_VALUES = ("engine", "cache_dir", "pause_timeout", "shared_data", "shared_metrics")
_SAME_IN_SPEC = (
    "priority",
    "conf",
    "root_id",
    "vm_id",
    "failure_policy",
    "allow_on_headers_stop_iteration",
    "sha256",
    "service",
)


def _loose(name: str) -> str:
    return name.lower().replace("-", "_")


def _entries(value: Any, name_key: str | None) -> list[tuple[int | str, Any]]:
    """The entries of a list, by index, or of a mapping by name."""
    if isinstance(value, Mapping):
        return [
            (name, {name_key: name, **item} if name_key and isinstance(item, Mapping) else item)
            for name, item in value.items()
        ]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return [(0, value)]
