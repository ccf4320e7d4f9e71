"""What all requests to one app through one chain of filters share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asgi_wasm.asgi.lane.answers import Answers
from asgi_wasm.host.plan import Plan

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.environment import Environment
    from asgi_wasm.host.plugin import Filter


class Service:
    """An app, the filters before it, and the plan of what its requests need."""

    def __init__(self, environment: Environment, filters: Sequence[Filter]) -> None:
        self.environment = environment
        self.app = environment.app
        self.filters = filters
        self.plan = Plan.of(filters)
        self.answers = Answers()
