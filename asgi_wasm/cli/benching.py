"""``asgi-wasm bench``: what a plugin costs on this machine, in process: no server and no network is measured."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from asgi_wasm.asgi.types import ASGIApp, Message, Receive, Scope, Send
from asgi_wasm.cli import console, given, progress
from asgi_wasm.cli.plugin_files import plugin_file, plugin_name, told_as_typed
from asgi_wasm.cli.progress import Done
from asgi_wasm.engines import create_engine
from asgi_wasm.host.vm.trace import Call
from asgi_wasm.middleware import WasmMiddleware
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing.exchange import encoded, scope_of
from asgi_wasm.testing.plugin import WasmPlugin
from asgi_wasm.worker.plugin_file import read_plugin_file

# Requests of the run that counts calls; enough for a median.
_TRACED = 200
# Each round lasts about so long, in seconds; the best of them counts, since everything else only adds.
_ROUNDS, _ROUND_SECONDS = 7, 0.15
# What a progress bar counts: calls, the start, each round without and with the plugin.
_STEPS = 2 + 2 * _ROUNDS
_QUIET = ("malloc", "proxy_on_memory_allocate")


@dataclass(frozen=True)
class CallCost:
    """One callback or hostcall of a request: how often, and the median of what it took, which the trace adds to."""

    name: str
    callback: bool
    per_request: float
    traced_microseconds: float


@dataclass
class Costs:
    """Microseconds, milliseconds and bytes, as the names say."""

    file: str
    status: int = 0
    compile_milliseconds: float = 0.0
    start_milliseconds: float = 0.0
    memory_at_start: int = 0
    memory_after: int = 0
    bare_microseconds: float = 0.0
    with_plugin_microseconds: float = 0.0
    plugin_microseconds: float = 0.0
    requests: int = 0
    calls: list[CallCost] = field(default_factory=list)


@dataclass(frozen=True)
class Sent:
    """The request of which many are sent."""

    method: str
    target: str
    headers: Sequence[str]
    body: bytes

    def scope(self) -> dict[str, Any]:
        """A fresh scope of it."""
        fields = encoded([given.header(text) for text in self.headers])
        if self.body:
            fields.append((b"content-length", b"%d" % len(self.body)))
        return scope_of(self.method, self.target, fields)


def bench(file: str, sent: Sent, conf: str | None, *, engine: str, root_id: str, as_json: bool) -> int:
    """Measure and print. Raises `AsgiWasmError`."""
    given.engine(engine)
    given.method(sent.method)
    given.target(sent.target)
    sent.scope()
    spec = PluginSpec(plugin_name(file), plugin_file(file))
    text = None if conf is None else given.conf(conf)
    with (
        told_as_typed({spec.name: file}, [spec.name] if text is None else []),
        progress.steps(f"measuring {file}", _STEPS) as done,
    ):
        content, _ = read_plugin_file(spec)
        costs = asyncio.run(_measure(file, content, sent, text, engine, root_id, done))
    if as_json:
        console.json_out(asdict(costs))
    else:
        _print(costs)
    return 0


async def _measure(
    file: str, content: bytes, sent: Sent, conf: str | None, engine: str, root_id: str, done: Done
) -> Costs:
    costs = Costs(file)
    # First of all: it tells in one sentence what is wrong with the plugin.
    await _count_calls(file, sent, conf, engine, root_id, costs)
    done(1)
    began = time.perf_counter()
    create_engine(engine).compile(content)
    costs.compile_milliseconds = (time.perf_counter() - began) * 1000
    plugin: dict[str, Any] = {"name": plugin_name(file), "file": file, "root_id": root_id}
    if conf is not None:
        plugin["conf"] = conf
    middleware = WasmMiddleware(_app, settings={"plugins": [plugin], "engine": engine})
    began = time.perf_counter()
    await middleware.start()
    costs.start_milliseconds = (time.perf_counter() - began) * 1000
    done(1)
    costs.memory_at_start = middleware.status().plugins[0].memory or 0
    costs.bare_microseconds, _ = await _best(_app, sent, done)
    costs.with_plugin_microseconds, costs.requests = await _best(middleware, sent, done)
    costs.plugin_microseconds = costs.with_plugin_microseconds - costs.bare_microseconds
    costs.memory_after = middleware.status().plugins[0].memory or 0
    await middleware.stop()
    return costs


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def _best(app: ASGIApp, sent: Sent, done: Done) -> tuple[float, int]:
    """Microseconds of a request, the best of some rounds, and how many requests there were."""
    request = {"type": "http.request", "body": sent.body, "more_body": False}

    async def receive() -> Message:
        return request

    async def send(message: Message) -> None:
        return None

    async def some(count: int) -> float:
        scopes = [sent.scope() for _ in range(count)]
        began = time.perf_counter()
        for scope in scopes:
            await app(scope, receive, send)
        return time.perf_counter() - began

    count, total = 16, 0
    while await some(count) < _ROUND_SECONDS / 4:
        total += count
        count *= 2
    rounds = []
    for _ in range(_ROUNDS):
        rounds.append(await some(count * 2) / (count * 2))
        done(1)
    return min(rounds) * 1e6, total + _ROUNDS * count * 2


async def _count_calls(file: str, sent: Sent, conf: str | None, engine: str, root_id: str, costs: Costs) -> None:
    calls: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)

    def tell(told: object) -> None:
        if isinstance(told, Call) and told.name not in _QUIET:
            calls[told.name.removeprefix("proxy_"), told.is_callback].append((told.ended - told.began) / 1000)

    plugin = WasmPlugin(file, conf, engine=engine, root_id=root_id, tell=tell, name=plugin_name(file))
    await plugin.start()
    calls.clear()
    headers = [given.header(text) for text in sent.headers]
    send: Callable[[], Awaitable[Any]] = lambda: plugin.request(  # noqa: E731
        sent.method, sent.target, headers=headers, body=sent.body
    )
    for _ in range(_TRACED):
        costs.status = (await send()).status
        # The kit keeps what it has seen.
        plugin.recorder.every_call.clear()
        plugin.recorder.lines.clear()
        plugin.app.requests.clear()
    costs.calls = [
        CallCost(name, is_callback, len(took) / _TRACED, statistics.median(took))
        for (name, is_callback), took in calls.items()
    ]
    await plugin.stop()


def _print(costs: Costs) -> None:
    hostcalls = sum(call.per_request for call in costs.calls if not call.callback)
    added = f"{costs.plugin_microseconds:.2f} µs more than the bare app's {costs.bare_microseconds:.2f} µs"
    each = f"{costs.plugin_microseconds / hostcalls:.2f} µs ({hostcalls:g} a request)" if hostcalls else ""
    after = f"{costs.memory_after >> 10} KiB after {costs.requests} requests"
    console.fields(
        [
            ("file", costs.file),
            ("answer", costs.status),
            ("request", added),
            ("by hostcall", each),
            ("compile", f"{costs.compile_milliseconds:.0f} ms, once: then it is in the cache"),
            ("start", f"{costs.start_milliseconds:.1f} ms, from the cache"),
            ("memory", f"{costs.memory_at_start >> 10} KiB; {after}"),
        ]
    )
    rows = [
        (call.name if call.callback else f"  {call.name}", f"{call.per_request:g}", f"{call.traced_microseconds:.1f}")
        for call in costs.calls
    ]
    if rows:
        console.table(("call", "per request", "µs, traced"), rows)
        console.line("The trace adds to these times, hostcalls to their callback's: they tell which call is dear.")
