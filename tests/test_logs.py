"""Whatever a log line of the host quotes stays on that line."""

from __future__ import annotations

import io
import logging
import weakref
from collections.abc import Iterator

import pytest

from asgi_wasm.logs import MOST_KNOWN, QUIET_SECONDS, Seldom, escape, get_logger

EVIL = "x\nlog uvicorn.error critical forged \x1b[2J\u2028\r"


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a plain handler writes of the logger ``asgi_wasm.tried``."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("log %(name)s %(message)s"))
    logger = get_logger("asgi_wasm.tried")
    logger.addHandler(handler)
    try:
        yield written
    finally:
        logger.removeHandler(handler)


class Rude:
    """Something whose own words cannot be trusted."""

    def __str__(self) -> str:
        return EVIL

    __repr__ = __str__


@pytest.mark.parametrize(
    "value", [EVIL, EVIL.encode(), ValueError(EVIL), Rude()], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("form", ["%s", "%r", "%.900s", "%-80s"])
def test_what_is_quoted_stays_on_the_line(output: io.StringIO, form: str, value: object) -> None:
    get_logger("asgi_wasm.tried").warning(f"before {form} after", value)
    text = output.getvalue()
    assert len(text.splitlines()) == 1 and text[:-1].isprintable()
    assert "forged" in text and text.endswith("after\n")


@pytest.mark.parametrize("form", ["%(one)s", "%(one)r"])
def test_named_arguments(output: io.StringIO, form: str) -> None:
    get_logger("asgi_wasm.tried").warning(form, {"one": EVIL})
    assert len(output.getvalue().splitlines()) == 1


def test_a_message_that_is_put_together_by_its_caller(output: io.StringIO) -> None:
    get_logger("asgi_wasm.tried").warning(EVIL)
    assert output.getvalue() == f"log asgi_wasm.tried {escape(EVIL)}\n"


def test_numbers_and_plain_text_stay_what_they_are(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("asgi_wasm.tried").warning("%d %.1f %s %r", 7, 0.25, "plain", "quoted")
    assert caplog.records[0].args == (7, 0.25, "plain", "quoted")
    assert caplog.records[0].getMessage() == "7 0.2 plain 'quoted'"


def test_a_traceback_has_lines_of_which_none_looks_like_one_of_the_log(output: io.StringIO) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        get_logger("asgi_wasm.tried").exception("it failed")
    first, *others = output.getvalue().splitlines()
    assert first == "log asgi_wasm.tried it failed"
    assert others[0] == "  Traceback (most recent call last):"
    assert any("forged" in line for line in others)
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_a_record_keeps_nothing_of_where_an_exception_was_raised(caplog: pytest.LogCaptureFixture) -> None:
    class Large:
        pass

    def fail() -> weakref.ref[Large]:
        large = Large()
        try:
            raise ValueError("what it said")
        except ValueError as error:
            get_logger("asgi_wasm.tried").warning("it failed: %s, %r", error, error)
        return weakref.ref(large)

    assert fail()() is None
    assert caplog.records[0].getMessage() == "it failed: what it said, ValueError('what it said')"


def test_a_logger_whose_name_is_somebodys() -> None:
    assert get_logger("asgi_wasm.plugin.a\nb").name == "asgi_wasm.plugin.a\\nb"


class TestSeldom:
    def test_a_line_comes_again_after_a_minute_with_how_many_were_left_out(self) -> None:
        now = 0.0
        seldom = Seldom(lambda: now)
        assert [seldom.passes("cut") for _ in range(4)] == ["cut", None, None, None]
        assert seldom.passes("other") == "other"
        now = QUIET_SECONDS
        assert seldom.passes("cut") == "cut (3 more like it since the last)"
        assert seldom.passes("cut") is None
        now = 2 * QUIET_SECONDS + 1
        assert seldom.passes("other") == "other"

    def test_lines_that_differ_each_time_are_bounded(self) -> None:
        """A client chooses what some of them quote."""
        now = 0.0
        seldom = Seldom(lambda: now)
        passed = [line for number in range(10 * MOST_KNOWN) if (line := seldom.passes(f"cut {number}"))]
        assert len(passed) == MOST_KNOWN + 1
        assert len(seldom._written) == MOST_KNOWN + 1
        now = QUIET_SECONDS
        assert seldom.passes("new") == "new"
        assert len(seldom._written) == 1
