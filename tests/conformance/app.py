"""The app behind both hosts, and the process that serves it: plainly for Envoy, wrapped for asgi-wasm.

Run as `python -m tests.conformance.app PLAN`, PLAN being a JSON file: see `hosts`. The app keeps what it saw; the first
port serves that, and everything else that a test asks of the process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send

# What the app saw, by the port that it was asked on.
Seen = dict[int, list[dict[str, Any]]]


class App:
    """Answers as the query asks, and keeps what it saw.

    ``status`` and ``header=NAME:VALUE`` (repeatable) make the head. The body is the request's, or ``body=TEXT``, or
    ``size`` bytes; ``chunks=N`` sends it in N pieces without a content-length, ``delay`` seconds apart.
    """

    def __init__(self) -> None:
        self.seen: Seen = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not spoken here")
        record: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": "",
            "disconnected": False,
        }
        self.seen[scope["server"][1]].append(record)
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                record["disconnected"] = True
                return
            body += message.get("body", b"")
            record["body"] = body.decode("latin-1")
            if not message.get("more_body", False):
                break
        await _answer(scope, body, send)


async def _answer(scope: Scope, received: bytes, send: Send) -> None:
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, encoding="latin-1")

    def asked(key: str, default: str) -> str:
        values: list[str] = query.get(key, [default])
        return values[-1]

    body = asked("body", "").encode("latin-1") if "body" in query else received
    if "size" in query:
        body = bytes(index % 251 for index in range(int(asked("size", "0"))))
    headers = [tuple(part.encode("latin-1") for part in item.split(":", 1)) for item in query.get("header", [])]
    chunks = int(asked("chunks", "0"))
    status = int(asked("status", "200"))
    if not chunks and status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    step = -(-len(body) // chunks) if chunks else len(body)
    for at in range(0, len(body), step) if chunks and body else ():
        await send({"type": "http.response.body", "body": body[at : at + step], "more_body": True})
        await asyncio.sleep(float(asked("delay", "0")))
    await send({"type": "http.response.body", "body": b"" if chunks else body})


class Control:
    """The app of the first port: GET / gives and forgets what the app saw, POST / ends the process."""

    def __init__(self, app: App, stop: Callable[[], None]) -> None:
        self._app = app
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        body = json.dumps(self._app.seen).encode()
        self._app.seen.clear()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})
        if scope["method"] == "POST":
            self._stop()


class _JsonLines(logging.Formatter):
    """One JSON list a line: logger, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps([record.name, record.levelname, record.getMessage()])


def _wrapped(app: ASGIApp, settings: dict[str, Any]) -> WasmMiddleware:
    return WasmMiddleware(app, settings=settings)


async def _serve(plan: dict[str, Any]) -> None:
    app = App()
    servers: list[uvicorn.Server] = []

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    apps: list[ASGIApp] = [Control(app, stop), *[app for _ in plan["chains"]]]
    apps += [_wrapped(app, settings) for settings in plan["chains"].values()]
    for item in apps:
        lifespan = "on" if isinstance(item, WasmMiddleware) else "off"
        config = uvicorn.Config(item, port=0, lifespan=lifespan, log_config=None, access_log=False)  # type: ignore[arg-type]
        servers.append(uvicorn.Server(config))
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    while not all(server.started for server in servers):
        if any(task.done() for task in tasks):
            raise SystemExit("a server did not start")
        await asyncio.sleep(0.02)
    ports = [server.servers[0].sockets[0].getsockname()[1] for server in servers]
    await asyncio.to_thread(Path(plan["ports"]).write_text, json.dumps(ports))
    await asyncio.gather(*tasks)


def main() -> None:
    """Serve until told to stop."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    handler = logging.FileHandler(plan["log"], "w", "utf-8")
    handler.setFormatter(_JsonLines())
    logging.getLogger().addHandler(handler)
    logging.getLogger("asgi_wasm").setLevel(plan["log_level"])
    asyncio.run(_serve(plan))


if __name__ == "__main__":
    main()
