"""What a real plugin logs, as records: where each is from, and from which level on."""

from __future__ import annotations

import logging

import pytest

from tests.driving import answering, request, until
from tests.plugins.conftest import Wrap

SCRIPT = """
configure: get_log_level
configure: log 2 "starting"
request_headers: log 1 "debug"
request_headers: log 2 "info"
request_headers: log 4 "error"
"""


async def logged(wrap: Wrap, caplog: pytest.LogCaptureFixture, **entry: object) -> list[logging.LogRecord]:
    with caplog.at_level(logging.DEBUG, logger="asgi_wasm.plugin.probe"):
        app = wrap(answering(), "probe/abi_0_2_1", conf=SCRIPT, vm_id="v", **entry)
        async with app:
            await request(app, headers=[(b"x-request-id", b"r-1")])
    # The probe itself tells of every call.
    return [record for record in caplog.records if record.getMessage() in ("starting", "debug", "info", "error")]


async def test_where_a_record_is_from(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    starting, *of_request = await logged(wrap, caplog)
    assert [starting.__dict__[key] for key in ("plugin", "vm_id", "request_id")] == ["probe", "v", ""]
    assert len(of_request) == 3
    for record in of_request:
        assert [record.__dict__[key] for key in ("plugin", "vm_id", "request_id")] == ["probe", "v", "r-1"]
        assert record.__dict__["context_id"] > starting.__dict__["context_id"] > 0


@pytest.mark.parametrize(("level", "words"), [("info", ["starting", "info", "error"]), ("ERROR", ["error"])])
async def test_a_level_of_its_own(wrap: Wrap, caplog: pytest.LogCaptureFixture, level: str, words: list[str]) -> None:
    assert [record.getMessage() for record in await logged(wrap, caplog, log_level=level)] == words


FIELDS = ("plugin", "vm_id", "request_id")


def of_host(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "asgi_wasm.host" and words in record.getMessage()]


@pytest.mark.parametrize("phase", ["request_headers", "response_headers", "log", "done"])
async def test_where_a_failure_was(wrap: Wrap, caplog: pytest.LogCaptureFixture, phase: str) -> None:
    """The host's line about it can be found by the request, as the plugin's own."""
    async with wrap(answering(), "probe/abi_0_2_1", conf=f"{phase}: trap", vm_id="v") as app:
        await request(app, headers=[(b"x-request-id", b"r-1")])
    (record,) = of_host(caplog, "its VM failed")
    assert [record.__dict__[key] for key in FIELDS] == ["probe", "v", "r-1"]
    assert record.__dict__["context_id"] > 1


async def test_where_a_failure_outside_of_requests_was(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    script = "configure: set_tick_period_milliseconds 1\ntick: trap"
    async with wrap(answering(), "probe/abi_0_2_1", conf=script, vm_id="v"):
        await until(lambda: bool(of_host(caplog, "its VM failed in proxy_on_tick")))
    record = of_host(caplog, "its VM failed in proxy_on_tick")[0]
    assert [record.__dict__[key] for key in FIELDS] == ["probe", "v", ""]
    assert record.__dict__["context_id"] > 0
