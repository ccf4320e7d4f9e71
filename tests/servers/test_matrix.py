"""Every server and test client with every kind of plugin; the table in `OPERATIONS.md` is made by this."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.papers.blocks import OPERATIONS, check_block, table
from tests.servers.clients import Client, InAsgiTransport, InTestClient, OverTheWire
from tests.servers.conftest import SERVERS, why_no_server
from tests.serving import ROOT, Server

BODY = b"x" * 300_000


def headers(client: Client) -> bool:
    """Both ways: the app sees what a plugin wrote, the client too; doubled ones stay two."""
    answer = client.ask("GET", "/headers", b"", {})
    return ["x-user", "alice"] in json.loads(answer.body) and answer.headers["x-plugin"] == "1"


def request_body(client: Client) -> bool:
    return client.ask("POST", "/echo", BODY, {}).body == BODY


def response_body(client: Client) -> bool:
    """Changed by a plugin, and its length made true."""
    answer = client.ask("GET", "/changed", b"", {})
    return answer.body == b"hello world" and answer.headers.get("content-length", "11") == "11"


def stream(client: Client) -> bool:
    return client.ask("GET", "/stream", b"", {}).body == b"onetwo"


def local_response(client: Client) -> bool:
    answer = client.ask("POST", "/echo", BODY, {"x-lifecycle": "reply"})
    return (answer.status, answer.body) == (403, b"reply")


def pause(client: Client) -> bool:
    return client.ask("POST", "/echo", BODY, {"x-lifecycle": "pause"}).body == BODY


def websocket(client: Client) -> bool:
    answers = client.socket({}), client.socket({"x-lifecycle": "pause"})
    return all((answer.status, answer.body) == (101, b"chat hi") for answer in answers)


def websocket_denied(client: Client) -> bool:
    return client.socket({"x-lifecycle": "reply"}).status == 403


KINDS: dict[str, Callable[[Client], bool]] = {
    "headers": headers,
    "request bodies": request_body,
    "response bodies": response_body,
    "streams": stream,
    "local responses": local_response,
    "pauses": pause,
    "WebSocket": websocket,
    "WebSocket denied": websocket_denied,
}
IN_PROCESS: dict[str, Callable[[], Client]] = {
    "httpx `ASGITransport`": InAsgiTransport,
    "Starlette `TestClient`, with `with`": lambda: InTestClient(lifespan=True),
    "Starlette `TestClient`, without": lambda: InTestClient(lifespan=False),
}
CLIENTS = [*SERVERS, *IN_PROCESS]
DJANGO = "Django `AsyncClient`"
NOT_THERE = "\N{EN DASH}"
# What each cell was found to be.
Found = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def found() -> Found:
    return {}


@pytest.fixture(scope="module")
def client_named(server_named: Callable[[str], Server]) -> Iterator[Callable[[str], Client]]:
    clients: dict[str, Client] = {}

    def find(name: str) -> Client:
        if name not in clients:
            clients[name] = IN_PROCESS[name]() if name in IN_PROCESS else OverTheWire(server_named(name))
        return clients[name]

    yield find
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_cell(client_named: Callable[[str], Client], found: Found, name: str, kind: str) -> None:
    client = client_named(name)
    if "WebSocket" in kind and not client.has_websockets:
        found[name, kind] = NOT_THERE
        return
    works = KINDS[kind](client)
    found[name, kind] = "✓" if works else "**no**"
    assert works


DJANGO_PROGRAM = """
import asyncio, json, django
from django.conf import settings
from django.http import JsonResponse
from django.test import AsyncClient
from django.urls import path

async def view(request):
    return JsonResponse({"user": request.headers.get("x-user")})

urlpatterns = [path("headers", view)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[])
django.setup()

import httpx
from asgi_wasm import WasmMiddleware
from django.core.asgi import get_asgi_application
from tests.servers.app import SETTINGS

async def main():
    app = WasmMiddleware(get_asgi_application(), settings=SETTINGS)
    through = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver")
    seen = await through.get("/headers")
    past = await AsyncClient().get("/headers")
    told = [[answer.json()["user"], answer.headers.get("x-plugin")] for answer in (seen, past)]
    print(json.dumps(told[0] + told[1]))

asyncio.run(main())
"""


def test_django_async_client_asks_django_itself(found: Found) -> None:
    """It knows no ASGI app, so no ASGI middleware is on its way; through a client that does, the plugins run."""
    run = subprocess.run(
        [sys.executable, "-c", DJANGO_PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    user, plugin, past_user, past_plugin = json.loads(run.stdout.splitlines()[-1])
    assert (user, plugin) == ("alice", "1")
    assert (past_user, past_plugin) == (None, None)
    found.update({(DJANGO, kind): "past them" for kind in KINDS})


def test_table(found: Found) -> None:
    """Runs last. Made where every server is at hand, and only of a whole run."""
    if any(why_no_server(name) for name in SERVERS):
        pytest.skip("not every server of the table can be installed here")
    if len(found) < len(KINDS) * (len(CLIENTS) + 1):
        pytest.skip("only some of the cells were run, or some failed")
    rows = [[name, *(found[name, kind] for kind in KINDS)] for name in [*CLIENTS, DJANGO]]
    check_block(OPERATIONS, "servers and clients", table(["", *KINDS], rows))
