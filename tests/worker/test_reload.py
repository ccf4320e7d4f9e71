"""Reload: new plugins beside the old ones, without a request lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_wasm import MissingExtraError, PluginError, SettingsError, WasmMiddleware
from asgi_wasm.worker.worker import Worker
from tests.driving import Connection, answering, http_scope, request, run, until
from tests.guests import RESPONSE_HEADERS, Api, Guest, Wrap
from tests.serving import ROOT, serve

HEADERS = ROOT / "plugins/headers/rust.wasm"
SCRIPT_SECONDS = 30.0


class Configured:
    """Settings that a test changes, and a guest that marks its answers with its conf."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "wasm.yaml"
        self.order: list[str] = []

    def write(self, conf: str, **more: Any) -> None:
        lines = [f"plugins: [{{name: headers, file: {HEADERS}, conf: '{self.conf(conf)}'}}]"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        text = "\n".join([*lines, ""])
        hidden = self.file.with_suffix(".new")
        hidden.write_text(text)
        hidden.replace(self.file)

    @staticmethod
    def conf(version: str) -> str:
        return (
            f'{{"request": {{"add": {{"x-seen": "{version}"}}}}, "response": {{"add": {{"x-version": "{version}"}}}}}}'
        )

    @asynccontextmanager
    async def served(self, app: Any = None) -> AsyncIterator[WasmMiddleware]:
        middleware = WasmMiddleware(app or answering(b"app"), settings=str(self.file), cache_dir=self.file.parent / "c")
        async with middleware:
            yield middleware


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


async def version(app: Any) -> str:
    return ((await request(app)).header(b"x-version") or b"none").decode()


async def test_new_requests_have_the_new_plugins(configured: Configured) -> None:
    configured.write("1")
    async with configured.served() as app:
        assert await version(app) == "1"
        configured.write("2")
        assert await version(app) == "1"
        await app.reload()
        assert await version(app) == "2"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("plugins: [", SettingsError),
        ("nonsense: 1", SettingsError),
        (f"plugins: [{{name: headers, file: {HEADERS}.not}}]", PluginError),
        (f"plugins: [{{name: headers, file: {HEADERS}, conf: '{{'}}]", PluginError),
        (f"plugins: [{{name: headers, file: {HEADERS}, conf: '{{', failure_policy: fail_open}}]", PluginError),
    ],
)
async def test_what_cannot_start_changes_nothing(configured: Configured, text: str, error: type[Exception]) -> None:
    configured.write("1")
    async with configured.served() as app:
        before = app._worker
        configured.file.write_text(text + "\n")
        with pytest.raises(error):
            await app.reload()
        assert app._worker is before
        assert await version(app) == "1"
        configured.write("2")
        await app.reload()
        assert await version(app) == "2"


async def test_reload_before_a_start_is_a_start(configured: Configured) -> None:
    configured.write("1")
    app = WasmMiddleware(answering(b"app"), settings=str(configured.file))
    await app.reload()
    assert await version(app) == "1"
    await app.stop()


class Versions:
    """A guest of which each start is a version; it pauses where it is told to."""

    def __init__(self) -> None:
        self.starts = 0
        self.ended: list[int] = []
        self.pausing = False

    @property
    def guest(self) -> Guest:
        roots: dict[int, int] = {}

        def on_configure(api: Api, root: int, size: int) -> int:
            self.starts += 1
            api.host.version = self.starts  # type: ignore[attr-defined]
            roots[id(api.host)] = root
            return 1

        def on_request_headers(api: Api, *_: int) -> int:
            return int(self.pausing)

        def on_response_headers(api: Api, *_: int) -> int:
            api.add(RESPONSE_HEADERS, b"x-version", b"%d" % api.host.version)  # type: ignore[attr-defined]
            return 0

        def on_done(api: Api, context: int) -> int:
            if roots.get(id(api.host)) == context:
                self.ended.append(api.host.version)  # type: ignore[attr-defined]
            return 1

        return Guest(
            on_configure=on_configure,
            on_request_headers=on_request_headers,
            on_response_headers=on_response_headers,
            on_done=on_done,
        )


async def test_running_requests_end_on_the_plugins_that_they_began_with(wrap_guests: Wrap) -> None:
    """One that streams its answer, one whose app has not answered yet; then the old plugins end."""
    versions = Versions()
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/waits":
            await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await release.wait()
        await send({"type": "http.response.body", "body": b"b", "more_body": False})

    app = wrap_guests(slow, versions.guest)
    async with app:
        streams, waits = Connection(app), Connection(app, path="/waits")
        await streams.sent(2)
        await app.reload()
        late = Connection(app)
        await late.sent(2)
        assert (versions.starts, versions.ended) == (2, [])
        release.set()
        answers = [await each.over() for each in (streams, waits, late)]
        assert [answer.header(b"x-version") for answer in answers] == [b"1", b"1", b"2"]
        assert [answer.body for answer in answers] == [b"ab"] * 3
        await until(lambda: versions.ended == [1])
    assert versions.ended == [1, 2]


async def test_requests_while_the_old_plugins_stop(wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions()
    stop, stopping, may_stop = Worker.stop, asyncio.Event(), asyncio.Event()

    async def slowly(worker: Worker) -> None:
        await stop(worker)
        stopping.set()
        await may_stop.wait()

    monkeypatch.setattr(Worker, "stop", slowly)

    app = wrap_guests(answering(b"app"), versions.guest)
    await app.start()
    assert (await request(app)).header(b"x-version") == b"1"
    reloading = asyncio.ensure_future(app.reload())
    await stopping.wait()
    answers = [await request(app) for _ in range(2)]
    may_stop.set()
    assert [answer.header(b"x-version") for answer in answers] == [b"2", b"2"]
    await reloading
    await app.stop()


async def test_the_drain_timeout_ends_what_does_not_end(wrap_guests: Wrap) -> None:
    versions = Versions()

    app = wrap_guests(answering(b"app"), versions.guest, drain_timeout=0.05)
    async with app:
        versions.pausing = True
        paused = Connection(app)
        await asyncio.sleep(0)
        versions.pausing = False
        await app.reload()
        # Its VM is gone: the failure policy.
        assert (await paused.over()).status == 503
        assert (await request(app)).header(b"x-version") == b"2"
        await until(lambda: versions.ended == [1])


@pytest.mark.parametrize("way", ["stopped", "left to the loop"])
def test_what_drains_ends_with_the_middleware(wrap_guests: Wrap, way: str) -> None:
    versions = Versions()

    async def main() -> None:
        app = wrap_guests(answering(b"app"), versions.guest)
        await app.start()
        versions.pausing = True
        paused = Connection(app)
        await asyncio.sleep(0)
        await app.reload()
        assert versions.ended == []
        if way == "stopped":
            await app.stop()
            assert (await paused.over()).status == 503
            assert versions.ended == [1, 2]

    run(main)
    assert sorted(versions.ended) == [1, 2]


async def test_an_open_websocket_outlives_the_plugins_that_let_it_in(
    wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They drain as long as they may; its frames passed them by before already."""
    versions = Versions()

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    app = wrap_guests(echo, versions.guest, drain_timeout=3600)
    loop = asyncio.get_running_loop()
    clock = loop.time
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    outgoing: asyncio.Queue[Any] = asyncio.Queue()
    scope = {**http_scope(), "type": "websocket", "scheme": "ws", "subprotocols": []}
    async with app:
        connection = asyncio.ensure_future(app(scope, incoming.get, outgoing.put))
        incoming.put_nowait({"type": "websocket.connect"})
        accepted = await outgoing.get()
        assert dict(accepted["headers"])[b"x-version"] == b"1"
        await app.reload()
        for text in ("draining", "drained"):
            incoming.put_nowait({"type": "websocket.receive", "text": text})
            assert await outgoing.get() == {"type": "websocket.send", "text": text}
            if text == "draining":
                assert versions.ended == []
                monkeypatch.setattr(loop, "time", lambda: clock() + 3600)
                await until(lambda: versions.ended == [1])
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(connection, SCRIPT_SECONDS)


async def test_shared_data_queues_and_metrics_live_on(wrap_guests: Wrap) -> None:
    seen: list[tuple[int, bytes | None, bytes | None]] = []

    def on_request_headers(api: Api, *_: int) -> int:
        out = api.host.allocate(12)
        api.ok("define_metric", 0, *api.host.store(b"hits"), out)
        hits = api.host.read_u32(out)
        api.ok("increment_metric", hits, 1)
        api.ok("get_metric", hits, out)
        api.ok("register_shared_queue", *api.host.store(b"q"), out + 8)
        token = api.host.read_u32(out + 8)
        count = api.host.read_u32(out)
        # An empty queue has a status of its own.
        waiting = api.asked("dequeue_shared_queue", token) if count > 1 else None
        missing = api.call("get_shared_data", *api.host.store(b"key"), out, out + 4, out + 8)
        value = None if missing else api.host.memory.read(api.host.read_u32(out), api.host.read_u32(out + 4))
        seen.append((count, value, waiting))
        api.ok("set_shared_data", *api.host.store(b"key"), *api.host.store(b"%d" % count), 0)
        api.ok("enqueue_shared_queue", token, *api.host.store(b"%d" % count))
        return 0

    app = wrap_guests(answering(b"app"), Guest(on_request_headers=on_request_headers))
    async with app:
        for _ in range(3):
            await request(app)
            await app.reload()
    assert seen == [(1, None, None), (2, b"1", b"1"), (3, b"2", b"2")]


async def test_reloads_at_once_are_one_after_another(wrap_guests: Wrap) -> None:
    versions = Versions()

    app = wrap_guests(answering(b"app"), versions.guest)
    async with app:
        await asyncio.gather(*(app.reload() for _ in range(5)))
        assert (versions.starts, versions.ended) == (6, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("first", ["startup", "request"])
async def test_reloads_while_plugins_start(wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """They come after it, one after another; whoever asked for the start has it."""
    versions = Versions()
    start, starting, may_start = Worker.start, asyncio.Event(), asyncio.Event()

    async def slowly(worker: Worker, spec: Any) -> None:
        starting.set()
        await may_start.wait()
        await start(worker, spec)

    monkeypatch.setattr(Worker, "start", slowly)

    app = wrap_guests(answering(b"app"), versions.guest)
    begun = asyncio.ensure_future(app.start() if first == "startup" else request(app))
    await starting.wait()
    reloading = [asyncio.ensure_future(app.reload()) for _ in range(2)]
    asked = asyncio.ensure_future(request(app))
    await asyncio.sleep(0)
    assert (versions.starts, asked.done()) == (0, False)
    may_start.set()
    assert (await asked).body == b"app"
    await asyncio.gather(begun, *reloading)
    assert versions.starts == 3
    assert (await request(app)).header(b"x-version") == b"3"
    await until(lambda: versions.ended == [1, 2])
    await app.stop()
    assert versions.ended == [1, 2, 3]


async def test_a_stop_while_a_reload_starts_plugins(wrap_guests: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends those as well."""
    versions = Versions()
    start, starting, may_start = Worker.start, asyncio.Event(), asyncio.Event()

    app = wrap_guests(answering(b"app"), versions.guest)
    await app.start()

    async def slowly(worker: Worker, spec: Any) -> None:
        starting.set()
        await may_start.wait()
        await start(worker, spec)

    monkeypatch.setattr(Worker, "start", slowly)
    reloading = asyncio.ensure_future(app.reload())
    await starting.wait()
    stopping = asyncio.ensure_future(app.stop())
    await asyncio.sleep(0)
    may_start.set()
    await asyncio.gather(reloading, stopping)
    assert (versions.starts, versions.ended) == (2, [1, 2])
    assert not app.status().started


async def test_other_loops_follow(wrap_guests: Wrap) -> None:
    versions = Versions()
    asked, reloaded = threading.Event(), threading.Event()

    async def other(app: Any) -> None:
        assert (await request(app)).header(b"x-version") == b"2"
        asked.set()
        await until(reloaded.is_set)
        await until(lambda: versions.starts == 4)
        await until(lambda: len(versions.ended) == 2)
        assert (await request(app)).header(b"x-version") in (b"3", b"4")

    app = wrap_guests(answering(b"app"), versions.guest)
    async with app:
        thread = asyncio.ensure_future(asyncio.to_thread(asyncio.run, other(app)))
        await until(asked.is_set)
        await app.reload()
        reloaded.set()
        await thread


async def test_nothing_is_left_of_what_was_replaced(configured: Configured) -> None:
    configured.write("1")
    workers: list[weakref.ref[Any]] = []
    async with configured.served() as app:
        for _ in range(5):
            workers.append(weakref.ref(app._worker))
            assert await version(app) == "1"
            await app.reload()
        gc.collect()
        assert [worker() for worker in workers] == [None] * 5


# --- under load


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
RELOADS, CLIENTS = 20, 50


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
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=SCRIPT_SECONDS) as client:
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

    environment = {"ASGI_WASM_CACHE_DIR": str(folder / "cache")}
    # Not to be mixed up with a request that is lost: uvicorn closes connections that are idle for five seconds.
    with serve("served:app", "--timeout-keep-alive", "600", cwd=folder, env=environment) as server:
        await main()
        log = server.log()
    assert {status for status, _, _ in answers} == {200}
    assert [answer for answer in answers if answer[1] != f"{answer[2]}."] == []
    assert {seen for _, _, seen in answers} >= {str(number) for number in range(1, RELOADS)}
    assert "Traceback" not in log


# --- watch


@pytest.fixture
def watchfiles() -> None:
    pytest.importorskip("watchfiles", reason="watchfiles has no wheel for this Python")


@pytest.mark.usefixtures("watchfiles")
def test_watch_follows_the_settings_file(configured: Configured, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is wrong changes nothing, and is said once."""

    async def main() -> None:
        configured.write("1", watch="true")
        async with configured.served() as app:
            assert await version(app) == "1"
            configured.write("2", watch="true")
            await _becomes(app, "2")
            configured.file.write_text("plugins: [\n")
            await until(lambda: "were not reloaded, and those from before run on: wasm.yaml" in caplog.text)
            assert await version(app) == "2"
            configured.write("3", watch="true")
            await _becomes(app, "3")
            # Without it, nothing is followed any more.
            configured.write("4")
            await _becomes(app, "4")
            configured.write("5")
            await asyncio.sleep(0.5)
            assert await version(app) == "4"

    with caplog.at_level(logging.INFO):
        run(main)
    assert caplog.text.count("the plugins were reloaded") == 3


@pytest.mark.usefixtures("watchfiles")
@pytest.mark.parametrize("way", ["replaced", "written over", "a link moved"])
def test_watch_follows_a_plugins_file(configured: Configured, tmp_path: Path, way: str) -> None:
    """A volume of Kubernetes is a link to a folder, moved at once."""
    for name, plugin in (("one", "headers/rust.wasm"), ("two", "trailers/c.wasm")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plugin.wasm").write_bytes((ROOT / "plugins" / plugin).read_bytes())
    link, file = tmp_path / "now", tmp_path / "plugin.wasm"
    if way == "a link moved":
        link.symlink_to("one")
        file.symlink_to("now/plugin.wasm")
    else:
        file.write_bytes((tmp_path / "one/plugin.wasm").read_bytes())

    def change() -> None:
        if way == "a link moved":
            (tmp_path / "next").symlink_to("two")
            os.replace(tmp_path / "next", link)
        elif way == "replaced":
            os.replace(tmp_path / "two/plugin.wasm", file)
        else:
            file.write_bytes((tmp_path / "two/plugin.wasm").read_bytes())

    async def main() -> None:
        conf = Configured.conf("1")
        entry = {"name": "p", "file": file, "conf": conf}
        app = WasmMiddleware(answering(b"app"), settings={"plugins": [entry], "watch": True}, cache_dir=tmp_path / "c")
        async with app:
            assert await version(app) == "1"
            change()
            await _becomes(app, "none")

    run(main)


async def _becomes(app: Any, wanted: str) -> None:
    deadline = asyncio.get_running_loop().time() + SCRIPT_SECONDS
    while await version(app) != wanted:
        assert asyncio.get_running_loop().time() < deadline, "it was not reloaded"
        await asyncio.sleep(0.02)


async def test_watch_where_the_system_tells_of_no_changes(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All places of inotify are taken, say: files are looked at all the same."""

    def nothing_left(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    pytest.importorskip("watchfiles")
    monkeypatch.setattr("watchfiles.main.RustNotify", nothing_left)
    monkeypatch.setattr("asgi_wasm.worker.watch._LOOK_MILLISECONDS", 20)
    configured.write("1", watch="true")
    async with configured.served() as app:
        assert await version(app) == "1"
        await until(lambda: "cannot tell of changes (OS file watch limit reached)" in caplog.text)
        configured.write("2", watch="true")
        await _becomes(app, "2")


async def test_watch_without_its_extra(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.worker.watch.find_spec", lambda name: None)
    configured.write("1", watch="true")

    with pytest.raises(MissingExtraError, match=r"the settings say 'watch': pip install 'asgi-wasm\[watch\]'"):
        async with configured.served():
            pass
