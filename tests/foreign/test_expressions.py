"""`expr_create`, `expr_evaluate`, `expr_delete`; that they are as in Envoy, line by line, is told by the probe."""

from __future__ import annotations

import sys

import pytest

from asgi_wasm.foreign import expressions
from tests.driving import request
from tests.foreign.calling import configured, results
from tests.plugins.callouts import conf, foreign, plugged

OK, NOT_FOUND, BAD_ARGUMENT, SERIALIZATION_FAILURE, INTERNAL_FAILURE = 0, 1, 2, 3, 10


def token(number: int) -> bytes:
    return number.to_bytes(4, "little")


async def test_made_evaluated_and_deleted(caplog: pytest.LogCaptureFixture) -> None:
    steps = (
        *(foreign("expr_create", b"1 + 2"), foreign("expr_evaluate", token(0)), foreign("expr_delete", token(0))),
        *(foreign("expr_evaluate", token(0)), foreign("expr_evaluate", b"1"), foreign("expr_delete", token(0))),
    )
    three = (3).to_bytes(8, "little")
    assert await configured(caplog, *steps) == [
        *((OK, token(0)), (OK, three), (OK, b"")),
        *((NOT_FOUND, b""), (BAD_ARGUMENT, b""), (OK, b"")),
    ]


async def test_attributes_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    texts = {
        "request.path == '/a?b=1' && request.method == 'GET'": (OK, b"\1"),
        "request.headers['X-One'] + request.query": (OK, b"1b=1"),
        "request.headers['x-none']": (INTERNAL_FAILURE, b""),
        "request.time > timestamp('2020-01-01T00:00:00Z') && source.port > 0": (OK, b"\1"),
        "request": (SERIALIZATION_FAILURE, b""),
    }
    made = [foreign("expr_create", text.encode()) for text in texts]
    asked = [foreign("expr_evaluate", token(number)) for number in range(len(texts))]

    async with plugged(conf(configure=made, request_headers=asked)) as app:
        await request(app, path="/a", query_string=b"b=1", headers=[(b"x-one", b"1")])
    assert results(caplog, "request_headers") == list(texts.values())


async def test_one_that_is_wrong_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert await configured(caplog, foreign("expr_create", b"1 +"), foreign("expr_create", b"\xff")) == [
        (BAD_ARGUMENT, b""),
        (BAD_ARGUMENT, b""),
    ]
    assert "expr_create: the expression is wrong: line and column 1:4: Syntax error" in caplog.text


async def test_no_more_than_there_is_room_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expressions, "MOST_EXPRESSIONS", 1)
    steps = foreign("expr_create", b"1"), foreign("expr_create", b"2"), foreign("expr_delete", token(0))
    assert (await configured(caplog, *steps, foreign("expr_create", b"3")))[1:] == [
        (INTERNAL_FAILURE, b""),
        (OK, b""),
        (OK, token(1)),
    ]


async def test_without_the_package(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an Envoy that was built without CEL; and one sentence."""
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    steps = foreign("expr_create", b"1"), foreign("expr_evaluate", token(0)), foreign("expr_delete", token(0))
    assert await configured(caplog, *steps) == [(NOT_FOUND, b"")] * 3
    assert caplog.text.count("pip install 'asgi-wasm[cel]'") == 1


@pytest.mark.parametrize("text", ["+".join("1" * 20_000), "a" + ".a" * 20_000, "(" * 2000 + "1" + ")" * 2000])
async def test_deep_ones_are_refused(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A plugin is not to end the process by the depth of a tree."""
    assert await configured(caplog, foreign("expr_create", text.encode())) == [(BAD_ARGUMENT, b"")]
