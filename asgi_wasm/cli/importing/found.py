"""What was read so far, and what could not be carried over."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgi_wasm.fetching.names import is_remote, parse

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Found:
    """Settings of ours, and what was left behind.

    ``from_apisix`` names plugins that run where a route says so, and ``disabled`` those of which something there says
    that they do not run; ``phases`` has the rank of Istio's phase by plugin.
    """

    plugins: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    upstreams: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    from_apisix: list[str] = field(default_factory=list)
    disabled: set[str] = field(default_factory=set)
    phases: dict[str, int] = field(default_factory=dict)

    def add(self, entry: dict[str, Any]) -> str:
        """A plugin, under a name that is free; the name."""
        name = _NOT_A_NAME.sub("-", str(entry.get("name") or "plugin")).strip("-") or "plugin"
        taken = {plugin["name"] for plugin in self.plugins}
        free = next(each for each in (name, *(f"{name}-{n}" for n in range(2, 10_000))) if each not in taken)
        given = {key: value for key, value in entry.items() if key != "name" and value not in (None, "", {})}
        self.plugins.append({"name": free, **given})
        return free

    def keep_off(self, match: Mapping[str, Any], plugins: Collection[str]) -> None:
        """Let these plugins not run on a route that matches so, of which more may have been said."""
        known = (route for route in self.routes if match == {key: route[key] for key in route if key != "plugins"})
        route = next(known, None)
        if route is None:
            route = {**match, "plugins": {}}
            self.routes.append(route)
        route["plugins"].update(dict.fromkeys(plugins, False))

    def tell(self, sentence: str) -> None:
        """Say what was left behind."""
        self.left.append(sentence)

    def tell_others(self, what: str, given: Mapping[str, Any], known: Collection[str]) -> None:
        """Say which keys are not known; ``what`` is whose they are, and a prefix of them."""
        for key in sorted({str(key) for key in given} - set(known)):
            self.tell(f"{what}{key} has no counterpart here")

    def remote(self, url: str, sha256: str | None, name: Any) -> str:
        """The URL, where it is one that is fetched here; else a file that is to be put in its place."""
        problem = ""
        if is_remote(url):
            try:
                parse(url, sha256)
            except ValueError as error:
                problem = f", which {error}"
            else:
                return url
        where = url or "not named, or stands inline"
        instead = f"the settings have {name}.wasm in its place: store it so, or give another file"
        self.tell(f"plugin {name!r}: its code is {where}{problem}; {instead}")
        return f"{name}.wasm"
