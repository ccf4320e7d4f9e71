"""What the settings may say of routes. One that no request can match is a mistake: its plugin would run nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from asgi_wasm.settings import names
from asgi_wasm.settings.conf import Conf
from asgi_wasm.settings.entry import Entry, Flag, boolean, one_or_several
from asgi_wasm.settings.files import shown

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\]")
_METHOD = re.compile(r"[A-Za-z][A-Za-z_-]*")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_DOTS = re.compile(r"(?:^|/)\.\.?(?:/|\*?$)")

if TYPE_CHECKING:
    Words = list[str] | str
else:
    Words = Annotated[list[str], BeforeValidator(one_or_several)]


class RoutePlugin(Entry):
    """A plugin on a route; without ``conf`` it keeps its own. ``False`` in its place is ``enabled=False``."""

    conf: Conf = Field(default=None, repr=False)
    """The plugin's `conf` on this route; without it, its own."""
    enabled: Flag = True
    """`false`: the plugin does not run here, wherever else it does. `NAME: false` is the same."""

    @model_validator(mode="before")
    @classmethod
    def _only_enabled(cls, value: Any) -> Any:
        said = boolean(value)
        return {"enabled": said} if isinstance(said, bool) else value


class Route(Entry):
    """Requests that get their own plugins' ``conf``: an exact path or ``prefix/*``, some hosts, some methods."""

    uri: Words
    """`/exact`, `/folder/*` or `/beginning*`, or a list of them. The most specific route wins, and only that one."""
    hosts: Words = Field(default_factory=list)
    """Only these hosts, which may be `*.example.com`. Without it, all."""
    methods: Words = Field(default_factory=list)
    """Only these methods; `GET` is also `HEAD`, unless another route names that. Without it, all."""
    plugins: dict[str, RoutePlugin]
    """The plugins that run here, by name."""

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, value: Any) -> Any:
        return names.canonical(value, names.ROUTE) if isinstance(value, Mapping) else value

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, value: list[str]) -> list[str]:
        for uri in value:
            if (problem := _problem_of_uri(uri)) is not None:
                raise ValueError(f"{shown(uri)!r} {problem}")
        return value

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: list[str]) -> list[str]:
        for host in value:
            if not _HOST.fullmatch(host.lower()):
                raise ValueError(f"{shown(host)!r} {_problem_of_host(host)}")
        return value

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, value: list[str]) -> list[str]:
        for method in value:
            if not _METHOD.fullmatch(method):
                raise ValueError(f"{shown(method)!r} is no method: write them as a list, like [GET, POST]")
        return value


def _problem_of_uri(uri: str) -> str | None:
    if not uri.startswith("/") or "*" in uri[:-1]:
        return "is no route: begin it with '/', and put '*' at its end only"
    if not uri.isprintable():
        return "has characters that no path has"
    if "?" in uri or "#" in uri:
        return "has more than a path: leave query and fragment out"
    if _ENCODED.search(uri):
        return "is encoded: routes match the decoded path, so write its characters themselves"
    if _DOTS.search(uri) or "//" in uri or "\\" in uri:
        return "has dot segments, several slashes or backslashes: write the path that they lead to"
    return None


def _problem_of_host(host: str) -> str:
    if not host.isascii():
        try:
            return f"is no ASCII: write {host.encode('idna').decode()!r}, which is what clients send"
        except UnicodeError:
            return "is no host name"
    if "/" in host or re.search(r":\d*$", host):
        return "has more than a host: leave scheme, port and path out"
    if host.endswith("."):
        return "ends with a dot: leave it out; a request's is left out too"
    if "*" in host:
        return "has its '*' in an odd place: only '*.' at the front means any subdomain; leave hosts out for all"
    return "is no host name: write them as a list, like [example.com, '*.example.com']"
