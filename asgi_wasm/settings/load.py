"""Read the sources, merge and check them, and give the host its specs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from asgi_wasm import bundled, specs
from asgi_wasm import limits as bounds
from asgi_wasm.cel import MISSING, CelMissingError, Expression, WrongExpressionError
from asgi_wasm.errors import SettingsError
from asgi_wasm.fetching import names as fetched
from asgi_wasm.settings import names
from asgi_wasm.settings.files import shown
from asgi_wasm.settings.limits import Limits, limits_of
from asgi_wasm.settings.merge import Merged, as_mapping, entries
from asgi_wasm.settings.metrics import Metrics
from asgi_wasm.settings.mistakes import Mistakes
from asgi_wasm.settings.models import LEVELS, Plugin, Settings
from asgi_wasm.settings.routes import Route
from asgi_wasm.settings.sources import Source, read_all
from asgi_wasm.settings.store_url import parse_store_url
from asgi_wasm.settings.upstreams import Upstream

_NO_DEFAULT = object()
_Model = TypeVar("_Model", bound=BaseModel)


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
    source and key. A plugin's file is not looked at: one that is missing or no Wasm lets the other plugins run.
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
    return _Reader([arguments, *_sources(settings)]).host_spec()


def _sources(settings: Settings | Mapping[str, Any] | str | Path | None) -> Iterable[Source]:
    if settings is None:
        return read_all()
    if isinstance(settings, (str, Path)):
        return read_all(Path(settings))
    data = as_mapping(settings)
    if data is None:
        raise SettingsError("argument settings: must be a Settings, a mapping, or the path of a file")
    return [Source("argument settings", data, Path.cwd())]


class _Reader:
    """From what the sources say to specs; mistakes are collected."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._mistakes = Mistakes()
        self._files = tuple(source.file for source in sources if source.file is not None)
        self._merged = Merged(sources, self._mistakes)
        self._blame = self._mistakes.blame
        # Plugins that the settings have, and say not to run.
        self._off: frozenset[str] = frozenset()

    def host_spec(self) -> specs.HostSpec:
        """Everything checked. Raises `SettingsError`."""
        merged = self._merged
        limits = self._check(Limits, merged.limits, "limits")
        common = limits or Limits()
        plugins = tuple(spec for name in merged.plugins if (spec := self._plugin(name, common)) is not None)
        routes, denies = self._routes()
        upstreams = tuple(found for name in merged.upstreams if (found := self._upstream(name)) is not None)
        metrics = self._check(Metrics, {"enabled": (False, None), **merged.metrics}, "metrics")
        top = self._check(Settings, {key: said for key, said in merged.values.items() if key != "routes"}, "")
        self._mistakes.check_none()
        off = frozenset(merged.plugins) if top is not None and not top.enabled else self._off
        if off:
            plugins = tuple(spec for spec in plugins if spec.name not in off)
            routes = tuple(_without(off, route) for route in routes)
        assert limits is not None and metrics is not None and top is not None, "what is missing is a mistake"
        store = parse_store_url(top.shared_data)
        return specs.HostSpec(
            plugins=plugins,
            routes=routes,
            deny_unrouted=denies and top.enabled,
            off=tuple(sorted(off)),
            paths=_paths(top) if top.enabled else specs.DEFAULT_PATHS,
            upstreams=upstreams,
            resident=top.resident == "auto",
            accelerator=specs.Wish(top.accelerator),
            limits=limits_of(bounds.StreamLimits, limits),
            call_response_limit=limits.call_response or bounds.DEFAULT_CALL_RESPONSE_LIMIT,
            stack_limit=limits.stack or bounds.DEFAULT_STACK_LIMIT,
            metrics=_metrics_spec(metrics),
            store=replace(store, metrics=top.shared_metrics, limits=limits_of(bounds.StoreLimits, limits)),
            sources=self._files,
            **{key: getattr(top, key) for key in _SAME_IN_SPEC},
        )

    def _plugin(self, name: str, common: Limits) -> specs.PluginSpec | None:
        fields = self._merged.plugins[name]
        if "file" not in fields and (meant := self._merged.meant(name)) is not None:
            self._blame(fields["name"][1], f"plugins.{name}", f"has no file; did you mean the plugin {meant!r}?")
            return None
        plugin = self._check(Plugin, fields, f"plugins.{name}")
        if plugin is None:
            return None
        named_by = fields["file"][1]
        if plugin.when and (problem := _no_condition(plugin)):
            self._blame(fields["when"][1], f"plugins.{name}.when", problem)
        said = dict(plugin)
        if not said.pop("enabled"):
            self._off |= {name}
        said.update(
            {
                "name": name,
                **self._file(named_by, f"plugins.{name}.file", plugin),
                "env": tuple(plugin.env.items()),
                "allowed_capabilities": frozenset(plugin.allowed_capabilities),
                "limits": limits_of(bounds.PluginLimits, common, plugin.limits),
                "mode": specs.Mode(plugin.mode),
                "vm_conf": plugin.vm_conf or b"",
                "log_level": LEVELS.index(plugin.log_level),
                "reload_interval": said.pop("reload_config").backoff.base_interval,
                "named_by": f"{named_by.name}: plugins.{name}.file",
            }
        )
        return specs.PluginSpec(**said)

    def _routes(self) -> tuple[tuple[specs.RouteSpec, ...], bool]:
        """The routes, and whether what none of them names is refused (`default: deny`)."""
        if "routes" not in self._merged.values:
            return (), False
        value, source = self._merged.values["routes"]
        found: dict[tuple[object, ...], specs.RouteSpec] = {}
        denies = False
        for label, entry in entries(value, None):
            where = f"routes[{label}]" if isinstance(label, int) else f"routes.{label}"
            if (default := _default_of(label, entry)) is not _NO_DEFAULT:
                denies = default == "deny"
                if default not in ("allow", "deny"):
                    self._blame(source, where, "what no route names has the default 'allow' or 'deny'")
                continue
            for spec in self._route(where, entry, source):
                key = spec.uri, frozenset(spec.hosts), spec.methods
                if key in found:
                    self._blame(source, where, f"{spec.uri!r} is routed twice for the same hosts and methods")
                found[key] = spec
        return tuple(found.values()), denies

    def _route(self, where: str, entry: Any, source: Source) -> Iterable[specs.RouteSpec]:
        route = self._mistakes.check(Route, as_mapping(entry) or entry, where, {}, source)
        if route is None:
            return
        for name in route.plugins:
            if name not in self._merged.plugins:
                self._blame(source, f"{where}.plugins.{name}", names.no_plugin(name, [*self._merged.plugins]))
        for uri in route.uri:
            yield specs.RouteSpec(
                uri=uri,
                hosts=tuple(host.lower() for host in route.hosts),
                methods=frozenset(method.upper() for method in route.methods),
                plugins={name: plugin.conf for name, plugin in route.plugins.items() if plugin.enabled},
                off=frozenset(name for name, plugin in route.plugins.items() if not plugin.enabled),
            )

    def _file(self, source: Source, key: str, plugin: Plugin) -> dict[str, Any]:
        """The plugin's file, and the SHA-256 that its bytes must have."""
        if not fetched.is_remote(plugin.file):
            named = str(plugin.file) if bundled.is_bundled(plugin.file) else ""
            return {"file": self._path(source, key, plugin.file), "sha256": plugin.sha256, "file_named": named}
        try:
            # It is checked where it is fetched; that of an image is of its manifest.
            return {"file": fetched.parse(str(plugin.file), plugin.sha256), "sha256": None}
        except ValueError as error:
            self._blame(source, key, str(error))
            return {"file": Path()}

    def _path(self, source: Source, key: str, path: str | Path) -> Path:
        """Relative to the source that names it; with the home directory for ``~``; or a plugin of the package's."""
        if bundled.is_bundled(path):
            try:
                return bundled.find(path)
            except ValueError as error:
                self._blame(source, key, str(error))
                return Path(path)
        try:
            return source.folder / Path(path).expanduser()
        except RuntimeError:
            self._blame(source, key, "begins with '~', and nobody of that name has a home here")
            return Path(path)

    def _upstream(self, name: str) -> specs.UpstreamSpec | None:
        fields = self._merged.upstreams[name]
        upstream = self._check(Upstream, fields, f"upstreams.{name}")
        if upstream is None:
            return None
        verify = upstream.verify
        if isinstance(verify, Path):
            source = fields["verify"][1]
            verify = self._path(source, f"upstreams.{name}.verify", verify)
            if not _is_file(verify):
                self._blame(
                    source, f"upstreams.{name}.verify", "is no file: give true, false, or a file of certificates"
                )
        headers = tuple(upstream.headers.items())
        return specs.UpstreamSpec(name, **{**dict(upstream), "headers": headers, "verify": verify})

    def _check(self, model: type[_Model], fields: Mapping[str, tuple[Any, Source | None]], where: str) -> _Model | None:
        values = {key: value for key, (value, _) in fields.items()}
        source_of = {key: source for key, (_, source) in fields.items() if source is not None}
        return self._mistakes.check(model, values, where, source_of)


def _without(names_off: frozenset[str], route: specs.RouteSpec) -> specs.RouteSpec:
    plugins = {name: conf for name, conf in route.plugins.items() if name not in names_off}
    return replace(route, plugins=plugins, off=route.off - names_off)


def _default_of(label: int | str, entry: Any) -> object:
    """What an entry of the routes says of those that none names: `default: deny`; `_NO_DEFAULT` when it is a route."""
    if label == "default" and not isinstance(entry, (Mapping, BaseModel)):
        return entry
    if isinstance(label, int) and isinstance(entry, Mapping) and set(entry) == {"default"}:
        return entry["default"]
    return _NO_DEFAULT


def _no_condition(plugin: Plugin) -> str | None:
    """What is wrong with a plugin's condition, if anything."""
    if plugin.service:
        return "is for requests, of which a service has none"
    try:
        Expression(plugin.when, is_condition=True)
    except WrongExpressionError as error:
        return f"is no condition: {shown(error)}"
    except CelMissingError:
        return MISSING
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # A name that is too long, or has a NUL.
        return False


def _paths(top: Settings) -> specs.PathSpec:
    slashes = specs.EscapedSlashes(top.path_with_escaped_slashes_action)
    return specs.PathSpec(top.normalize_path, top.merge_slashes, slashes)


def _metrics_spec(metrics: Metrics) -> specs.MetricsSpec:
    rules = tuple(
        specs.TagRule(rule.tag, None if rule.regex is None else re.compile(rule.regex), rule.value)
        for rule in metrics.rules
    )
    opentelemetry = metrics.exporter == "opentelemetry"
    return specs.MetricsSpec(metrics.enabled, opentelemetry, rules, tuple(metrics.buckets), metrics.per_plugin)


# What needs no translation.
_SAME_IN_SPEC = (
    "engine",
    "wasmer_library",
    "cache_dir",
    "cache_limit",
    "fetch_timeout",
    "pause_timeout",
    "watch",
    "drain_timeout",
    "trace_requests",
    "opentelemetry",
)
