"""Which of a request's plugins run on it, by their conditions in CEL (``when``).

A condition is asked before any plugin: what plugins change is not seen. One that has no answer lets its plugin run, so
that no guard is left out by a mistake; so does one that holds for any reading of the request (`worker.readings`), so
that none is left out by a client who spells a path, a host or a method in another way.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.messages.translate import request_headers, request_path
from asgi_wasm.asgi.properties import ScopeAttributes
from asgi_wasm.cel import Expression
from asgi_wasm.host.abi import LogLevel, MapType
from asgi_wasm.worker import readings

if TYPE_CHECKING:
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.ports import Log
    from asgi_wasm.host.streams.header_map import HeaderMap
    from asgi_wasm.specs import PathSpec, PluginSpec

    Filters = tuple[Filter, ...]

_HEADERS = b"request", b"headers"
# What is not a field, or not the same field, in a header map.
_OTHERWISE = frozenset({b"host", b"cookie"})
# Who asks for what has several readings says one of these.
_READ_IN_WAYS = re.compile("path|method|host|authority")


_SHORT: Mapping[bytes, Callable[[Any], bytes | None]] = {
    b"method": lambda scope: scope.get("method", "GET").encode(),
    b"path": request_path,
    b"url_path": lambda scope: request_path(scope).partition(b"?")[0],
    b"query": lambda scope: scope.get("query_string") or b"",
}


class _Chance:
    """`random()` of one condition: the same for each reading of a request, or more of them would be more chances."""

    def __init__(self) -> None:
        self._drawn: list[float] = []
        self._asked = 0

    def __call__(self) -> float:
        self._asked += 1
        if self._asked > len(self._drawn):
            self._drawn.append(random.random())
        return self._drawn[self._asked - 1]

    def forget(self) -> None:
        """Another request comes."""
        self._drawn.clear()
        self._asked = 0

    def again(self) -> None:
        """Another reading of it."""
        self._asked = 0


class _Condition:
    """One plugin's."""

    def __init__(self, text: str) -> None:
        self._chance = _Chance()
        self._expression = Expression(text, is_condition=True, chance=self._chance)
        self._has_readings = _READ_IN_WAYS.search(text) is not None

    def holds(self, read: _Reader) -> bool:
        """For any reading. Raises ValueError, where it has no answer, and `readings.TooManyReadingsError`."""
        self._chance.forget()
        return self._expression.holds(read) or (self._has_readings and any(map(self._holds_too, read.otherwise())))

    def _holds_too(self, read: _Reader) -> bool:
        self._chance.again()
        return self._expression.holds(read)


class Conditions:
    """Those of one worker's plugins. False when there are none."""

    def __init__(self, specs: Sequence[PluginSpec], paths: PathSpec, log: Log | None) -> None:
        self._paths = paths
        self._known = {spec.name: _Condition(spec.when) for spec in specs if spec.when}
        self._log = log
        self._told: set[str] = set()
        # By the identity of what is narrowed, and which of its conditions hold; what is narrowed is kept alive.
        self._narrowed: dict[tuple[int, tuple[bool, ...]], tuple[Filters, Filters]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def narrow(self, filters: Filters, scope: Mapping[str, Any]) -> Filters:
        """The filters whose conditions hold for this request; the same answers give the same object."""
        read = _Reader(scope, self._paths)
        answers = tuple([self._holds(each.spec.name, read) for each in filters])
        key = id(filters), answers
        kept = self._narrowed.get(key)
        if kept is None:
            chosen = tuple(each for each, holds in zip(filters, answers, strict=True) if holds)
            kept = self._narrowed[key] = filters, filters if all(answers) else chosen
        return kept[1]

    def _holds(self, name: str, read: _Reader) -> bool:
        condition = self._known.get(name)
        if condition is None:
            return True
        try:
            return condition.holds(read)
        except readings.TooManyReadingsError:
            return True
        except (ValueError, RuntimeError) as error:
            if name not in self._told and self._log is not None:
                self._told.add(name)
                told = f"its condition has no answer for a request, on which it runs therefore (said once): {error}"
                self._log.host(name, LogLevel.WARN, told)
            return True


class _Reader:
    """The attributes of a request that no plugin has seen."""

    def __init__(self, scope: Mapping[str, Any], paths: PathSpec) -> None:
        self._scope, self._paths = scope, paths
        self._attributes: ScopeAttributes | None = None
        self._others: list[_Reader] | None = None

    def otherwise(self) -> list[_Reader]:
        """The same of the request as it may be read, too. Raises `readings.TooManyReadingsError`."""
        if self._others is None:
            self._others = [_Reader(scope, self._paths) for scope in readings.others(self._scope, self._paths)]
        return self._others

    def __call__(self, path: tuple[bytes, ...]) -> Any:
        """The attribute there (`asgi_wasm.cel.Read`); what is asked for most often is read from the scope itself."""
        if path[0] == b"request" and (short := _SHORT.get(path[1])) is not None:
            return short(self._scope)
        if len(path) == 3 and path[:2] == _HEADERS and path[2] not in _OTHERWISE and not path[2].startswith(b":"):
            values = [value for name, value in self._scope["headers"] if name == path[2]]
            return b",".join(values) if values else None
        if self._attributes is None:
            scope = {"method": "GET", **self._scope}
            self._attributes = attributes = ScopeAttributes(scope)
            head: Any = _Head(request_headers(scope))
            attributes.chain = head
        value = self._attributes.get(path)
        return value.encode() if isinstance(value, str) else value


class _Head:
    """What attributes ask of a chain."""

    def __init__(self, headers: HeaderMap) -> None:
        self._headers = headers

    def logged_map(self, map_type: MapType) -> HeaderMap | None:
        """The request's own headers."""
        return self._headers if map_type is MapType.HTTP_REQUEST_HEADERS else None
