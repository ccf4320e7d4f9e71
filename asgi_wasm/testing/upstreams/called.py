"""Requests that plugins send to upstreams, and patterns of them."""

from __future__ import annotations

import json as json_module
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers

from asgi_wasm.services.traces import text as rendering
from asgi_wasm.testing.exchange import NOT_GIVEN


@dataclass
class CalledRequest:
    """A request that a plugin sent to an upstream."""

    method: str
    target: str
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json_module.loads(self.body)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        """The target's query, decoded."""
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def head(self) -> str:
        """Method, target and headers as text."""
        return rendering.head(f"{self.method} {self.target}", self.headers.raw)


@dataclass(frozen=True)
class Pattern:
    """Which requests are meant: every part that is given must fit."""

    method: str | None = None
    target: str | re.Pattern[str] | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    json: Any = NOT_GIVEN
    where: Callable[[CalledRequest], bool] | None = None

    def __str__(self) -> str:
        """As far as it is given."""
        parts = [self.method or "", "" if self.target is None else str(getattr(self.target, "pattern", self.target))]
        fields = {"headers": dict(self.headers), "query": self.query, "body": self.body, "where": self.where}
        parts += [f"{name}={value!r}" for name, value in fields.items() if value]
        if self.json is not NOT_GIVEN:
            parts.append(f"json={self.json!r}")
        return " ".join(filter(None, parts)) or "anything"

    def matches(self, request: CalledRequest) -> bool:
        """Whether it is one of them."""
        if self.method is not None and self.method != request.method:
            return False
        if isinstance(self.target, re.Pattern):
            if self.target.fullmatch(request.target) is None:
                return False
        elif self.target is not None and self.target not in (request.target, request.path):
            return False
        if any(pair not in request.headers.raw for pair in self.headers):
            return False
        if any(value not in request.query.get(name, ()) for name, value in self.query.items()):
            return False
        if self.body is not None and self.body != request.body:
            return False
        return self._has_json(request) and (self.where is None or self.where(request))

    def _has_json(self, request: CalledRequest) -> bool:
        if self.json is NOT_GIVEN:
            return True
        try:
            return bool(request.json() == self.json)
        except ValueError:
            return False
