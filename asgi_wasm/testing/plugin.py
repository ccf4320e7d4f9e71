"""What tests of plugins use: `WasmPlugin` and `WasmHost` in tests that are coroutines, their twins in others."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from asgi_wasm.testing.clock import settle
from asgi_wasm.testing.connection import Connection, Response
from asgi_wasm.testing.exchange import Exchange, GivenHeaders
from asgi_wasm.testing.guests.guests import Guest
from asgi_wasm.testing.hosted import Body, HostedPlugins, Properties
from asgi_wasm.testing.views import SharedDataView

_Result = TypeVar("_Result")
# Options of the host; what else is given to a plugin's fixture is the plugin's own.
_OF_HOST = frozenset({"app", "engine", "log_level", "foreign_functions", "cache_dir", "properties", "tell"})


class WasmHost(HostedPlugins):
    """Several plugins in front of an app, in the running event loop. Made by the fixture ``wasm_host``."""

    async def request(
        self,
        method: str,
        target: str = "/",
        *,
        headers: GivenHeaders = (),
        body: Body = b"",
        properties: Properties | None = None,
        **more: Any,
    ) -> Exchange:
        """Send one request, and wait for its end. A body of several pieces comes piece by piece.

        ``json`` is made the body. ``properties`` are there for plugins, by their path with dots, in place of the
        host's own; ``more`` are further keys of the ASGI scope. Raises `PluginError` when a plugin does not start,
        and `NotAnsweredError` when nothing answers.
        """
        return await self._request(method, target, headers, body, properties, **more)

    async def get(self, target: str = "/", *, headers: GivenHeaders = (), **more: Any) -> Exchange:
        """`request` by GET."""
        return await self.request("GET", target, headers=headers, **more)

    async def post(self, target: str = "/", body: Body = b"", *, headers: GivenHeaders = (), **more: Any) -> Exchange:
        """`request` by POST."""
        return await self.request("POST", target, headers=headers, body=body, **more)

    async def websocket(
        self, target: str = "/", *, headers: GivenHeaders = (), subprotocols: Iterable[str] = (), **more: Any
    ) -> Exchange:
        """Ask for a WebSocket, and go once that is answered: by 101, or by the status that denies it.

        Plugins see the handshake only. ``more`` is as for `request`.
        """
        return await self._websocket(target, headers, subprotocols, **more)

    def begin(
        self, method: str, target: str = "/", *, headers: GivenHeaders = (), body: Body = b"", **more: Any
    ) -> asyncio.Task[Exchange]:
        """Send a request that is to be awaited later, as one that a plugin pauses. Needs a running event loop."""
        return asyncio.ensure_future(self.request(method, target, headers=headers, body=body, **more))

    async def connect(
        self,
        method: str,
        target: str = "/",
        *,
        headers: GivenHeaders = (),
        properties: Properties | None = None,
        **scope: Any,
    ) -> Connection:
        """A request that the test drives message by message: it feeds pieces of the body, and hangs up when it likes.

        The headers must say how the body ends: `transfer-encoding`, or `content-length`.
        """
        return await self._connect(method, target, headers, properties, **scope)

    async def start(self) -> None:
        """Load, start and configure the plugins, once. Raises `PluginError`."""
        await self._start()

    async def stop(self) -> None:
        """End them: `on_done` and `on_delete`. The next request would start them anew."""
        await self.middleware.stop()

    async def advance(self, seconds: float) -> None:
        """Move the clock: what ticks, and what times out by then, happens now."""
        await self._advance(seconds)


class Pending:
    """A request of `SyncWasmPlugin` that is under way."""

    def __init__(self, wait: Callable[[asyncio.Task[Exchange]], Exchange], task: asyncio.Task[Exchange]) -> None:
        self._wait = wait
        self._task = task

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self._task.done()

    def result(self) -> Exchange:
        """Wait for its end."""
        return self._wait(self._task)


class SyncConnection:
    """`testing.connection.Connection` of `SyncWasmHost`: what is ready to happen has happened when a method is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self._loop = loop
        self._connection = connection
        self._loop.run_until_complete(settle())

    @property
    def response(self) -> Response:
        """What the client has so far."""
        return self._connection.response

    @property
    def done(self) -> bool:
        """Whether the app, and the plugins about it, have ended."""
        return self._connection.task.done()

    def feed(self, body: bytes = b"", *, more: bool = False) -> None:
        """A piece of the request's body."""
        self._connection.feed(body, more=more)
        self._loop.run_until_complete(settle())

    def hang_up(self) -> None:
        """The client goes."""
        self._connection.hang_up()
        self._loop.run_until_complete(settle())

    def over(self) -> Response:
        """Wait for the end. Raises what the app raises."""
        return self._loop.run_until_complete(self._connection.over())


class SyncWasmHost(HostedPlugins):
    """The same for tests without asyncio: it has an event loop of its own, which runs while a method does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._loop = asyncio.new_event_loop()
        # What a method waits for; the test does nothing meanwhile.
        self._awaited: asyncio.Task[Any] | None = None

    def _run(self, wanted: Coroutine[Any, Any, _Result] | asyncio.Task[_Result]) -> _Result:
        if asyncio._get_running_loop() is not None:
            if not isinstance(wanted, asyncio.Task):
                wanted.close()
            raise RuntimeError("this test is a coroutine: it takes wasm_plugin or wasm_host, and awaits")
        self._awaited = wanted if isinstance(wanted, asyncio.Task) else self._loop.create_task(wanted)
        return self._loop.run_until_complete(self._awaited)

    def _alone(self) -> Callable[[], bool]:
        present = asyncio.current_task()
        return lambda: self._awaited is present

    def request(
        self, method: str, target: str = "/", *, headers: GivenHeaders = (), body: Body = b"", **more: Any
    ) -> Exchange:
        """`WasmHost.request`, waited for."""
        return self._run(self._request(method, target, headers, body, **more))

    def get(self, target: str = "/", *, headers: GivenHeaders = (), **more: Any) -> Exchange:
        """`request` by GET."""
        return self.request("GET", target, headers=headers, **more)

    def post(self, target: str = "/", body: Body = b"", *, headers: GivenHeaders = (), **more: Any) -> Exchange:
        """`request` by POST."""
        return self.request("POST", target, headers=headers, body=body, **more)

    def websocket(
        self, target: str = "/", *, headers: GivenHeaders = (), subprotocols: Iterable[str] = (), **more: Any
    ) -> Exchange:
        """`WasmHost.websocket`, waited for."""
        return self._run(self._websocket(target, headers, subprotocols, **more))

    def begin(
        self, method: str, target: str = "/", *, headers: GivenHeaders = (), body: Body = b"", **more: Any
    ) -> Pending:
        """Send a request that is to be waited for later, as one that a plugin pauses."""
        task = self._loop.create_task(self._request(method, target, headers, body, **more))
        self._run(self._start())
        self._run(settle())
        return Pending(self._run, task)

    def connect(self, method: str, target: str = "/", *, headers: GivenHeaders = (), **more: Any) -> SyncConnection:
        """A request that the test plays by hand, as `WasmHost.connect`, without an event loop of its own."""
        return SyncConnection(
            self._loop, self._run(self._connect(method, target, headers, more.pop("properties", None), **more))
        )

    def start(self) -> None:
        """`WasmHost.start`, waited for."""
        self._run(self._start())

    def stop(self) -> None:
        """`WasmHost.stop`, waited for."""
        self._run(self.middleware.stop())

    def advance(self, seconds: float) -> None:
        """`WasmHost.advance`, waited for."""
        self._run(self._advance(seconds))

    def close(self) -> None:
        """End the plugins and the event loop. Idempotent."""
        if not self._loop.is_closed():
            self._run(self.middleware.stop())
            self._run(self._loop.shutdown_asyncgens())
            self._loop.close()


class _OnePlugin(HostedPlugins):
    """One plugin with a configuration."""

    def __init__(
        self,
        file: str | Path | Guest,
        conf: Any = None,
        *,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """``conf`` is a text, or what becomes JSON; ``settings`` are the host's, such as ``pause_timeout``.

        ``options`` are those of `HostedPlugins`, and further settings of the plugin, such as ``root_id``.
        """
        self.name = name or ("guest" if isinstance(file, Guest) else _named(file))
        own = {key: value for key, value in options.items() if key not in _OF_HOST}
        plugin = {**own, "name": self.name, "file": _absolute(file)}
        if conf is not None:
            plugin["conf"] = conf if isinstance(conf, (str, bytes)) else json.dumps(conf, separators=(",", ":"))
        super().__init__(
            {**(settings or {}), "plugins": [plugin]}, **{key: options[key] for key in options.keys() - own.keys()}
        )

    @property
    def title(self) -> str:
        """What a failed test calls it."""
        return f"plugin {self.name}"

    @property
    def metrics(self) -> Mapping[str, int | tuple[int, int]]:
        """Its metrics by name: counters and gauges; of histograms the count and the sum."""
        return self[self.name].metrics

    @property
    def shared_data(self) -> SharedDataView:
        """What plugins of its `vm_id` share, to be read and written."""
        return self[self.name].shared_data

    @property
    def queues(self) -> Mapping[bytes, Sequence[bytes]]:
        """What waits in the queues of its `vm_id`, by their names."""
        return self[self.name].queues


def _named(file: str | Path) -> str:
    """By the last part of its path: of `asgi_wasm:NAME`, and of an image without its tag and digest."""
    stem = Path(str(file).removeprefix("asgi_wasm:")).name.partition("@")[0].partition("#")[0].removesuffix(".wasm")
    return re.sub(r"[^A-Za-z0-9._-]", "_", stem.partition(":")[0]) or "plugin"


def _absolute(file: str | Path | Guest) -> str | Guest:
    if isinstance(file, Guest) or str(file).startswith(("asgi_wasm:", "https://", "oci://")):
        return file if isinstance(file, Guest) else str(file)
    return str(Path(file).absolute())


class WasmPlugin(_OnePlugin, WasmHost):
    """A plugin in front of an app, in the running event loop. Made by the fixture ``wasm_plugin``."""


class SyncWasmPlugin(_OnePlugin, SyncWasmHost):
    """The same for tests without asyncio. Made by the fixture ``sync_wasm_plugin``; else it wants a `close`."""
