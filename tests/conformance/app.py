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
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from asgi_wasm import WasmMiddleware
from asgi_wasm.asgi.types import ASGIApp, Receive, Scope, Send

# What the app saw, by the port that it was asked on.
Seen = dict[int, list[dict[str, Any]]]
# A longer body is kept as its size and digest.
_BODY_KEPT = 400


class App:
    """Answers as the query asks, and keeps what it saw.

    ``status`` and ``header=NAME:VALUE`` (repeatable) make the head. The body is the request's, or ``body=TEXT``, or
    ``size`` bytes, with a content-length; ``chunks=N`` sends it in N pieces without one, ``delay`` seconds apart.
    ``gated`` lets each piece wait for `/release` of the control port, ``hold`` the response's start. ``echo`` answers
    each piece of the request's body as it comes, ``early`` answers before reading it. ``raise=before`` (or ``after``)
    raises before (or after) the response's start.
    """

    def __init__(self) -> None:
        self.seen: Seen = defaultdict(list)
        self.gates: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not spoken here")
        exchange = _Exchange(self, scope, receive, send)
        self.seen[scope["server"][1]].append(exchange.record)
        await exchange.run()


class _Exchange:
    """One request and the answer that its query asks for."""

    def __init__(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        self._gate = app.gates[scope["server"][1]]
        self._receive, self._send = receive, send
        query: bytes = scope["query_string"]
        self._query = parse_qs(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        self._body = b""
        self.record: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "decoded_path": scope["path"],
            "query": query.decode("latin-1"),
            "scheme": scope["scheme"],
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "size": 0,
            "body": "",
            "disconnected": False,
        }

    async def run(self) -> None:
        """Read, answer, and notice when the client goes meanwhile."""
        if "echo" in self._query:
            await self._start(length=None)
            await self._read(echo=True)
            await self._send({"type": "http.response.body", "body": b""})
            return
        if "early" not in self._query and not await self._read():
            return
        if "hold" in self._query and not await self._may_go_on():
            return
        if "raise" in self._query:
            if self._asked("raise") == "after":
                await self._start(length=None)
                await self._send({"type": "http.response.body", "body": b"begun", "more_body": True})
            raise RuntimeError("as asked")
        await self._answer()

    def _asked(self, key: str, default: str = "") -> str:
        values: list[str] = self._query.get(key, [default])
        return values[-1]

    async def _read(self, *, echo: bool = False) -> bool:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.record["disconnected"] = True
                return False
            piece = message.get("body", b"")
            self._body += piece
            self.record["size"] = len(self._body)
            if len(self._body) <= _BODY_KEPT:
                self.record["body"] = self._body.decode("latin-1")
            if echo and piece:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            if not message.get("more_body", False):
                break
        if len(self._body) > _BODY_KEPT:
            self.record["body"] = sha256(self._body).hexdigest()
        return True

    async def _start(self, *, length: int | None) -> None:
        headers = [
            tuple(part.encode("latin-1") for part in item.split(":", 1)) for item in self._query.get("header", [])
        ]
        status = int(self._asked("status", "200"))
        if length is not None and status not in (204, 304):
            headers.append((b"content-length", b"%d" % length))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _answer(self) -> None:
        body = self._asked("body").encode("latin-1") if "body" in self._query else self._body
        if "size" in self._query:
            body = bytes(index % 251 for index in range(int(self._asked("size"))))
        chunks = int(self._asked("chunks", "0"))
        await self._start(length=None if chunks else len(body))
        step = -(-len(body) // chunks) if chunks else len(body)
        for at in range(0, len(body), step) if chunks and body else ():
            if "gated" in self._query and not await self._may_go_on():
                return
            await self._send({"type": "http.response.body", "body": body[at : at + step], "more_body": True})
            await asyncio.sleep(float(self._asked("delay", "0")))
        if "gated" in self._query and not await self._may_go_on():
            return
        await self._send({"type": "http.response.body", "body": b"" if chunks else body})

    async def _may_go_on(self) -> bool:
        """Wait for the gate. False when the client went first."""
        released, gone = asyncio.ensure_future(self._gate.acquire()), asyncio.ensure_future(self._receive())
        done, waiting = await asyncio.wait({released, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if gone in done and gone.result()["type"] == "http.disconnect":
            self.record["disconnected"] = True
            return False
        return True


class Control:
    """The app of the first port.

    ``/`` gives what the app saw, ``/?port=N`` on one port; ``take`` forgets it too. ``/release?port=N`` opens the gate
    there for one piece more, ``/metrics`` gives asgi-wasm's, by chain. POST ends the process.
    """

    def __init__(self, app: App, wrapped: Mapping[str, WasmMiddleware], stop: Callable[[], None]) -> None:
        self._app = app
        self._wrapped = wrapped
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        port = int(query["port"][0]) if "port" in query else None
        body = json.dumps(self._answer(scope["path"], port, take="take" in query)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        if scope["method"] == "POST":
            self._stop()

    def _answer(self, path: str, port: int | None, *, take: bool) -> Any:
        if path == "/metrics":
            return {name: _metrics(item) for name, item in self._wrapped.items()}
        if path == "/release" and port is not None:
            self._app.gates[port].release()
            return None
        if port is None:
            seen: Any = dict(self._app.seen)
            self._app.seen.clear()
            return seen
        if take:
            self._app.gates.pop(port, None)
            return self._app.seen.pop(port, [])
        return self._app.seen.get(port, [])


def _metrics(middleware: WasmMiddleware) -> dict[str, Any]:
    """Counters and gauges by name, histograms as count and sum."""
    metrics: Any = middleware._workers.running()._loader._ports.metrics  # type: ignore[union-attr]
    kept = (*metrics.counters.items(), *metrics.gauges.items(), *metrics.histograms.items())
    return {name: value for (_, name), value in kept}


class _JsonLines(logging.Formatter):
    """One JSON list a line: logger, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps([record.name, record.levelname, record.getMessage()])


def _wrapped(app: ASGIApp, settings: dict[str, Any]) -> WasmMiddleware:
    return WasmMiddleware(app, settings=settings)


def _server(app: Any, *, http: Any = "httptools") -> uvicorn.Server:
    lifespan: Any = "on" if isinstance(app, WasmMiddleware) else "off"
    # Without `date` and `server`, which plugins would see behind Envoy and not here. An idle connection of Envoy's
    # stays, since closing it while it is used again costs a request.
    config = uvicorn.Config(
        app,
        port=0,
        http=http,
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=600,
        backlog=256,
    )
    return uvicorn.Server(config)


async def _serve(plan: dict[str, Any]) -> None:
    app = App()
    servers: list[uvicorn.Server] = []

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    wrapped = {name: _wrapped(app, settings) for name, settings in plan["chains"].items()}
    servers += [_server(Control(app, wrapped, stop)), *(_server(app) for _ in wrapped)]
    servers += [_server(item, http=plan["http"][name]) for name, item in wrapped.items()]
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
