"""Of what a module says it was made: what hostile ones say takes neither time nor memory."""

from __future__ import annotations

import pytest

from asgi_wasm.engines.provenance import language_of, producers_of
from tests.engines.hostile import HEADER, leb, section

_NAME = b"\x09producers"


def producers(content: bytes) -> dict[str, list[str]]:
    return producers_of(HEADER + section(0, _NAME + content))


def test_producers_are_read() -> None:
    assert producers(b"\1\x08language\1\4Rust\0") == {"language": ["Rust"]}


# Seconds, of which it takes none. Without bounds these take from seconds to days.
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content",
    [b"\xff" * 4_000_000 + b"\0", b"\xff" * 9 + b"\1" + bytes(100), leb(1 << 60) + bytes(64_000_000)],
    ids=["a number without end", "a number of 64 bits", "items without end"],
)
def test_a_hostile_section_says_nothing(content: bytes) -> None:
    assert producers(content) == {}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "sdk"),
    [
        (b"/proxy-wasm-0.2.3/src/hostcalls.rs", "proxy-wasm 0.2.3"),
        (b"/proxy-wasm-0.2.3-dev.1/src/", "proxy-wasm 0.2.3-dev.1"),
        (b"/proxy-wasm-1.1.1" + b"1" * 4_000_000, ""),
        (b"/proxy-wasm-1.1.1" * 100_000, ""),
        (b"a/proxy-wasm-go-sdk\tv1.2.3\t", "a/proxy-wasm-go-sdk v1.2.3"),
        (b"/proxy-wasm-go-sdk\tv" + b"1" * 4_000_000, f"/proxy-wasm-go-sdk v{'1' * 99}"),
    ],
    ids=["rust", "rust's version with letters", "a long number", "many", "go", "a long version"],
)
def test_sdks(content: bytes, sdk: str) -> None:
    assert language_of(content, {}, ())[1] == sdk
