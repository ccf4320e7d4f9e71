"""Which plugins run on a request, and with which configuration.

As in APISIX, a request belongs to one route: the most specific that matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asgi_wasm.host.plugin import BrokenPlugin, Filter, Plugin
from asgi_wasm.specs import RouteSpec

Filters = tuple[Filter, ...]


@dataclass(frozen=True)
class _Route:
    spec: RouteSpec
    filters: Filters

    @property
    def specificity(self) -> tuple[bool, int, bool, bool]:
        """Greater is more specific: an exact path, then the longer prefix, then hosts, then methods."""
        uri = self.spec.uri
        return not uri.endswith("*"), len(uri), bool(self.spec.hosts), bool(self.spec.methods)

    def matches(self, method: str, host: str, path: str) -> bool:
        uri = self.spec.uri
        if not (path.startswith(uri[:-1]) if uri.endswith("*") else path == uri):
            return False
        if self.spec.methods and method not in self.spec.methods:
            return False
        return not self.spec.hosts or any(_host_matches(pattern, host) for pattern in self.spec.hosts)


def _host_matches(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


class Router:
    """Finds the filters of a request. ``plugins`` are in the order of the plugin list."""

    def __init__(self, plugins: Sequence[Plugin | BrokenPlugin], routes: Sequence[RouteSpec]) -> None:
        # Descending priority on the request; `sorted` is stable, so equal priorities keep the list's order.
        ordered = sorted((plugin for plugin in plugins if not plugin.spec.service), key=lambda p: -p.spec.priority)
        routed = {name for route in routes for name in route.plugins}
        self.default: Filters = self._filters(ordered, {}, routed)
        made = [_Route(route, self._filters(ordered, route.plugins, routed)) for route in routes]
        self._routes = sorted(made, key=lambda route: route.specificity, reverse=True)

    @staticmethod
    def _filters(
        plugins: Sequence[Plugin | BrokenPlugin], confs: Mapping[str, bytes | None], routed: set[str]
    ) -> Filters:
        """The filters for a route's ``confs``.

        A plugin without a conf of its own that some route names runs on the routes that name it, and only there.
        """
        filters = []
        for plugin in plugins:
            name, own = plugin.spec.name, plugin.spec.conf
            if own is None and name in routed and name not in confs:
                continue
            conf = confs.get(name)
            filters.append(Filter(plugin, own or b"" if conf is None else conf))
        return tuple(filters)

    def filters(self, method: str, host: str, path: str) -> Filters:
        """The filters of one request. ``host`` is without port, in lower case."""
        for route in self._routes:
            if route.matches(method, host, path):
                return route.filters
        return self.default

    @property
    def has_routes(self) -> bool:
        """Whether there is anything to match."""
        return bool(self._routes)

    def every_filter(self) -> list[Filter]:
        """Each (plugin, conf) once, in the order in which they are to be started."""
        found: dict[Filter, None] = dict.fromkeys(self.default)
        for route in self._routes:
            found.update(dict.fromkeys(route.filters))
        return list(found)
