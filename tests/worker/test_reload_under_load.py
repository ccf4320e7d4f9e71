"""Reload while a server answers as fast as it can: no request is lost, none meets two versions, no memory is kept."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.engines.wat import wasm
from tests.serving import serve
from tests.waiting import wait_until

CONNECTIONS = 50
RELOADS = 20
# Ended when the reloads are over, however long they take.
MOST_SECONDS = 280
VERSIONS = "abcdefghijklmnopqrstuvwxyz"

# Marks the request and the response with its version, which is one letter.
PLUGIN = """(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2) (data (i32.const 100) "x-version{version}")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $add (i32.const 0) (i32.const 100) (i32.const 9) (i32.const 109) (i32.const 1)))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $add (i32.const 2) (i32.const 100) (i32.const 9) (i32.const 109) (i32.const 1))))"""

# Answers with the version that it was given; half of the requests wait, so that a reload meets some under way.
APP = """
import asyncio, gc, os
from asgi_wasm import WasmMiddleware

async def app(scope, receive, send):
    if scope["path"] == "/reload":
        await middleware.reload()
    elif scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    versions = b",".join(value for name, value in scope["headers"] if name == b"x-version")
    if scope["path"] == "/state":
        gc.collect()
        status = middleware.status()
        with open("/proc/self/statm") as statm:
            rss = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        versions = b"%d %d %d" % (status.draining, rss, len(os.listdir("/proc/self/fd")))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(versions))]})
    await send({"type": "http.response.body", "body": versions})

middleware = WasmMiddleware(app, settings={
    "plugins": [{"name": "versioned", "file": "versioned.wasm"}], "cache_dir": "cache", "drain_timeout": 60})
app = middleware
"""

# Counts what is no answer of one version alone.
SCRIPT = """
local threads, count = {}, 0
function setup(thread) table.insert(threads, thread) end
function init() bad, good, seen = 0, 0, "" end
function request()
  count = count + 1
  return wrk.format("GET", count % 2 == 0 and "/slow" or "/")
end
function response(status, headers, body)
  if status == 200 and #body == 1 and headers["x-version"] == body then good = good + 1 else bad = bad + 1 end
end
function done()
  local bad, good = 0, 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("bad"); good = good + thread:get("good") end
  print("verdict: " .. good .. " good, " .. bad .. " bad")
end
"""


def versioned(folder: Path, version: str) -> None:
    hidden = folder / "hidden"
    hidden.write_bytes(wasm(PLUGIN.replace("{version}", version)))
    hidden.replace(folder / "versioned.wasm")


def state(client: httpx.Client) -> tuple[int, int, int]:
    """Workers that are draining, bytes of memory, open descriptors: when the garbage collector took what it can."""
    draining, rss, descriptors = client.get("/state").text.split()
    return int(draining), int(rss), int(descriptors)


def started_load(folder: Path, url: str) -> subprocess.Popen[str]:
    (folder / "check.lua").write_text(SCRIPT)
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{MOST_SECONDS}s", "--timeout", "60s", "-s", "check.lua"]
    return subprocess.Popen(["wrk", *options, url], cwd=folder, stdout=subprocess.PIPE, text=True)


def assert_whole(report: str) -> str:
    """Each answer was of one version. The line of wrk's report that says so."""
    verdict = re.search(r"verdict: (\d+) good, (\d+) bad", report)
    assert verdict is not None, report
    assert (int(verdict[1]) > 0, int(verdict[2])) == (True, 0), report
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    return verdict[0]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells the memory of a process")
def test_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "versions.py").write_text(APP)
    versioned(tmp_path, "a")
    seen: list[str] = []
    with (
        serve("versions:app", "--no-access-log", "--log-level", "error", cwd=tmp_path) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        # From now on the host's own modules come from the cache, of which each takes a descriptor.
        client.get("/reload")
        idle = warm = state(client)
        load = started_load(tmp_path, server.url)
        for index in range(RELOADS):
            versioned(tmp_path, VERSIONS[index + 1])
            assert client.get("/reload").status_code == 200
            seen.append(client.get("/").text)
            if index == RELOADS // 4:
                warm = state(client)
        under_load = load.poll() is None
        load.send_signal(signal.SIGINT)
        report = load.communicate(timeout=120)[0]
        # The server has closed the load's connections when it has read that they are closed.
        wait_until(lambda: (now := state(client))[0] == 0 and now[2] <= idle[2], lambda: f"{idle} {state(client)}")
        after = state(client)
        assert "rror" not in server.log()
    assert seen == list(VERSIONS[1 : RELOADS + 1])
    assert under_load, f"the reloads took longer than the load: {report}"
    verdict = assert_whole(report)
    # A set of these VMs, and what allocators keep, is a few MB; fifteen sets that nobody freed would be far more.
    assert after[1] - warm[1] < 32 << 20, (warm, after)
    print(f"{os.linesep}{verdict}; RSS {warm[1] >> 20} MiB after {RELOADS // 4} reloads, {after[1] >> 20} after all")
