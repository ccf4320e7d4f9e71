"""As what the frameworks behind us may read a request: its paths, hosts and methods.

An operator binds a guard to `/admin/*` and means whatever ends up at the app's handlers there. Frameworks differ in
what they make of the same bytes: Starlette takes `root_path` off, its patterns match before a last line feed and its
static files resolve dot segments; Flask drops leading slashes; Django upper-cases methods and takes the dot off a
host. So a request has several readings, and a route that matches by any of them counts (`worker.routing`).

Everything here is pure, and quick for the requests that everybody sends: they have one path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.messages.translate import own_host, request_path

if TYPE_CHECKING:
    from asgi_wasm.specs import PathSpec

# What some framework reads otherwise: no slash in front, two of them, dot segments, backslashes, a last line feed.
_UNUSUAL = re.compile(r"(?!/)|.*(?://|/\.|\\|\n\Z)", re.DOTALL)
# Each place where a mount may begin is a reading of its own; a path with more segments than this is no honest one.
MAX_SEGMENTS = 64


# Of a whole request: each is one more evaluation of a condition.
_MOST_TOGETHER = 64
_HEAD = "HEAD"


class TooManyReadingsError(Exception):
    """Raised for a path that is too odd to say what it may be read as: it falls under every route."""


def paths(scope: Mapping[str, Any], spec: PathSpec) -> tuple[tuple[str, ...], ...]:
    """Every path that a common framework may route this request by: those of each way to deal with `root_path`.

    The first of each is the path as it came. Raises `TooManyReadingsError`.
    """
    path, root = scope["path"], scope.get("root_path") or ""
    if not root and not _UNUSUAL.match(path):
        return ((path,),)
    return tuple(
        tuple(dict.fromkeys(spelled for mounted in way for spelled in _spellings(mounted, spec)))
        for way in _below_root(path, root)
    )


def _below_root(path: str, root: str) -> Iterator[tuple[str, ...]]:
    """ASGI: `path` holds `root_path`; not every server and mount does so.

    Starlette takes it off where it is there, Django also in the middle of a segment, Litestar with all that stands
    before it, and behind a proxy that has taken it off before us the whole path is both together. Which of these an app
    does is its own; where a client can have them differ, one way has the readings of both.
    """
    before, found, below = path.partition(root) if root else (path, "", "")
    if not found:
        yield (path,)
        if root:
            yield (_joined(root, path),)
    elif before:
        yield path, below
        yield _joined(root, path), _joined(root, below)
    else:
        yield (path,)
        yield (below,) if root.endswith("/") or below[:1] in ("", "/") else (below, path)


def _joined(root: str, path: str) -> str:
    return root.rstrip("/") + "/" + path.lstrip("/")


def _spellings(path: str, spec: PathSpec) -> Iterator[str]:
    if not path.startswith("/"):
        path = f"/{path}"
    yield path
    if path.endswith("\n"):
        # `$` matches before it, in Python's regular expressions.
        path = path[:-1]
        yield path
    if not _UNUSUAL.match(path):
        return
    yield "/" + path.lstrip("/")
    if spec.merge_slashes:
        yield _merged(path)
    if spec.normalize_path:
        for slashed in (path, path.replace("\\", "/")):
            yield from _resolved(slashed)
            yield from _resolved(_merged(slashed))


def _merged(path: str) -> str:
    return re.sub("/{2,}", "/", path)


def _resolved(path: str) -> Iterator[str]:
    """The path without dot segments (RFC 3986 5.2.4), wherever a mount may begin.

    Static files are looked up below their mount, whose own root no `..` leaves: `/static//../../private` is
    `/static/private` there. So each segment in turn stands for the mount's last.
    """
    segments = path.split("/")[1:]
    if not any(segment in (".", "..") for segment in segments):
        return
    if len(segments) > MAX_SEGMENTS:
        raise TooManyReadingsError
    for start in range(len(segments)):
        base = _without_dots(segments[:start])
        rest = _without_dots(segments[start:])
        yield "/" + "/".join([*base, *rest])


def _without_dots(segments: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    return kept


def hosts(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """Every host that the app may take the request to be for, in lower case, without port and last dot.

    That of each Host header; where there is none, or an empty one, the server's address, which is what plugins see as
    `:authority` and Django takes.
    """
    given = [value.decode("latin-1").strip().lower() for name, value in scope["headers"] if name.lower() == b"host"]
    if not any(given):
        server = scope.get("server")
        given.append("" if not server else str(server[0]).lower())
    found: dict[str, None] = {}
    for host in given:
        # Starlette cuts at the first colon, Django takes the port off, and neither cares what stands there.
        for name in (_without_port(host), host.partition(":")[0]):
            found[name.removesuffix(".")] = None
    return tuple(found)


def _without_port(host: str) -> str:
    """Brackets of an IPv6 address stay."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    name, colon, _ = host.rpartition(":")
    # Several colons without brackets are an address.
    return name if colon and ":" not in name else host


def method(scope: Mapping[str, Any]) -> str:
    """In upper case, as Django reads it. A WebSocket's handshake is a GET."""
    found: str = scope.get("method") or "GET"
    return found.upper()


def others(scope: Mapping[str, Any], spec: PathSpec) -> list[Mapping[str, Any]]:
    """As which other requests the app may read this one: scopes in which its path, host and method stand so.

    A condition sees the target and the host as the client has spelled them: `/%61dmin` is `/admin` to the app. Raises
    `TooManyReadingsError`.
    """
    own = dict(scope)
    targets = {request_path(own).partition(b"?")[0]: None}
    for way in paths(scope, spec):
        for path in way:
            # One that was escaped begins no query.
            targets[path.encode("utf-8", "surrogatepass").replace(b"?", b"%3F")] = None
    named = dict.fromkeys([own_host(own), *(name.encode("latin-1", "replace") for name in hosts(scope))])
    spelled, upper = scope.get("method") or "GET", method(scope)
    methods = dict.fromkeys((spelled, upper, "GET" if upper == _HEAD else upper))
    if len(targets) * len(named) * len(methods) > _MOST_TOGETHER:
        raise TooManyReadingsError
    rest = [field for field in scope["headers"] if field[0].lower() != b"host"]
    found: list[Mapping[str, Any]] = [
        {**scope, "raw_path": target, "method": name, "headers": rest if host is None else [(b"host", host), *rest]}
        for target, host, name in product(targets, named, methods)
    ]
    # The first is this one.
    return found[1:]
