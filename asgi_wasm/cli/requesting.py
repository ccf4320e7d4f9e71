"""``asgi-wasm request``: one request through a plugin, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asgi_wasm.cli import console, given, progress
from asgi_wasm.cli.plugin_files import plugin_file, plugin_name, told_as_typed
from asgi_wasm.errors import SettingsError
from asgi_wasm.host.vm.trace import Call, Value
from asgi_wasm.http_syntax import MAX_STATUS, MIN_STATUS
from asgi_wasm.services.traces.text import lines
from asgi_wasm.testing.driving import NotAnsweredError
from asgi_wasm.testing.exchange import Exchange
from asgi_wasm.testing.plugin import WasmPlugin

_QUIET = ("malloc", "proxy_on_memory_allocate")


@dataclass(frozen=True)
class Wanted:
    """What to send, and what the app and the upstreams answer. Texts are as they were given."""

    method: str
    target: str
    headers: Sequence[str]
    body: str | None
    response_status: int
    response_headers: Sequence[str]
    response_body: str
    upstreams: Sequence[str]


def send_request(file: str, wanted: Wanted, conf: str | None, *, as_json: bool, **entry: Any) -> int:
    """Print what came of it; 1 where nothing was answered. Raises `AsgiWasmError`."""
    given.engine(entry["engine"])
    given.method(wanted.method)
    given.target(wanted.target)
    plugin_file(file)
    plugin = WasmPlugin(file, None if conf is None else given.conf(conf), name=plugin_name(file), **entry)
    headers = [given.header(text, "--response-header") for text in wanted.response_headers]
    body = given.content(wanted.response_body, "--response-body")
    plugin.recorder.suggest = lambda upstream: f"play it by --upstream {upstream}=200:BODY"
    plugin.app.respond(given.status(wanted.response_status), body, headers)
    for text in wanted.upstreams:
        _play(plugin, text)
    begun = len(plugin.recorder.every_call)
    sent = [given.header(text) for text in wanted.headers], b"" if wanted.body is None else given.content(wanted.body)
    try:
        with told_as_typed({plugin.name: file}, [plugin.name] if conf is None else []):
            exchange = asyncio.run(_send(plugin, wanted, *sent))
    except NotAnsweredError as error:
        calls = plugin.recorder.every_call[begun:]
        if as_json:
            console.json_out({"error": str(error), "calls": _plain_calls(calls)})
        else:
            _print_calls(calls)
        console.error(error)
        return 1
    if as_json:
        console.json_out(_plain(plugin, exchange))
    else:
        _print(plugin, exchange)
    return 0


def _play(plugin: WasmPlugin, text: str) -> None:
    """``auth=200:body``, ``auth=fail`` or ``auth=timeout``."""
    name, what = given.pair(text, "--upstream")
    upstream = plugin.upstream(name)
    status, _, body = what.partition(":")
    if what == "fail":
        upstream.fail()
    elif what == "timeout":
        upstream.time_out()
    elif status.isascii() and status.isdigit() and MIN_STATUS <= int(status) <= MAX_STATUS:
        upstream.respond(int(status), body)
    else:
        statuses = f"{MIN_STATUS} to {MAX_STATUS}"
        raise SettingsError(
            f"--upstream {text!r}: write {name}=STATUS:BODY ({statuses}), {name}=fail or {name}=timeout"
        )


async def _send(plugin: WasmPlugin, wanted: Wanted, headers: list[tuple[str, str]], body: bytes) -> Exchange:
    with progress.steps(f"starting {plugin.name}"):
        await plugin.start()
    try:
        return await plugin.request(wanted.method, wanted.target, headers=headers, body=body)
    finally:
        await plugin.stop()


def _print(plugin: WasmPlugin, exchange: Exchange) -> None:
    console.line("— the plugin", "bold")
    _print_calls(exchange.trace)
    for told in exchange.logs:
        if told.by_host:
            console.line(f"host: {told.text}", "yellow")
    console.line("— the app saw", "bold")
    seen = exchange.app
    if seen is None:
        console.line("nothing: the request did not reach it", "dim")
    else:
        _print_message(seen.head, seen.body)
    for name, upstream in plugin.upstreams.items():
        for called in upstream.calls:
            console.line(f"— the upstream {name} saw", "bold")
            _print_message(called.head, called.body)
    console.line("— the client got", "bold")
    if exchange.was_reset:
        console.line("a cut connection", "red")
    else:
        _print_message(exchange.head, exchange.body)


def _print_calls(calls: Sequence[Call]) -> None:
    for text, call in lines(calls):
        bad = bool(call.error) or (not call.is_callback and call.answer not in ("", "OK"))
        console.line(text, "yellow" if bad else "cyan" if call.is_callback else "")


def _print_message(head: str, body: bytes) -> None:
    for text in head.splitlines():
        console.line(text)
    if body:
        console.line("")
        for text in body.decode("utf-8", "backslashreplace").splitlines():
            console.line(text)


def _plain(plugin: WasmPlugin, exchange: Exchange) -> dict[str, Any]:
    seen = exchange.app
    return {
        "client": {
            "status": exchange.status,
            "headers": exchange.headers.items(),
            "body": exchange.body,
            "was_reset": exchange.was_reset,
        },
        "app": None
        if seen is None
        else {"method": seen.method, "target": seen.target, "headers": seen.headers.items(), "body": seen.body},
        "calls": _plain_calls(exchange.trace),
        "logs": [{"level": told.level, "text": told.text, "by_host": told.by_host} for told in exchange.logs],
        "metrics": dict(plugin.metrics),
    }


def _plain_calls(calls: Sequence[Call]) -> list[dict[str, Any]]:
    return [_plain_call(call) for call in calls if call.name not in _QUIET]


def _plain_call(call: Call) -> dict[str, Any]:
    def plain(value: Value) -> Any:
        if isinstance(value, list):
            return [[name.decode("latin-1"), text.decode("latin-1")] for name, text in value]
        return value

    return {
        "name": call.name,
        "callback": call.is_callback,
        "depth": call.depth,
        "arguments": dict(call.arguments),
        "given": {name: plain(value) for name, value in call.given.items()},
        "answer": call.answer or None,
        "returned": {name: plain(value) for name, value in call.returned.items()},
        "error": call.error or None,
        "microseconds": (call.ended - call.began) / 1000,
    }
