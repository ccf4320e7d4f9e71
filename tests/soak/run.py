"""The run itself: an app behind four plugins in four languages, asked again and again in one process."""

from __future__ import annotations

import gc
import json
import os
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from tests.serving import ROOT

PLUGINS = ROOT / "plugins"
_HEADERS = json.dumps({"request": {"add": {"x-seen": "1"}}, "response": {"add": {"x-added": "1"}}})
_FAULT = json.dumps({"http_status": 418, "body": "told", "percentage": 100})
_ENTRIES: list[dict[str, Any]] = [
    {"name": "headers", "file": PLUGINS / "headers/rust.wasm", "conf": _HEADERS, "priority": 4},
    {"name": "counter", "file": PLUGINS / "counter/assemblyscript.wasm", "root_id": "counter", "priority": 3},
    {"name": "body", "file": PLUGINS / "body/c.wasm", "conf": "change", "priority": 2},
    # Only where a route says so: it answers every request.
    {"name": "fault", "file": PLUGINS / "fault_injection/go.wasm", "priority": 1},
]
_ROUTES = [{"uri": "/fault", "plugins": {"fault": {"conf": _FAULT}}}]
# So often what the process has is written down.
_SAMPLES = 100
# Of the samples, that belong to the beginning: caches and allocators fill.
_WARM = 0.3


@dataclass(frozen=True)
class Point:
    """What the process has after so many requests."""

    requests: int
    rss: int
    descriptors: int
    streams: int
    vms: int


@dataclass
class Samples:
    """What was seen, in order; the first point is that before any request."""

    points: list[Point] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def slope(self) -> float:
        """Bytes per 1,000 requests, by least squares over all but the beginning."""
        points = self.points[int(len(self.points) * _WARM) :]
        middle = sum(point.requests for point in points) / len(points)
        spread = sum((point.requests - middle) ** 2 for point in points)
        return 1000 * sum((point.requests - middle) * point.rss for point in points) / spread if spread else 0.0

    def faults(self) -> list[str]:
        """What is not back where it began, and answers that should not be."""
        first, last = self.points[0], self.points[-1]
        found = []
        if last.descriptors > first.descriptors:
            found.append(f"{last.descriptors} descriptors are open, and {first.descriptors} were")
        if last.streams:
            found.append(f"{last.streams} requests still have contexts")
        if last.vms != first.vms:
            found.append(f"{last.vms} VMs run, and {first.vms} did")
        if set(self.statuses) - {200, 418}:
            found.append(f"answers: {self.statuses}")
        return found


async def soak(requests: int, reload_every: int) -> Samples:
    """Ask so often, and reload at every ``reload_every``-th."""
    samples, began = Samples(), time.monotonic()
    every = max(1, requests // _SAMPLES)
    with TemporaryDirectory() as cache:
        app = WasmMiddleware(_app, settings={"plugins": _ENTRIES, "routes": _ROUTES, "cache_dir": cache})
        await _ask_all(app, requests, reload_every, every, samples, began)
    return samples


async def _ask_all(
    app: WasmMiddleware, requests: int, reload_every: int, every: int, samples: Samples, began: float
) -> None:
    async with app:
        # From here on code comes from the cache, whose files stay open.
        await app.reload()
        for number in range(requests + 1):
            if number % every == 0:
                samples.points.append(_point(app, number))
                if number % (10 * every) == 0:
                    _tell(samples.points[-1], time.monotonic() - began)
            if number and number % reload_every == 0:
                await app.reload()
            status = await _ask(app, number)
            samples.statuses[status] = samples.statuses.get(status, 0) + 1
        samples.points.append(_point(app, requests))


def _tell(point: Point, seconds: float) -> None:
    print(
        f"{point.requests:>9} requests, {seconds:6.0f} s, {point.rss / 2**20:7.1f} MiB,"
        f" {point.descriptors} descriptors, {point.vms} VMs",
        flush=True,
    )


def _point(app: WasmMiddleware, requests: int) -> Point:
    gc.collect()
    plugins = app.status().plugins
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    running = [plugin for plugin in plugins if plugin.memory is not None]
    streams = sum(plugin.streams for plugin in plugins)
    return Point(requests, rss, len(os.listdir("/proc/self/fd")), streams, len(running))


async def _ask(app: WasmMiddleware, number: int) -> int:
    """One request: mostly short ones, some with a body, some that a plugin answers, some whose client leaves."""
    path = "/fault" if number % 10 == 3 else "/"
    body = b"x" * 3000 if number % 10 == 7 else b""
    leaves = number % 100 == 50
    headers = [(b"host", b"soak"), (b"accept", b"*/*"), (b"x-number", b"%d" % number)]
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    statuses: list[int] = []
    incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif leaves:
            raise OSError("the client has left")

    try:
        await app(_scope(path, headers, "POST" if body else "GET"), receive, send)
    except OSError:
        if not leaves:
            raise
    return statuses[0]


def _scope(path: str, headers: list[tuple[bytes, bytes]], method: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    answer = b"%d" % len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer, "more_body": False})
