"""Expressions and conditions in CEL, without a host around them."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import pytest

from asgi_wasm.cel import CelMissingError, Expression, WrongExpressionError

READ: dict[tuple[bytes, ...], Any] = {
    (b"request", b"path"): b"/a",
    (b"request", b"method"): b"GET",
    (b"request", b"headers"): {b"x-one": b"1", b"x-odd": b"\xff"},
    (b"request", b"time"): 1_700_000_000_000_000_000,
    (b"source", b"port"): 80,
}


def read(path: tuple[bytes, ...]) -> Any:
    return READ[path[:2]].get(path[2]) if len(path) == 3 else READ.get(path)


def holds(text: str) -> bool:
    return Expression(text, is_condition=True).holds(read)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("request.path == '/a'", True),
        ('request.headers["x-one"] == "1"', True),
        ("request.headers['X-One'] == '1'", True),
        # One that is not there is empty, whichever way it is compared.
        ("request.headers['x-none'] == '1'", False),
        ("request.headers['x-none'] != '1'", True),
        ("!(request.headers['x-none'] in ['1', '2'])", True),
        # Unless it is asked for.
        ("'x-none' in request.headers", False),
        ("'x-one' in request.headers && request.headers['x-one'] == '1'", True),
        ("request.headers['x-odd'] == '\ufffd'", True),
        ("request.path.startsWith('/') && request.method != 'POST'", True),
        ("request.path.matches('^/[b-z]')", False),
        ("request.time < timestamp('2024-01-01T00:00:00Z') && source.port == 80", True),
        ("request.headers.exists(name, name.startsWith('x-'))", True),
        ("random() < 0.0", False),
        ("random() < 1.0", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert holds(text) is expected


def test_chance_is_as_it_says() -> None:
    condition = Expression("random() < 0.3", is_condition=True)
    assert 200 < sum(condition.holds(read) for _ in range(1000)) < 400


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("request.path ==", "line and column 1:16: Syntax error"),
        ("requst.path == '/'", "undeclared reference to 'requst.path'"),
        ("random() < 1", "no matching overload"),
        ("randum() < 1.0", "undeclared reference to 'randum'"),
        ("'text'", "comes to string, not to true or false"),
        ("", "Syntax error"),
    ],
)
def test_a_condition_that_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(WrongExpressionError) as raised:
        Expression(text, is_condition=True)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_long_text_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its words would be a variable: half a minute for a megabyte of them."""
    monkeypatch.setattr("asgi_wasm.cel._environment", None)
    with pytest.raises(WrongExpressionError, match="it has 100001 characters, and may have 100000"):
        Expression("a" * 100_001)


@pytest.mark.parametrize("text", ["request.query == 'a'", "request.path", "request.headers['x-one'] > 1"])
def test_a_condition_without_an_answer(text: str) -> None:
    condition = Expression(text, is_condition=True)
    with pytest.raises(ValueError, match=r"."):
        condition.holds(read)


@pytest.mark.parametrize(
    "part", ["a", "a ", "a(", "(", "[", '"', "'", '["', "headers[", "headers ", "a.", "!", '"a" in ', "a b"]
)
def test_the_time_is_that_of_the_length(part: str) -> None:
    """A plugin may give any text: ten times as much takes about ten times as long, not a hundred times."""
    short, long = ([_seconds_to_read(part * (size // len(part))) for _ in range(3)] for size in (9_000, 90_000))
    # The least of three: a collection of the whole suite's garbage is not the expression's time.
    assert min(long) < 40 * max(min(short), 0.005)


def _seconds_to_read(text: str) -> float:
    began = time.thread_time()
    with contextlib.suppress(WrongExpressionError):
        Expression(text)
    return time.thread_time() - began


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(CelMissingError):
        Expression("true", is_condition=True)
