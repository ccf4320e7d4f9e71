"""Nothing is left behind by a request, and any allocation may fail."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import pytest

from tests.accelerator.apps import ROOT, App, exchange, needs_accelerator, running
from tests.driving import http_scope
from tests.plugins.conftest import PLUGINS


@needs_accelerator
@pytest.mark.parametrize(
    ("plugin", "conf", "head", "pieces"),
    [
        ("headers/c", "", [], []),
        ("body/c", "change", [(b"content-length", b"5")], [b"hel", b"lo"]),
        ("body/c", "change", [(b"transfer-encoding", b"chunked")], [b"hel", b"lo"]),
    ],
)
async def test_requests_leave_nothing_behind(plugin: str, conf: str, head: Any, pieces: list[bytes]) -> None:
    """Neither blocks of memory nor references: 20,000 requests, and the collector is off."""
    app = App([(b"x-a", b"1")], reads=bool(pieces))
    async with running(app, "required", file=PLUGINS / f"{plugin}.wasm", conf=conf) as middleware:
        fields = [(b"host", b"h"), (b"user-agent", b"a"), (b"connection", b"close"), *head]
        scope = http_scope("POST" if pieces else "GET", headers=fields)

        async def many(count: int) -> None:
            for _ in range(count):
                await exchange(middleware, dict(scope), pieces)
                app.seen.clear()
                app.requests.clear()

        await many(2000)
        gc.collect()
        gc.disable()
        try:
            blocks = sys.getallocatedblocks()
            counts = [sys.getrefcount(each) for each in (None, b"host", app, *scope["headers"])]
            await many(20_000)
            assert sys.getallocatedblocks() - blocks < 2000
            for before, each in zip(counts, (None, b"host", app, *scope["headers"]), strict=True):
                # Immortal from CPython 3.12 on; else a few are the interpreter's.
                assert abs(sys.getrefcount(each) - before) < 100
        finally:
            gc.enable()


FAULT = '{"http_status": 200, "body": "hello"}'


# FILE CONF BODY: makes each allocation of a request fail in turn; how many of these requests failed.
FAILING = """
import asyncio, sys, _testcapi
from asgi_wasm.accelerator import load
from tests.accelerator.apps import App, exchange, running
from tests.driving import http_scope

load()
file, conf, body = sys.argv[1:]
head = [(b"host", b"h"), (b"user-agent", b"a"), (b"connection", b"close"), (b"x", b" p ")]
# One that says no length is not read ahead, for which a task would be made.
coded = [(b"transfer-encoding", b"chunked")] if body else []
scope = http_scope("POST" if body else "GET", headers=head + coded)
# The watchdog has wasmtime call Python by ctypes now and then, which gives back chance where it has no memory.
unwatched = {"callback_ms": 0, "slow_callback_ms": 0}

async def read():
    return {"type": "http.request", "body": body.encode(), "more_body": False}

async def keep(message):
    pass

async def main():
    head = [(b"x-a", b" 1 ")] if "headers" in file else [(b"x-a", b"1"), (b"content-length", b"5")]
    app = App(head, reads=body != "")
    failed = nth = 0
    while nth < 400:
        # A VM that failed is away for a while: the next ones are made of another.
        async with running(app, "required", file=file, conf=conf, limits=unwatched) as middleware:
            while nth < 400:
                got = await exchange(middleware, dict(scope), [body.encode()] * bool(body))
                app.seen.clear()
                app.requests.clear()
                if got[0]["status"] == 503:
                    break
                assert got[0]["status"] == 200, got
                assert "headers" not in file or (b"x-plugin-out", b"here") in got[0]["headers"], got
                run = middleware(dict(scope), read, keep)
                _testcapi.set_nomemory(nth, nth + 1)
                try:
                    run.send(None)
                except StopIteration:
                    pass
                except Exception:
                    failed += 1
                finally:
                    _testcapi.remove_mem_hooks()
                nth += 1
    print(failed)

asyncio.run(main())
"""


@needs_accelerator
@pytest.mark.parametrize(
    ("plugin", "conf", "least", "body"),
    [
        ("headers/c", "", 20, ""),
        ("body/c", "", 20, ""),
        ("body/c", "change", 20, ""),
        ("body/c", "change", 20, "hello"),
        ("fault_injection/c", FAULT, 5, ""),
        # It looks at bodies, as all do that were made with a kit.
        ("fault_injection/rust", FAULT, 5, ""),
    ],
)
def test_any_allocation_may_fail(plugin: str, conf: str, least: int, body: str) -> None:
    """Each in turn, in a process of its own: an exception or an answer comes of it, and the next request is well."""
    pytest.importorskip("_testcapi", reason="this Python was built without _testcapi, which makes allocations fail")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", FAILING, f"{PLUGINS / plugin}.wasm", conf, body],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > least
