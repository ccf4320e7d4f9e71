"""How a difference from Envoy is told of: its row in the table, and the cases that it covers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.cases import APP_FIELDS
from tests.conformance.plugin_chains import DEFAULTS, H11


@dataclass(frozen=True)
class Cover:
    """Cases, as patterns of their ids separated by spaces, and the fields in which they differ.

    ``as_here`` makes of Envoy's value what it must be here; without it any other value will do. ``chance``: they may
    also be equal, by when bytes arrive.
    """

    cases: str
    fields: str
    as_here: Callable[[Any], Any] | None = None
    chance: bool = False


@dataclass(frozen=True)
class Difference:
    """One row of `ENVOY.md`'s table."""

    what: str
    envoy: str
    here: str
    why: str
    covers: tuple[Cover, ...]
    # The test of `test_plugins` that shows it, where no case can.
    test: str = ""


def headers_as(change: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]) -> Callable[[Any], Any]:
    """The headers of each message, changed."""
    return lambda messages: [change(headers) for headers in messages]


def without(*dropped: tuple[str, str]) -> Callable[[Any], Any]:
    return headers_as(lambda headers: [header for header in headers if header not in dropped])


def with_value(name: str, old: str, new: str) -> Callable[[Any], Any]:
    """Headers in which one value, and what the plugin `headers` copies of it, is another one."""
    names = (name, "x-seen-path" if name == "path" else "x-seen-authority")

    def change(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(key, new if key in names and value == old else value) for key, value in headers]

    return headers_as(change)


def with_space(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, "a  b \t " if name == "x-space" else value) for name, value in headers]


def with_sum(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    at = headers.index(("trailer", "x-sum")) + 1
    counted = [(name, str(int(value) + 1) if name == "x-seen-count" else value) for name, value in headers]
    return [*counted[:at], ("x-sum", "7"), *counted[at:]]


APP = " ".join(f"app.{name}" for name in APP_FIELDS)
ON_HTTPTOOLS = " ".join(chain.name for chain in DEFAULTS)
# Chains whose plugins change the headers of requests, which are then written anew.
CHANGED = ("headers", "body", "body-buffer", "http-auth")
UNCHANGED = " ".join(chain.name for chain in DEFAULTS if chain.name not in CHANGED)
ON_H11 = " ".join(chain.name for chain in H11)
EVERY = f"{ON_HTTPTOOLS} {ON_H11}"
# Chains whose plugins log their callbacks, write headers into responses, or change bodies.
LIFECYCLES = "lifecycle-010 lifecycle-020 lifecycle-021"
LOGGING = f"{LIFECYCLES} lifecycle-h11 local-reply"
WRITING = "headers headers-h11 counter root-id"
BODIES = "body body-buffer body-h11"
CHANGING = (
    "body-prepend body-replace body-upper body-append two-bodies append-upper upper-append buffer-upper upper-buffer "
    "two-buffers"
)
PAUSING = "pause-first pause-before-buffer buffer-before-pause auth-then-body"
# Cases whose small body is there when the app is called; others whose response has a length of the app's.
SMALL = (
    *("post", "put", "patch", "delete-with-body", "get-with-body", "options-with-body", "propfind"),
    *("body-binary", "status-201", "response-early", "keep-alive", "burst-100"),
)
ANSWERED = (
    *("body-70kB", "body-5MB", "body-chunked", "body-chunked-one", "body-chunked-empty", "body-chunked-70kB"),
    *("body-chunked-with-get", "body-chunked-extension", "body-chunked-trailers", "body-in-two-sends", "body-streamed"),
    *("expect-100", "status-404", "status-500", "status-299", "response-headers", "response-latin-1", "response-type"),
    *("response-70kB", "response-5MB", "pipelined"),
)
# Plugins that export a callback for response bodies, and do not change the content-length before; SDKs export it.
HOLDING = f"headers headers-h11 counter queue root-id trailers http-auth fault-rust fault-go {LOGGING}"
HOLDING += " fault-assemblyscript"


def each(chains: str, *names: str) -> str:
    return " ".join(f"{chain}/{name}" for chain in chains.split() for name in names)


NO_LENGTH = without(("content-length", "0"))
