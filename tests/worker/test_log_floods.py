"""What any request can cause again does not fill the log, and a start that fails is not tried by each request."""

from __future__ import annotations

import ast
import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from asgi_wasm import SettingsError, WasmMiddleware
from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.vm.vm import ForeignFunction
from asgi_wasm.services.log import StandardLog
from asgi_wasm.specs import HostSpec
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request
from tests.guests import CONTINUE, Guest, Wrap
from tests.test_imports import PACKAGE

REQUESTS = 40


def told(caplog: pytest.LogCaptureFixture, words: str = "") -> list[str]:
    """The host's lines so far, of warnings and worse."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and words in record.getMessage()
    ]


async def test_plugins_that_are_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each at the start, and one when the first request meets it."""
    plugins = [
        {"name": name, "file": str(tmp_path / "none.wasm"), "failure_policy": policy}
        for name, policy in (("a", "fail_open"), ("b", "fail_closed"))
    ]
    app = WasmMiddleware(answering(b"app"), settings={"plugins": plugins})
    assert {(await request(app)).status for _ in range(REQUESTS)} == {503}
    assert len(told(caplog, "cannot be read")) == 4


@pytest.mark.parametrize(
    "error", [SettingsError("mistaken"), RuntimeError("a bug")], ids=lambda error: type(error).__name__
)
async def test_a_start_that_fails(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried and told once for many requests, and again after a pause, in which nobody waits."""
    app = WasmMiddleware(answering(b"app"), settings={})
    tried, works = [], False

    def configure() -> tuple[HostSpec, Mapping[str, ForeignFunction]]:
        tried.append(1)
        if works:
            return HostSpec(), {}
        raise error

    monkeypatch.setattr(app._workers, "_configure", configure)
    answers = await asyncio.gather(*(request(app) for _ in range(REQUESTS)))
    assert {answer.status for answer in answers} == {503}
    assert (len(tried), len(told(caplog, "every request is refused: "))) == (1, 1)

    monkeypatch.setattr("asgi_wasm.worker.place._LEAST_PAUSE", 0.0)
    monkeypatch.setattr("asgi_wasm.worker.place._PAUSE_FACTOR", 0)
    place = next(iter(app._workers._places.values()))
    place.start_failed(0.0)
    assert (await request(app)).status == 503
    assert (len(tried), len(told(caplog, "every request is refused: "))) == (2, 1)
    works = True
    assert (await request(app)).status == 200


async def test_the_pause_grows_with_what_a_start_costs(tmp_path: Path) -> None:
    app = WasmMiddleware(answering(b"app"), settings={"plugins": "mistaken"})
    assert (await request(app)).status == 503
    place, loop = next(iter(app._workers._places.values())), asyncio.get_running_loop()
    place.start_failed(loop.time() - 3.0)
    assert 25.0 < place._next_start - loop.time() <= 31.0
    place.start_failed(loop.time() - 3000.0)
    assert place._next_start - loop.time() <= 60.0


async def test_a_plugin_that_traps_on_each_request(wrap_guests: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    def on_request_headers(api: Hostcalls, context: int, count: int, end: int) -> int:
        raise GuestTrap("always")

    app = wrap_guests(answering(b"app"), Guest(on_request_headers=on_request_headers))
    assert {(await request(app)).status for _ in range(REQUESTS)} == {503}
    assert len(told(caplog, "its VM failed")) == 1
    assert len(told(caplog, "it is started again")) == 1


async def test_a_response_that_is_cut_each_time(wrap_guests: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    def on_response_body(api: Hostcalls, context: int, size: int, end: int) -> int:
        if end:
            api.send_local_response(403, b"too late")
        return CONTINUE

    app = wrap_guests(answering(b"a", b"b"), Guest(on_response_body=on_response_body))
    assert {(await request(app)).complete for _ in range(REQUESTS)} == {False}
    assert len(told(caplog, "a response was cut off: ")) == 1


def test_news_and_different_lines_are_all_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_wasm.host")
    log = StandardLog()
    for _ in range(3):
        log.host("waf", LogLevel.INFO, "observed")
        log.host("waf", LogLevel.WARN, "slow")
        log.host("auth", LogLevel.WARN, "slow")
        log.host("", LogLevel.ERROR, "a response was cut off")
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("plugin 'waf': observed") == 3
    assert sorted(set(lines)) == sorted([*lines[:4]])
    assert len(lines) == 6
    assert [getattr(record, "plugin", None) for record in caplog.records][:4] == ["waf", "waf", "auth", None]


def test_whoever_serves_a_request_tells_of_it_through_the_port() -> None:
    """Which leaves out what repeats itself; loggers of their own would not. Startup and shutdown come once."""
    loud = {"warning", "error", "exception", "critical"}
    found = {
        path.name
        for path in (PACKAGE / "asgi").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id == "logger" and node.attr in loud
    }
    assert found == {"lifespan.py"}
