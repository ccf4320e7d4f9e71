"""The look into a binary that no engine is asked for."""

from __future__ import annotations

import pytest

from asgi_wasm.engines.binary import check_signatures, one_sentence
from asgi_wasm.errors import InvalidModuleError
from tests.engines.wat import wasm

HEADER = b"\0asm\1\0\0\0"


def test_every_kind_of_import_is_stepped_over() -> None:
    code = wasm("""(module (import "t" "t" (table 1 200 funcref)) (import "m" "m" (memory 1 300))
      (import "g" "g" (global (mut i64))) (import "e" "tag" (tag (param i32))) (import "e" "f" (func (param i32)))
      (func (export "f")))""")
    check_signatures(code)


def test_functions_are_counted_from_the_imported_ones() -> None:
    code = wasm("""(module (import "e" "f" (func (param i32))) (func (param v128)) (func (export "f"))
      (func (export "bad") (param v128)))""")
    with pytest.raises(InvalidModuleError, match="'bad'"):
        check_signatures(code)


def test_custom_page_sizes_are_stepped_over() -> None:
    # (import "m" "m" (memory 1 (pagesize 1))): an encoding that not every engine accepts
    check_signatures(HEADER + b"\2\x09\1\1m\1m\2\x08\1\0")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (HEADER + b"\1\3\1\x5f\0", "garbage collection"),
        (HEADER + b"\1\4\1\x60", "cannot be read"),
        (HEADER + b"\7\5\1\1f\0\5", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(code: bytes, words: str) -> None:
    with pytest.raises(InvalidModuleError, match=words):
        check_signatures(code)


def test_one_sentence_is_the_last_line_that_says_something() -> None:
    assert one_sentence("failed\n\nCaused by:\n    the reason\n") == "the reason"
    assert one_sentence(" \n") == "the engine gives no reason"
