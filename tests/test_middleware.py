"""The composition root: cheap to make, and its options."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_wasm import SettingsError, WasmMiddleware
from asgi_wasm.asgi.types import Message, Receive, Scope, Send
from asgi_wasm.testing import Hostcalls
from tests.asgi.acting import passing
from tests.driving import answering, http_scope, request
from tests.guests import REQUEST_HEADERS, RESPONSE_HEADERS, Guest, Serve, serve_guests, wrap_guests

__all__ = ["serve_guests", "wrap_guests"]

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = ROOT / "plugins"
HEADERS = {"name": "headers", "file": str(PLUGINS / "headers/rust.wasm")}
FAULT = {"name": "fault", "file": str(PLUGINS / "fault_injection/rust.wasm")}


def settings(*plugins: dict[str, Any], cache: Path | None = None, **more: Any) -> dict[str, Any]:
    return {"plugins": list(plugins), **({"cache_dir": str(cache)} if cache else {}), **more}


async def test_making_one_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no engine, no loop: what is wrong is told when it starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asgi_wasm.worker.loading.create_engine", None)
    middleware = WasmMiddleware(answering(b"app"), settings="absent.yaml")
    with pytest.raises(SettingsError, match=r"settings file absent\.yaml does not exist"):
        await middleware.start()


async def test_without_arguments_the_usual_sources_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    conf = '{"response": {"add": {"x-plugin": "1"}}}'
    (tmp_path / "asgi-wasm.yaml").write_text(
        f"plugins: [{{name: headers, file: {HEADERS['file']}, conf: '{conf}'}}]\ncache_dir: cache\n"
    )
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("app"))])
    app.add_middleware(WasmMiddleware)
    assert (await request(app)).header(b"x-plugin") == b"1"


async def test_unknown_scope_types_pass_unchanged() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    scope = {"type": "novelty"}
    await WasmMiddleware(app, settings={})(scope, nothing, nothing)
    assert scopes[0] is scope
    assert scope == {"type": "novelty"}


async def test_the_servers_scope_is_not_written_to(serve_guests: Serve) -> None:
    guest = Guest(on_request_headers=lambda api, *_: api.add_header_map_value(REQUEST_HEADERS, b"x", b"1"))
    async with serve_guests(answering(b""), guest) as middleware:
        scope = http_scope()

        async def send(message: Message) -> None:
            pass

        async def receive() -> Message:
            return {"type": "http.request"}

        await middleware(scope, receive, send)
        assert scope == http_scope()


async def test_order_of_plugins(serve_guests: Serve) -> None:
    """Descending priority on the request, ascending on the response."""
    order: list[str] = []

    def guest(name: str) -> Guest:
        return Guest(
            on_request_headers=lambda api, *_: order.append(f"request {name}"),
            on_response_headers=lambda api, *_: order.append(f"response {name}"),
        )

    entries = [{"priority": 1}, {"priority": 9}, {"priority": 1}]
    async with serve_guests(answering(b""), guest("a"), guest("b"), guest("c"), entries=entries) as middleware:
        await request(middleware)
    assert order == [f"request {name}" for name in "bac"] + [f"response {name}" for name in "cab"]


async def test_each_conf_is_one_root_context_made_once(serve_guests: Serve) -> None:
    """At the start, not at the first request; equal confs of two routes are one."""
    configured: list[bytes] = []

    def on_configure(api: Hostcalls, root: int, size: int) -> int:
        configured.append(api.get_buffer_bytes(7, 0, size))
        return 1

    guest = Guest(
        on_configure=on_configure,
        on_response_headers=lambda api, context, *_: api.add_header_map_value(RESPONSE_HEADERS, b"x-ran", b"1"),
    )
    routes = [
        {"uri": "/a", "plugins": {"g0": {"conf": "one"}}},
        {"uri": "/b/*", "plugins": {"g0": {"conf": "two"}}},
        {"uri": "/c", "plugins": {"g0": {"conf": "one"}}},
    ]
    async with serve_guests(answering(b""), guest, routes=routes) as middleware:
        assert configured == [b"one", b"two"]
        for path, ran in (("/a", b"1"), ("/b/x?y", b"1"), ("/c", b"1"), ("/", None), ("/ab", None)):
            assert (await request(middleware, path=path)).header(b"x-ran") == ran
        assert configured == [b"one", b"two"]


@pytest.mark.parametrize(
    ("host", "runs"),
    [
        (b"example.test", True),
        (b"Example.TEST:8000", True),
        (b"other.test", False),
        (b"[::1]:8000", True),
        (b"[::1]", True),
        (b"::1", False),
        # Django and Starlette take the name before the colon, whatever follows it.
        (b"example.test:", True),
    ],
)
async def test_route_by_host(serve_guests: Serve, host: bytes, runs: bool) -> None:
    guest = Guest(on_response_headers=lambda api, *_: api.add_header_map_value(RESPONSE_HEADERS, b"x-ran", b"1"))
    routes = [{"uri": "/*", "hosts": ["example.test", "[::1]"], "plugins": {"g0": {"conf": "x"}}}]
    async with serve_guests(answering(b""), guest, routes=routes) as middleware:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["headers"] = [(b"host", host)]
            await middleware(scope, receive, send)

        assert ((await request(app)).header(b"x-ran") is not None) == runs


@pytest.mark.parametrize("named", [True, False], ids=["some plugin", "none"])
async def test_no_plugin_at_all_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, named: bool
) -> None:
    """A settings file that lies elsewhere would otherwise go unnoticed, and its plugins with it."""
    monkeypatch.chdir(tmp_path)

    middleware = WasmMiddleware(answering(b"app"), plugins=[HEADERS] if named else None, cache_dir=tmp_path / "c")
    await middleware.start()
    assert (await request(middleware)).body == b"app"
    await middleware.stop()
    told = f"no plugin is configured: neither arguments nor environment name one, nor a settings file in {tmp_path}"
    assert (told in caplog.text) is not named


async def test_start_up_is_one_line_a_plugin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Name, file, ABI, engine, milliseconds, cached or compiled."""

    async def main() -> None:
        middleware = WasmMiddleware(answering(b""), settings=settings(HEADERS, cache=tmp_path))
        await middleware.start()
        await middleware.stop()

    with caplog.at_level(logging.INFO, logger="asgi_wasm.host"):
        await main()
        await main()
    lines = [record.getMessage() for record in caplog.records]
    # Without the accelerator, each start says that as well.
    first, second = (line for line in lines if not line.startswith("the portable lane runs"))
    made_of = rf"{HEADERS['file']}, sha256 [0-9a-f]{{12}}, ABI 0\.2\.1, engine wasmtime"
    told = rf"plugin 'headers': {made_of}, %s in \d+ ms, started in \d+ ms"
    assert re.fullmatch(told % "compiled", first)
    assert re.fullmatch(told % "cached", second)


async def test_each_request_in_an_event_loop_of_its_own(tmp_path: Path) -> None:
    """As test clients do it that are not entered."""
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("app"))])
    conf = {"response": {"add": {"x-plugin": "1"}}}
    app.add_middleware(WasmMiddleware, settings=settings({**HEADERS, "conf": conf}, cache=tmp_path))
    for _ in range(3):
        assert (await request(app)).header(b"x-plugin") == b"1"


async def test_mounted_below_a_prefix(serve_guests: Serve) -> None:
    """Routes and `:path` are about the whole path."""
    seen: list[Any] = []

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    guest = Guest(on_request_headers=lambda api, *_: seen.append(api.get_header_map_value(REQUEST_HEADERS, b":path")))
    inner = Starlette(routes=[Route("/page", home)])
    routes = [{"uri": "/sub/*", "plugins": {"g0": {"conf": "x"}}}]
    async with serve_guests(inner, guest, routes=routes) as middleware:
        outer = Starlette(routes=[Mount("/sub", middleware)])
        assert (await request(outer, path="/sub/page?x")).body == b"/sub/page"
    assert seen == [b"/sub/page?x"]


async def test_foreign_functions_are_called_by_name(serve_guests: Serve, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def double(argument: bytes) -> bytes:
        asked.append(argument)
        return argument * 2

    guest = Guest(
        on_request_headers=lambda api, *_: api.set_property(b"answer", api.call_foreign_function(b"double", b"ab"))
    )
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["asgi_wasm"]["answer"])
        await answering(b"")(scope, receive, send)

    async with serve_guests(app, guest, foreign_functions={"double": double}) as middleware:
        await request(middleware)
    assert seen == [b"abab"]
    assert asked == [b"ab"]


# --- forks


PRELOADED = """
import logging, os, sys
from tests.driving import answering, request, run
from tests.test_middleware import FAULT, settings
from asgi_wasm import WasmMiddleware

# The workers may notice each other, and warn of what they do not share.
logging.disable(logging.WARNING)
conf = {"http_status": 200, "body": "forked"}
middleware = WasmMiddleware(answering(b"app"), settings=settings({**FAULT, "conf": conf}, cache_dir=sys.argv[1]))

async def serve():
    await middleware.start()
    response = await request(middleware)
    await middleware.stop()
    return response.body

if sys.argv[2] == "served":
    assert run(serve) == b"forked"
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(0 if run(serve) == b"forked" else 1)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.parametrize("parent", ["idle", "served"])
def test_made_in_a_parent_and_started_in_forked_children(parent: str, tmp_path: Path) -> None:
    """As `gunicorn --preload` does it, perhaps after a request to the parent: every worker compiles for itself.

    In a process of its own, since in this one other tests have compiled.
    """
    # Newer Pythons warn of a fork beside any thread.
    quietly = ("-W", "ignore::DeprecationWarning")
    command = [sys.executable, *quietly, "-c", PRELOADED, str(tmp_path), parent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_plugin_without_any_callback_is_in_nobodys_way(serve_guests: Serve) -> None:
    async with serve_guests(answering(b"a", b"b"), Guest()) as middleware:
        response = await request(middleware, "POST", body=[b"x"])
        assert response.chunks == [b"a", b"b"]


async def test_service_plugin_has_no_streams(serve_guests: Serve) -> None:
    guest = Guest(on_request_headers=passing)
    async with serve_guests(answering(b"app"), guest, entries=[{"service": True, "conf": "x"}]) as middleware:
        assert (await request(middleware)).body == b"app"
        assert guest.created == []
