"""Which plugins run on a request, and with which configuration.

As in APISIX, a request belongs to one route: the most specific that matches. Where it may be read in several ways
(`worker.readings`), the plugins of each reading's route run: a route never fails open because a framework reads a
request otherwise than we do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asgi_wasm.host.plugin import BrokenPlugin, Filter, Plugin
from asgi_wasm.host.ports import Log
from asgi_wasm.specs import DEFAULT_PATHS, HostSpec, PathSpec, RouteSpec
from asgi_wasm.worker import readings
from asgi_wasm.worker.conditions import Conditions

Filters = tuple[Filter, ...]
# Combinations of routes that odd requests may fall under; beyond that many each falls under all routes.
_MAX_UNIONS = 256
# Stands among routes for what runs where none is met.
_NO_ROUTE = -1


def of_none(spec: HostSpec) -> str | None:
    """What is to be told of plugins that nobody will see at work, or None."""
    if spec.off:
        return f"off, because the settings say enabled: false: {', '.join(spec.off)}"
    if not spec.plugins:
        # A file in another folder than the server's would otherwise go unnoticed, and its plugins with it.
        return (
            f"no plugin is configured: neither arguments nor environment name one, nor a settings file in {Path.cwd()}"
        )
    return None


@dataclass(frozen=True)
class _Route:
    index: int
    spec: RouteSpec
    methods: frozenset[str]

    @property
    def specificity(self) -> tuple[bool, int, bool, bool]:
        """Greater is more specific: an exact path, then the longer prefix, then hosts, then methods."""
        uri = self.spec.uri
        return not uri.endswith("*"), len(uri), bool(self.spec.hosts), bool(self.spec.methods)

    def takes(self, host: str, method: str) -> bool:
        """Whether it is for this host and this method."""
        if self.methods and method not in self.methods:
            return False
        return not self.spec.hosts or any(_host_matches(pattern, host) for pattern in self.spec.hosts)


def _host_matches(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


class _Table:
    """Finds routes by path, the most specific first."""

    def __init__(self, specs: Sequence[RouteSpec]) -> None:
        # Frameworks answer HEAD by the handler of GET, so a route for GET is one for HEAD, unless another names it.
        heads = {(spec.uri, spec.hosts) for spec in specs if "HEAD" in spec.methods}
        routes = [
            _Route(index, spec, spec.methods | {"HEAD"} if self._answers_head(spec, heads) else spec.methods)
            for index, spec in enumerate(specs)
        ]
        routes.sort(key=lambda route: route.specificity, reverse=True)
        self._exact: defaultdict[str, list[_Route]] = defaultdict(list)
        self._below: defaultdict[str, list[_Route]] = defaultdict(list)
        for route in routes:
            uri = route.spec.uri
            (self._below[uri[:-1]] if uri.endswith("*") else self._exact[uri]).append(route)

    @staticmethod
    def _answers_head(spec: RouteSpec, heads: set[tuple[str, tuple[str, ...]]]) -> bool:
        return "GET" in spec.methods and (spec.uri, spec.hosts) not in heads

    def matches(self, path: str, host: str, method: str) -> Iterator[int]:
        """The route of this reading, or `_NO_ROUTE`; and those of a last slash more or less, unless it is named itself.

        Some frameworks (Litestar, Flask by a setting) answer `/admin/` and `/admin` alike: so `/admin/*` is about
        both, as is `/admin`.
        """
        for route in self._exact.get(path, ()):
            if route.takes(host, method):
                yield route.index
                return
        found = _NO_ROUTE
        for prefix, routes in self._below.items():
            if path.startswith(prefix) and (found := _first(routes, host, method)) != _NO_ROUTE:
                break
        yield found
        bare = path.rstrip("/")
        for other in (self._exact.get(bare), self._exact.get(bare + "/"), self._below.get(path + "/")):
            if other and (found := _first(other, host, method)) != _NO_ROUTE:
                yield found


def _first(routes: Sequence[_Route], host: str, method: str) -> int:
    return next((route.index for route in routes if route.takes(host, method)), _NO_ROUTE)


class Router:
    """Finds the filters of a request. ``plugins`` are in the order of the plugin list."""

    def __init__(
        self,
        plugins: Sequence[Plugin | BrokenPlugin],
        routes: Sequence[RouteSpec],
        paths: PathSpec = DEFAULT_PATHS,
        *,
        denies: bool = False,
        log: Log | None = None,
    ) -> None:
        """``denies``: what no route names is refused. ``log`` hears of conditions that have no answer."""
        # Descending priority on the request; `sorted` is stable, so equal priorities keep the list's order.
        self._ordered = sorted(
            (plugin for plugin in plugins if not plugin.spec.service), key=lambda p: -p.spec.priority
        )
        routed = {name for route in routes for name in route.plugins}
        self._default: Filters = self._filters(RouteSpec("/*"), routed)
        self._routes = [self._filters(route, routed) for route in routes]
        self._keep_off = frozenset(index for index, route in enumerate(routes) if route.off)
        self._table = _Table(routes)
        self._paths = paths
        self._denies = denies
        self._asks_hosts = any(route.hosts for route in routes)
        # By the routes that a request falls under. One route's are its own filters.
        self._unions: dict[frozenset[int], Filters] = {
            frozenset([index]): filters for index, filters in enumerate(self._routes)
        }
        self._everything = self._union(frozenset(range(_NO_ROUTE if self._keep_off else 0, len(routes))))
        self._conditions = Conditions([plugin.spec for plugin in self._ordered], paths, log)

    @property
    def sole(self) -> Filters | None:
        """The filters of every request; None where routes tell them apart."""
        return None if self._routes or self._denies or self._conditions else self._default

    def _filters(self, route: RouteSpec, routed: set[str]) -> Filters:
        """The filters of a route.

        A plugin without a conf of its own that some route names runs on the routes that name it, and only there.
        """
        filters = []
        for plugin in self._ordered:
            name, own = plugin.spec.name, plugin.spec.conf
            if name in route.off or (own is None and name in routed and name not in route.plugins):
                continue
            conf = route.plugins.get(name)
            filters.append(Filter(plugin, own or b"" if conf is None else conf))
        return tuple(filters)

    def filters(self, scope: Mapping[str, Any]) -> Filters | None:
        """The filters of one request, or None when it is to be refused.

        The same routes, and answers of conditions, give the same object, so that what is made of it can be kept.
        """
        filters = self._routed(scope)
        return self._conditions.narrow(filters, scope) if self._conditions and filters else filters

    def _routed(self, scope: Mapping[str, Any]) -> Filters | None:
        if not self._routes:
            return None if self._denies else self._default
        try:
            groups = readings.paths(scope, self._paths)
        except readings.TooManyReadingsError:
            return None if self._denies else self._everything
        method = readings.method(scope)
        hosts = readings.hosts(scope) if self._asks_hosts else ("",)
        found: set[int] = set()
        is_named = is_itself_named = False
        for paths in groups:
            are_named = are_themselves = True
            for path in paths:
                for host in hosts:
                    own, *beside = self._table.matches(path, host, method)
                    found.add(own)
                    found.update(beside)
                    if own == _NO_ROUTE:
                        are_themselves, are_named = False, are_named and bool(beside)
            is_named, is_itself_named = is_named or are_named, is_itself_named or are_themselves
        if self._denies and not is_named:
            return None
        found.discard(_NO_ROUTE)
        if not found:
            return self._default
        if not is_itself_named and not self._keep_off.isdisjoint(found):
            # `/open/../private`, and `/open/` beside `/open`: a route that keeps a guard off counts only where each
            # reading falls under some route.
            found.add(_NO_ROUTE)
        return self._union(frozenset(found))

    def _union(self, routes: frozenset[int]) -> Filters:
        """The filters of several routes, each once, in the order of the plugins."""
        known = self._unions.get(routes)
        if known is not None:
            return known
        if len(self._unions) > _MAX_UNIONS + len(self._routes):
            return self._everything
        groups = (self._default if index == _NO_ROUTE else self._routes[index] for index in sorted(routes))
        each = dict.fromkeys(item for group in groups for item in group)
        place = {id(plugin): index for index, plugin in enumerate(self._ordered)}
        made = self._unions[routes] = tuple(sorted(each, key=lambda item: place[id(item.plugin)]))
        return made

    def every_filter(self) -> list[Filter]:
        """Each (plugin, conf) once, in the order in which they are to be started."""
        found: dict[Filter, None] = dict.fromkeys(self._default)
        for filters in self._routes:
            found.update(dict.fromkeys(filters))
        return list(found)
