"""Functions in Python that answer at once, and how an app gives them."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from asgi_wasm import ForeignFunctionError, ProxyStatus, SettingsError, WasmMiddleware, foreign_function
from tests.driving import answering
from tests.foreign.calling import NOT_FOUND, OK, configured, upper
from tests.plugins.callouts import foreign


async def test_decorated_function_answers_at_once(caplog: pytest.LogCaptureFixture) -> None:
    steps = [foreign("upper", b"a\0\xff"), foreign("upper"), foreign("lower", b"A")]
    assert await configured(caplog, *steps, functions=[upper]) == [(OK, b"A\0\xff"), (OK, b""), (NOT_FOUND, b"")]
    assert upper(b"still a function") == b"STILL A FUNCTION"


async def test_mapping_of_any_callables(caplog: pytest.LogCaptureFixture) -> None:
    class Prefix:
        def __init__(self, prefix: bytes) -> None:
            self.prefix = prefix

        @foreign_function("unused")
        def add(self, arguments: bytes) -> bytes:
            return self.prefix + arguments

        __call__ = add

    functions = {
        "method": Prefix(b"m").add,
        "object": Prefix(b"o"),
        "partial": functools.partial(Prefix.add, Prefix(b"p")),
        "none": lambda arguments: None,
        "view": memoryview,
        "array": bytearray,
    }
    got = await configured(caplog, *(foreign(name, b"x") for name in functions), functions=functions)
    assert got == [(OK, b"mx"), (OK, b"ox"), (OK, b"px"), (OK, b""), (OK, b"x"), (OK, b"x")]


async def test_ours_win_over_envoys(caplog: pytest.LogCaptureFixture) -> None:
    assert await configured(caplog, foreign("compress", b"a"), functions={"compress": upper}) == [(OK, b"A")]


async def test_functions_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    def broken(arguments: bytes) -> bytes:
        raise ValueError("the shelf is empty")

    def text(arguments: bytes) -> bytes:
        return arguments.decode()  # type: ignore[return-value]

    def refusing(status: int) -> Any:
        def refuse(arguments: bytes) -> bytes:
            raise ForeignFunctionError(status, "no such key")

        return refuse

    functions = {
        "broken": broken,
        "text": text,
        "not_found": refusing(ProxyStatus.NOT_FOUND),
        "as_number": refusing(3),
        "ok": refusing(0),
        "no_status": refusing(99),
    }
    got = await configured(caplog, *(foreign(name, b"x") for name in functions), functions=functions)
    assert [status for status, _ in got] == [10, 10, 1, 3, 10, 10]
    assert {result for _, result in got} == {b""}
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == [
        "plugin 'callouts': foreign function 'broken' raised ValueError: the shelf is empty",
        "plugin 'callouts': foreign function 'text' raised TypeError: it returned str, not bytes or None",
    ]


@pytest.mark.parametrize(
    ("functions", "problem"),
    [
        ([len, upper], "argument foreign_functions[0]: <built-in function len> has no name: decorate it"),
        ([upper, upper], "argument foreign_functions: 'upper' is there twice"),
        ({"five": 5}, "argument foreign_functions: 5 is no function"),
        ({5: upper}, "argument foreign_functions[0]: <function upper"),
    ],
    ids=["no-name", "twice", "no-function", "name-is-no-text"],
)
async def test_mistakes(functions: Any, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await WasmMiddleware(answering(), settings={}, foreign_functions=functions).start()
    assert str(caught.value).startswith(problem)


def test_decorator_without_a_name() -> None:
    with pytest.raises(TypeError, match='@foreign_function\\("name"\\)'):
        foreign_function(upper)  # type: ignore[arg-type]


NULL_POINTERS = """
(module
  (import "env" "proxy_call_foreign_function" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "upper")
  (data (i32.const 32) "abc")
  (func (export "proxy_abi_version_0_2_1"))
  ;; Nothing may be allocated for results that nobody wants.
  (func (export "malloc") (param i32) (result i32) unreachable)
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (if (call $call (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 0))
      (then (return (i32.const 0))))
    (if (call $call (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 64))
      (then (return (i32.const 0))))
    (i32.and
      (i32.eq (i32.load (i32.const 0)) (i32.const 0))
      (i32.eq (i32.load (i32.const 64)) (i32.const 3)))))
"""


async def test_result_that_the_plugin_does_not_want(tmp_path: Path) -> None:
    file = tmp_path / "null_pointers.wasm"
    file.write_bytes(wasmtime.wat2wasm(NULL_POINTERS))

    settings = {"plugins": [{"name": "p", "file": file}]}
    middleware = WasmMiddleware(answering(), settings=settings, foreign_functions=[upper])
    await middleware.start()
    await middleware.stop()
