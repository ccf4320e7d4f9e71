"""The benchmark measures what it says: plugins and their twins do the same, and its parts run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asgi_wasm.asgi.types import Receive, Scope, Send
from tests.bench import calls, grpc_calls, guests, in_process, report, runner, scenarios, wrk
from tests.bench.apps import APPS, BODY_CHANGED, BODY_READ, HEADERS, Plugin, Setup, fault, read_setup
from tests.bench.in_process import Request, Subject, Timing, started
from tests.driving import Response, request
from tests.serving import serve

ANSWER = [(b"content-length", b"11"), (b"content-type", b"text/plain")]


async def answer_of(setup: Setup, *, path: str = "/", body: bytes = b"") -> Response:
    async with started(setup) as app:
        return await request(app, "POST" if body else "GET", path, body=[body] if body else [])


def run(setup: Setup, path: str = "/", body: bytes = b"") -> Response:
    return asyncio.run(answer_of(setup, path=path, body=body))


@pytest.mark.parametrize("language", scenarios.LANGUAGES)
def test_fault_injection_answers_as_its_twin(language: str) -> None:
    plugin, twin = run(Setup(plugins=(fault(language),))), run(Setup(twin="fault"))
    assert (plugin.status, plugin.body) == (twin.status, twin.body) == (200, b"hello world")
    for answer in (plugin, twin):
        assert sorted(field for field in answer.headers if field[0] != b"x-wasm-plugin") == ANSWER


@pytest.mark.parametrize("many", [False, True], ids=["one connection", "many"])
async def test_external_runner_answers_as_the_native_middleware(many: bool) -> None:
    async def ask(path: str) -> list[Response]:
        middleware = runner.RunnerMiddleware(Setup().build(), path, many=many)
        try:
            return [await request(middleware), *await asyncio.gather(*(request(middleware) for _ in range(3)))]
        finally:
            middleware.close()
            await asyncio.sleep(0)

    with wrk.external_runner() as path:
        answers = await ask(path)
    for answer in answers:
        assert (answer.status, answer.body) == (200, b"hello world")
        assert sorted(answer.headers) == sorted([(b"x-wasm-plugin", b"fault_injection/runner"), *ANSWER])


def test_frames_are_cut_wherever_they_arrive() -> None:
    data = runner.frame(b"a\0b", b"body") + runner.frame(b"c")
    for size in range(1, len(data) + 1):
        frames = runner.Frames()
        found = [frame for at in range(0, len(data), size) for frame in frames.feed(data[at : at + size])]
        assert found == [(b"a\0b", b"body"), (b"c", b"")]


@pytest.mark.parametrize("setup", [Setup(plugins=(HEADERS,)), Setup(twin="headers")], ids=["plugin", "twin"])
def test_header_plugin_and_its_twin_add_the_same(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setitem(APPS, "bare", lambda: app)
    answer = run(setup)
    assert (b"x-plugin", b"here") in seen[0]["headers"]
    assert (b"x-plugin-out", b"here") in answer.headers


@pytest.mark.parametrize(
    ("plugin", "twin", "body"),
    [(BODY_READ, "bodies read", b"x" * 65_536), (BODY_CHANGED, "bodies changed", b"X" + b"x" * 65_535)],
    ids=["read", "changed"],
)
def test_body_plugins_and_their_twins_do_the_same(plugin: Plugin, twin: str, body: bytes) -> None:
    for setup in (Setup(plugins=(plugin,)), Setup(twin=twin)):
        assert run(setup, path="/64 kB").body == body
        assert run(setup, path="/upload", body=b"x" * 10_000).body == b"10000"


async def test_in_process_scenarios_run(tmp_path: Path) -> None:
    subjects = scenarios.in_process(tmp_path, quick=True)
    timings = await in_process.time_requests(subjects, rounds=1)
    assert timings.keys() == subjects.keys()
    # The app itself, which nothing is around.
    assert timings["bare app"].calls == 2
    for name, subject in subjects.items():
        assert report.base_of(name) in subjects
        # The app's two functions where no plugin answers; the middleware's, of which the accelerator needs none.
        least = 0 if name.startswith("fault injection") else 2
        least += (subject.setup.settings or {}).get("accelerator") == "off"
        assert timings[name].calls >= least or not subject.setup.plugins


@pytest.mark.parametrize("hostcall", guests.HOSTCALLS)
def test_hostcall_guests_make_their_calls(hostcall: str, tmp_path: Path) -> None:
    plugin = Plugin(str(guests.repeated(tmp_path, hostcall, 3)))
    assert run(Setup(plugins=(plugin,))).status == 200


def test_starts_are_timed(tmp_path: Path) -> None:
    times = in_process.time_starts(Setup(plugins=(HEADERS,)), [str(tmp_path / "cache")])
    assert times.keys() == {"cold", "warm", "vm"}
    assert times["cold"] > 0


def test_a_server_is_told_its_setup_by_its_environment() -> None:
    setup = Setup("starlette", (HEADERS, fault("c")))
    (text,) = setup.environment().values()
    assert read_setup(text) == setup
    with serve("tests.bench.apps:served", "--factory", env=Setup(twin="fault").environment()) as server:
        import httpx

        assert httpx.get(server.url).text == "hello world"


def test_report_tells_costs_ratios_and_what_is_missing(tmp_path: Path) -> None:
    results = report.Results(
        timings={
            "bare app": Timing(1.0, 0.9, 1.1, 2),
            "header plugin": Timing(3.0, 2.9, 3.1, 8),
            "2 header plugins": Timing(4.0, 3.9, 4.1, 9),
        },
        rates={
            "bare app": wrk.Rate(100.0, 90.0, 110.0),
            "native header middleware": wrk.Rate(80.0, 79.0, 81.0),
            "header plugin": wrk.Rate(60.0, 59.0, 61.0),
            "fault injection, C": wrk.Rate(70.0, 69.0, 71.0),
        },
        hostcalls={"proxy_log": 0.5},
        starts={"c": {"cold": 10.0, "warm": 5.0, "vm": 1.0}},
        memory={"c": {"vm": 2048.0, "request": 1024.0}},
        missing=["no wrk"],
    )
    text = report.markdown(results)
    assert "Left out: no wrk." in text
    assert "| header plugin | 3.00 (2.90 to 3.10) | +2.00 | 8 |" in text
    assert "| in process: a further header plugin / the first | 0.50 |" in text
    assert "| wrk: header plugin / native header middleware | 0.75 |" in text
    assert "| c | 10 | 5.0 | 1.00 | 2 kB | 1 kB |" in text


def test_without_wrk_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(wrk.NoWrkError, match="apt-get install wrk"):
        wrk.wrk()


def test_requests_are_cut_into_pieces() -> None:
    messages = Request("/upload", b"abcdefg", 3).messages()
    assert [(message["body"], message["more_body"]) for message in messages] == [
        (b"abc", True),
        (b"def", True),
        (b"g", False),
    ]
    assert Subject(Setup()).request.messages() == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_calls_are_measured_beside_httpx() -> None:
    found = await calls.measure(rounds=1, times=20)
    assert list(found) == ["a plugin's HTTP call", "httpx's transport", "httpx's client"]
    assert all(found.values())
    assert "| httpx's client | " in report.markdown(report.Results(calls=found))


async def test_grpc_calls_are_measured_beside_grpcio() -> None:
    found = await grpc_calls.measure(rounds=1, times=1)
    assert min(found.values()) > 0
    assert "| a plugin's gRPC call | " in report.markdown(report.Results(calls=found))
