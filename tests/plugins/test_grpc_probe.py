"""gRPC callback by callback, by a plugin without an SDK, against a real server: as the real Envoy has it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest

from tests.broken_grpc_server import broken_grpc_server, deaf_server
from tests.driving import answering, request, until
from tests.grpc_server import Server, grpc_server
from tests.plugins.conftest import Wrap
from tests.plugins.grpc_broken_cases import BROKEN_CASES
from tests.plugins.grpc_cases import CASES, normal
from tests.serving import free_port

_QUIET_SECONDS = 0.1


async def probe(
    wrap: Wrap,
    caplog: pytest.LogCaptureFixture,
    script: str,
    count: int,
    file: str = "grpc_probe/c",
    **backend: Any,
) -> tuple[list[str], Server]:
    """What the probe logs of its script: ``count`` lines, and whatever comes for a while after them.

    ``backend`` are settings of that upstream.
    """

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "asgi_wasm.plugin.grpc_probe"]

    with caplog.at_level(logging.INFO, logger="asgi_wasm"), deaf_server() as deaf:
        async with grpc_server() as server, broken_grpc_server() as broken:
            ports = {"backend": server.port, "broken": broken.port, "dead": free_port(), "deaf": deaf}
            upstreams: dict[str, Any] = {name: {"url": f"http://127.0.0.1:{port}"} for name, port in ports.items()}
            upstreams["backend"].update(backend)
            app = wrap(answering(), file, upstreams=upstreams, conf=script)
            await app.start()
            await request(app)
            await until(lambda: len(lines()) >= count)
            await asyncio.sleep(_QUIET_SECONDS)
            await app.stop()
    return lines(), server


@pytest.mark.parametrize("name", CASES)
async def test_as_in_envoy(wrap: Wrap, caplog: pytest.LogCaptureFixture, name: str) -> None:
    case = CASES[name]
    lines, _ = await probe(wrap, caplog, case.script, len(case.lines))
    assert normal(lines) == case.lines


@pytest.mark.parametrize("mode", BROKEN_CASES)
async def test_a_server_that_misbehaves_is_what_it_is_in_envoy(
    wrap: Wrap, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], mode: str
) -> None:
    case = BROKEN_CASES[mode]
    lines, _ = await probe(wrap, caplog, case.script, len(case.lines))
    assert lines == case.lines
    assert "Traceback" not in caplog.text
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("file", ["grpc_probe/c", "grpc_probe/short"])
async def test_both_shapes_of_the_imports(wrap: Wrap, caplog: pytest.LogCaptureFixture, file: str) -> None:
    script = "request call backend test.Auth Check x-a=1 hi 60000\nreceive:5 stream backend test.Auth Many x-a=1\n"
    lines, server = await probe(wrap, caplog, f"{script}receive:5 end 6 2", 8, file)
    assert [line for line in lines if "initial" not in line and "trailing" not in line] == [
        *["call = 0, token 5", "receive(5, 2) hi", "stream = 0, token 6", "end = 0"],
        *["receive(6, 1) 0", "receive(6, 1) 1", "close(6, 0)"],
    ]
    assert [(method, messages) for method, _, messages in server.calls] == [
        ("/test.Auth/Check", [b"hi"]),
        ("/test.Auth/Many", [b"2"]),
    ]
    assert [metadata.get("x-a") for _, metadata, _ in server.calls] == ["1" if file.endswith("/c") else None] * 2


async def test_metadata(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    """Any case, several of a name, bytes under `-bin`, the upstream's own; what only the host may say is left out."""
    metadata = "X-Case=1&x-two=a&x-two=b&x-raw-bin=%00%ff&:authority=other&te=x&x-sp=%20a"
    script = f"request call backend test.Auth Check {metadata} hi 60000"
    _, server = await probe(wrap, caplog, script, 2, headers={"X-Key": "secret"})
    ((_, got, _),) = server.calls
    assert got == {"x-case": "1", "x-two": "b", "x-raw-bin": b"\x00\xff", "x-key": "secret", "x-sp": " a"}
    for name in (b":authority", b"te"):
        assert f"plugin 'grpc_probe': the metadata {name!r} is gRPC's own: it is left out" in caplog.text


@pytest.mark.parametrize("metadata", ["a%20b=1", "%ff=1", "x=%01", "x=a%0d%0ab", "x=%7f", "x=%00", "=1"])
async def test_metadata_that_no_header_may_be(wrap: Wrap, caplog: pytest.LogCaptureFixture, metadata: str) -> None:
    script = (
        f"request call backend test.Auth Check {metadata} hi 60000\nrequest stream backend test.Auth Check {metadata}"
    )
    lines, server = await probe(wrap, caplog, script, 2)
    assert lines == ["call = 10, token 0", "stream = 10, token 0"]
    assert server.calls == []


@pytest.mark.parametrize(
    ("asked", "settings", "least", "most"),
    [
        (300_000, {}, 200, 300),
        (0, {"timeout": 400}, 300, 400),
        (300_000, {"timeout": 600}, 200, 300),
        (600_000, {"timeout": 400}, 300, 400),
    ],
    ids=["asked", "of-the-upstream", "asked-is-less", "of-the-upstream-is-less"],
)
async def test_deadline_that_the_server_is_told(
    wrap: Wrap, caplog: pytest.LogCaptureFixture, asked: int, settings: dict[str, Any], least: float, most: float
) -> None:
    script = f"request call backend test.Auth Check _ hi {asked}"
    lines, server = await probe(wrap, caplog, script, 2, **settings)
    assert lines == ["call = 0, token 5", "receive(5, 2) hi"]
    # gRPC rounds it up.
    assert least < (server.deadlines[0] or 0) <= most + 1


async def test_no_deadline(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    script = (
        "request call backend test.Auth Check _ hi 0\nreceive:5 stream backend test.Auth Check _\nreceive:5 close 6"
    )
    _, server = await probe(wrap, caplog, script, 6)
    assert server.deadlines == [None, None]


async def test_wide_metadata(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = await probe(wrap, caplog, "request stream backend test.Auth Wide _", 5)
    assert lines[1].endswith(" x-wide=" + "w" * 30_000)


async def test_many_at_once(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    opened = [f"request stream backend test.Auth Many _\nrequest end {6 + 4 * index} 50" for index in range(30)]
    lines, _ = await probe(wrap, caplog, "\n".join(opened), 30 * (2 + 1 + 50 + 2))
    for token in range(6, 6 + 4 * 30, 4):
        mine = [line for line in lines if f"({token}, " in line]
        numbers = [f"receive({token}, {len(str(index))}) {index}" for index in range(50)]
        assert mine[1:-2] == numbers
        assert mine[0].startswith("initial") and mine[-2].startswith("trailing") and mine[-1] == f"close({token}, 0)"


async def test_nothing_of_the_environment(
    wrap: Wrap, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    lines, _ = await probe(wrap, caplog, "request call backend test.Auth Check _ hi 60000", 2)
    assert lines == ["call = 0, token 5", "receive(5, 2) hi"]


async def test_without_h2(wrap: Wrap, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    script = "request call backend test.Auth Check _ hi 60000\nrequest stream backend test.Auth Check _"
    lines, _ = await probe(wrap, caplog, script, 2)
    assert lines == ["call = 4, token 0", "stream = 4, token 0"]
    assert caplog.text.count("h2 is not installed: pip install 'asgi-wasm[grpc]'") == 1


def test_h2_is_imported_by_the_first_call_only() -> None:
    code = "import sys, asgi_wasm.middleware; sys.exit('h2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
