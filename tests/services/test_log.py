"""Logger names, levels, escaping."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.ports import LogOrigin
from asgi_wasm.logs import escape
from asgi_wasm.services.log import StandardLog

LEVELS = {
    LogLevel.TRACE: 5,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.CRITICAL: logging.CRITICAL,
}


@pytest.mark.parametrize(("level", "number"), LEVELS.items())
def test_plugins_words_go_to_their_own_logger(caplog: pytest.LogCaptureFixture, level: LogLevel, number: int) -> None:
    with caplog.at_level(1):
        StandardLog().plugin("waf", level, b"blocked %s {x}")
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("asgi_wasm.plugin.waf", number, "blocked %s {x}")


def test_hosts_words(caplog: pytest.LogCaptureFixture) -> None:
    StandardLog().host("waf", LogLevel.WARN, "imports\nnonsense")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asgi_wasm.host", logging.WARNING)
    assert record.getMessage() == "plugin 'waf': imports\\nnonsense"


def test_a_sentence_of_the_hosts_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """It may quote an upstream's broken answer, or a plugin's name for something: how long, they decide."""
    with caplog.at_level(logging.INFO):
        StandardLog().host("waf", LogLevel.INFO, "HTTP call to 'auth': " + "x" * 100_000)
    (message,) = caplog.messages
    assert message.startswith("plugin 'waf': HTTP call to 'auth': xxx") and len(message) < 2100
    assert message.endswith("... (100035 characters in all)")


@pytest.mark.parametrize(
    ("number", "level"),
    [
        (1, LogLevel.TRACE),
        (5, LogLevel.TRACE),
        (6, LogLevel.DEBUG),
        (logging.DEBUG, LogLevel.DEBUG),
        (logging.INFO, LogLevel.INFO),
        (25, LogLevel.WARN),
        (logging.WARNING, LogLevel.WARN),
        (logging.ERROR, LogLevel.ERROR),
        (logging.CRITICAL, LogLevel.CRITICAL),
        (99, LogLevel.CRITICAL),
    ],
)
def test_log_level_follows_the_logger(number: int, level: LogLevel) -> None:
    """Also when it changes while the plugin runs, and when a parent has the level."""
    log = StandardLog()
    for name in ("asgi_wasm.plugin.follows", "asgi_wasm"):
        logger = logging.getLogger(name)
        before = logger.level
        logger.setLevel(number)
        try:
            assert log.level("follows") is level
        finally:
            logger.setLevel(before)


def test_a_line_below_the_level_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    log = StandardLog()
    with caplog.at_level(logging.WARNING):
        log.plugin("waf", LogLevel.INFO, b"quiet")
        log.plugin("waf", LogLevel.ERROR, b"loud")
    assert [record.getMessage() for record in caplog.records] == ["loud"]


def test_last_lines_are_the_last_five_of_that_plugin() -> None:
    log = StandardLog()
    for number in range(7):
        log.plugin("waf", LogLevel.ERROR, b"%d\n" % number)
    log.plugin("other", LogLevel.ERROR, b"x")
    assert log.last_lines("waf") == ("2\\n", "3\\n", "4\\n", "5\\n", "6\\n")
    assert log.last_lines("unknown") == ()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"plain", "plain"),
        ("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode(), "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"),
        (b"a\nERROR forged", "a\\nERROR forged"),
        (b"\x1b[2J", "\\x1b[2J"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u2028\u202e".encode(), "\\u2028\\u202e"),
        (b"\0\x7f\x85", "\\x00\\x7f\\x85"),
    ],
)
def test_escape(message: bytes, text: str) -> None:
    assert escape(message) == text


@given(st.binary())
def test_any_bytes_stay_on_one_line(message: bytes) -> None:
    text = escape(message)
    assert text == "" or text.isprintable()
    assert len(text.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f]", text)


def test_records_say_where_they_are_from(caplog: pytest.LogCaptureFixture) -> None:
    log = StandardLog()
    with caplog.at_level(1):
        log.plugin("waf", LogLevel.INFO, b"words", LogOrigin("vm", 7, b"id\n1"))
        log.plugin("waf", LogLevel.INFO, b"words")
        log.host("waf", LogLevel.WARN, "words")
        log.host("waf", LogLevel.WARN, "more", LogOrigin("vm", 7, b"id\n1"))
        log.host("", LogLevel.WARN, "of no plugin")
    keys = ("plugin", "vm_id", "context_id", "request_id")
    told = [[record.__dict__.get(key) for key in keys] for record in caplog.records]
    assert told == [
        ["waf", "vm", 7, "id\\n1"],
        ["waf", "", 0, ""],
        ["waf", None, None, None],
        ["waf", "vm", 7, "id\\n1"],
        [None] * 4,
    ]
