"""`asgi-wasm run`: real servers, real requests, over plugins of every kind of app."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.cli.running import PLUGINS, command, environment, run
from tests.serving import Server, dead_port, free_port, launch
from tests.waiting import wait_until

FAULT = PLUGINS / "fault_injection" / "rust.wasm"
HEADERS = PLUGINS / "headers" / "rust.wasm"
TEAPOT = '{"http_status": 418, "body": "no"}'
UPPER = '{"direction": "both", "mode": "upper"}'


@contextmanager
def serving(folder: Path, *arguments: str | Path) -> Iterator[Server]:
    port = free_port()
    env = environment()
    with launch(command("run", *arguments, "--port", str(port)), port, env=env, cwd=folder) as server:
        yield server


def test_before_an_echo(tmp_path: Path) -> None:
    with serving(tmp_path, HEADERS, "--conf", '{"request": {"set": {"x-in": "1"}}}') as server:
        seen = httpx.post(f"{server.url}/a%20b?c=d", content=b"body", headers={"x-y": "z"}).json()
        log = logged(server, "by the app")
    assert (seen["method"], seen["path"], seen["query"], seen["body"]) == ("POST", "/a b", "c=d", "body")
    assert ["x-in", "1"] in seen["headers"] and ["x-y", "z"] in seen["headers"]
    assert "→ POST /a%20b?c=d" in log
    assert "← 200 POST /a%20b?c=d in " in log
    assert "on_request_headers" not in log


def test_every_call_with_trace(tmp_path: Path) -> None:
    with serving(tmp_path, FAULT, "--conf", TEAPOT, "--trace") as server:
        assert httpx.get(server.url).status_code == 418
        log = logged(server, "the app saw nothing")
    assert "on_request_headers(context_id=2" in log
    assert "send_local_response(status_code=418" in log


def test_before_an_app_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from starlette.applications import Starlette\nfrom starlette.responses import PlainTextResponse\n"
        "from starlette.routing import Route\n"
        "class here: app = Starlette(routes=[Route('/', lambda request: PlainTextResponse('mine'))])\n"
    )
    with serving(tmp_path, PLUGINS / "body" / "go.wasm", "--conf", UPPER, "--app", "mine:here.app") as server:
        assert httpx.get(server.url).text == "MINE"


def test_before_any_server(tmp_path: Path) -> None:
    """Two of them: the second is the first one's server."""
    with (
        serving(tmp_path, HEADERS, "--conf", '{"request": {"set": {"x-inner": "1"}}}') as inner,
        serving(tmp_path, HEADERS, "--upstream", f"{inner.url}/below/") as outer,
        httpx.Client(base_url=outer.url) as client,
    ):
        hop = {"connection": "x-hop", "x-hop": "1"}
        seen = client.put("/path?x=1", content=iter([b"pie", b"ces"]), headers=hop)
        assert client.head("/").status_code == 200
        assert client.get("/", headers={"host": "named.test"}).json()["headers"][0] == ["host", "named.test"]
    shown = seen.json()
    assert (shown["method"], shown["path"], shown["query"], shown["body"]) == ("PUT", "/below/path", "x=1", "pieces")
    names = [name for name, _ in shown["headers"]]
    assert "x-inner" in names and "x-hop" not in names
    assert dict(shown["headers"])["x-seen-path"] == "/below/path?x=1"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with dead_port() as port, serving(tmp_path, HEADERS, "--upstream", f"http://127.0.0.1:{port}") as server:
        answer = httpx.get(server.url)
        told = f"http://127.0.0.1:{port} does not answer: All connection attempts failed"
        assert (answer.status_code, answer.text) == (502, f"{told}\n")
        logged(server, told)


def test_several_plugins_and_a_callout(tmp_path: Path) -> None:
    with serving(tmp_path, FAULT, "--conf", '{"http_status": 200, "body": "ok"}') as auth:
        guard = PLUGINS / "http_auth" / "rust.wasm"
        confs = ("--conf", '{"timeout_ms": 60000}', "--conf", "{}")
        with serving(tmp_path, guard, HEADERS, *confs, "--callout", f"auth={auth.url}") as server:
            seen = httpx.get(server.url, headers={"x-user": "bob"}).json()
    assert ["x-auth", "ok"] in seen["headers"]
    assert "x-seen-path" in dict(seen["headers"])


def test_settings_of_a_file(tmp_path: Path) -> None:
    plugin = {"name": "p", "file": str(FAULT), "conf": TEAPOT}
    (tmp_path / "some.yaml").write_text(json.dumps({"plugins": [plugin]}))
    with serving(tmp_path, "--settings", "some.yaml") as server:
        assert httpx.get(server.url).status_code == 418


def logged(server: Server, words: str) -> str:
    """What it has printed once these words are there."""
    wait_until(lambda: words in server.log(), server.log)
    return server.log()


def until(server: Server, status: int) -> None:
    wait_until(lambda: httpx.get(server.url).status_code == status, server.log)


def test_a_file_that_changes(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles", reason="the extra watch is not installed on this Python")
    shutil.copy(HEADERS, tmp_path / "p.wasm")
    with serving(tmp_path, "p.wasm", "--conf", TEAPOT, "--watch") as server:
        assert httpx.get(server.url).status_code == 200
        shutil.copy(FAULT, tmp_path / "new.wasm")
        (tmp_path / "new.wasm").replace(tmp_path / "p.wasm")
        until(server, 418)


def changing(file: Path) -> Callable[[], bool]:
    """Called, it changes it every two seconds: a server serves before it watches, and misses what comes too early."""
    changes, due = count(), 0.0

    def change() -> bool:
        nonlocal due
        if time.monotonic() >= due:
            file.write_text(f"after {next(changes)}")
            due = time.monotonic() + 2
        return True

    return change


@pytest.mark.parametrize("option", ["--build", "--watch"])
def test_a_source_that_changes_is_built(tmp_path: Path, option: str) -> None:
    """By the command that is given, or by ./build, which `asgi-wasm new` makes."""
    pytest.importorskip("watchfiles", reason="the extra watch is not installed on this Python")
    (tmp_path / "source.txt").write_text("before")
    copy = (
        "import pathlib, shutil; before = pathlib.Path('source.txt').read_text() == 'before'\n"
        f"shutil.copy({str(HEADERS)!r} if before else {str(FAULT)!r}, 'p.wasm')"
    )
    (tmp_path / "build.py").write_text(copy)
    build = f"{sys.executable} build.py"
    given = ["--build", build]
    if option == "--watch":
        (tmp_path / "build").write_text(f"#!{sys.executable}\n{copy}\n")
        (tmp_path / "build").chmod(0o755)
        build, given = "./build", ["--watch"]
    with serving(tmp_path, "p.wasm", "--conf", TEAPOT, *given) as server:
        assert httpx.get(server.url).status_code == 200
        change = changing(tmp_path / "source.txt")
        wait_until(lambda: change() and httpx.get(server.url).status_code == 418, server.log)
        assert server.logs(f"source.txt changed: {build}")


def test_a_build_that_fails(tmp_path: Path) -> None:
    """What ran before goes on, and the next change is another try."""
    pytest.importorskip("watchfiles", reason="the extra watch is not installed on this Python")
    shutil.copy(FAULT, tmp_path / "p.wasm")
    build = tmp_path / "build"
    build.write_text(f"#!{sys.executable}\n")
    build.chmod(0o755)
    with serving(tmp_path, "p.wasm", "--conf", TEAPOT, "--watch") as server:
        assert httpx.get(server.url).status_code == 418
        build.write_text(f"#!{sys.executable}\nraise SystemExit(3)\n")
        change, told = (
            changing(tmp_path / "source.txt"),
            "./build failed with exit status 3: the plugin from before goes on",
        )
        wait_until(lambda: change() and told in server.log(), server.log)
        build.unlink()
        logged(server, "./build cannot be run (No such file or directory)")
        assert httpx.get(server.url).status_code == 418


@pytest.mark.parametrize("is_there", [False, True])
def test_a_plugin_is_built_first(tmp_path: Path, is_there: bool) -> None:
    """As `asgi-wasm new` leaves a folder, without one; or with one of older sources than there are."""
    pytest.importorskip("watchfiles", reason="the extra watch is not installed on this Python")
    if is_there:
        shutil.copy(HEADERS, tmp_path / "p.wasm")
    build = tmp_path / "build"
    build.write_text(f"#!{sys.executable}\nimport shutil\nshutil.copy({str(FAULT)!r}, 'p.wasm')\n")
    build.chmod(0o755)
    with serving(tmp_path, "p.wasm", "--conf", TEAPOT, "--watch") as server:
        assert httpx.get(server.url).status_code == 418


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with dead_port() as port:
        done = run("run", HEADERS, "--port", str(port), cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == f"port {port} is taken: choose another with --port\n"


def test_the_port_that_the_system_chose_is_told(tmp_path: Path) -> None:
    started = command("run", HEADERS, "--port", "0")
    with subprocess.Popen(started, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = next(text for text in process.stdout if text.startswith("http://")).partition(" ")[0]
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert httpx.get(url).status_code == 200
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            process.terminate()
