"""The settings' file changes while a server answers as fast as it can: no request is lost, none meets two versions."""

from __future__ import annotations

import asyncio

import httpx

from tests.driving import until
from tests.serving import serve
from tests.waiting import SECONDS
from tests.worker.versions import Configured

APP = """
import asyncio
from asgi_wasm import WasmMiddleware


async def hello(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/reload":
        await wasm.reload()
    seen = dict(scope["headers"]).get(b"x-seen", b"none")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": seen, "more_body": True})
    await asyncio.sleep(0.002)
    await send({"type": "http.response.body", "body": b"."})


wasm = WasmMiddleware(hello, settings="wasm.yaml")


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/reload":
        await hello(scope, receive, send)
    else:
        await wasm(scope, receive, send)
"""
# With wrk, which is faster, it is more of both: `test_reload_under_load`.
RELOADS, CLIENTS = 12, 16


async def test_no_request_is_lost_under_load(configured: Configured) -> None:
    """Each answer is of one version, in what the request and in what the response was given."""
    folder = configured.file.parent
    (folder / "served.py").write_text(APP)
    configured.write("0")
    answers: list[tuple[int, str, str]] = []

    async def main() -> None:
        over = asyncio.Event()

        async def ask(client: httpx.AsyncClient) -> None:
            while not over.is_set():
                response = await client.get("/")
                answers.append((response.status_code, response.text, response.headers["x-version"]))

        limits = httpx.Limits(max_connections=CLIENTS + 1, max_keepalive_connections=CLIENTS + 1)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=SECONDS) as client:
            asking = [asyncio.ensure_future(ask(client)) for _ in range(CLIENTS)]
            for number in range(1, RELOADS + 1):
                so_far = len(answers)
                await until(lambda so_far=so_far: len(answers) > so_far + CLIENTS)  # type: ignore[misc]
                configured.write(str(number))
                assert (await client.get("/reload")).status_code == 200
            over.set()
            await asyncio.gather(*asking)
            last = await client.get("/")
            assert last.headers["x-version"] == str(RELOADS)

    # Not to be mixed up with a request that is lost: uvicorn closes connections that are idle for five seconds.
    with serve("served:app", "--timeout-keep-alive", "600", cwd=folder) as server:
        await main()
        log = server.log()
    assert {status for status, _, _ in answers} == {200}
    assert [answer for answer in answers if answer[1] != f"{answer[2]}."] == []
    assert {seen for _, _, seen in answers} >= {str(number) for number in range(1, RELOADS)}
    assert "Traceback" not in log
