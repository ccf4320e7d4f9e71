from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.host.codecs.wire import (
    MAX_PAIRS_BYTES,
    MAX_PAIRS_COUNT,
    Pairs,
    PropertyValue,
    decode_pairs,
    encode_pairs,
    encode_value,
    split_path,
)

pairs_of = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=12)


def test_the_bytes_of_pairs() -> None:
    # abi: {("a", "bc")}
    assert encode_pairs([(b"a", b"bc")]).hex(" ") == "01 00 00 00 01 00 00 00 02 00 00 00 61 00 62 63 00"
    assert encode_pairs([]) == b""


@given(pairs_of)
def test_round_trip(pairs: Pairs) -> None:
    assert decode_pairs(encode_pairs(pairs)) == pairs


@given(pairs_of, st.integers(min_value=1, max_value=40))
def test_truncated_or_prolonged_pairs_are_none(pairs: Pairs, count: int) -> None:
    data = encode_pairs(pairs)
    assert decode_pairs(data[:-count]) == []
    assert decode_pairs(data + bytes(count)) == []


@given(st.binary(max_size=200))
def test_any_bytes_are_pairs_or_none(data: bytes) -> None:
    pairs = decode_pairs(data)
    # Whatever is read is all of it, exactly.
    assert pairs == [] or encode_pairs(pairs) == data


@given(pairs_of.filter(bool), st.data())
def test_a_missing_nul_is_malformed(pairs: Pairs, data: st.DataObject) -> None:
    good = bytearray(encode_pairs(pairs))
    ends, position = [], 4 + 8 * len(pairs)
    for part in (part for pair in pairs for part in pair):
        ends.append(position + len(part))
        position += len(part) + 1
    good[data.draw(st.sampled_from(ends))] = 1
    assert decode_pairs(bytes(good)) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        struct.pack("<I", 0),
        struct.pack("<I", 0xFFFF_FFFF),
        struct.pack("<3I", 1, 0xFFFF_FFFF, 0xFFFF_FFFF),
        struct.pack("<3I", 1, 0xFFFF_FFFF, 1) + b"\0\0",
    ],
)
def test_absurd_counts_and_sizes(data: bytes) -> None:
    assert decode_pairs(data) == []


def test_limits() -> None:
    most = [(b"k", b"")] * MAX_PAIRS_COUNT
    assert decode_pairs(encode_pairs(most)) == most
    assert decode_pairs(encode_pairs([*most, (b"k", b"")])) == []
    room = MAX_PAIRS_BYTES - len(encode_pairs([(b"", b"")]))
    assert decode_pairs(encode_pairs([(b"", bytes(room))])) == [(b"", bytes(room))]
    assert decode_pairs(encode_pairs([(b"", bytes(room + 1))])) == []


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"a", (b"a",)),
        (b"a\0b", (b"a", b"b")),
        (b"a\0b\0", (b"a", b"b")),
        (b"a\0b\0\0", (b"a", b"b", b"")),
        (b"", (b"",)),
        (b"a.b", (b"a.b",)),
    ],
)
def test_paths(path: bytes, parts: tuple[bytes, ...]) -> None:
    assert split_path(path) == parts


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (b"\xff", b"\xff"),
        ("ü", b"\xc3\xbc"),
        ("\udcff", b"\xff"),
        (True, b"\1"),
        (False, b"\0"),
        (1, b"\1" + bytes(7)),
        (-1, b"\xff" * 8),
        (2.0, struct.pack("<d", 2.0)),
        ({b"k": 1}, encode_pairs([(b"k", b"\1" + bytes(7))])),
        ([b"a", "b"], encode_pairs([(b"a", b""), (b"b", b"")])),
        # A count, unlike an empty header map.
        ([], bytes(4)),
        ({}, bytes(4)),
    ],
)
def test_values(value: PropertyValue, data: bytes) -> None:
    assert encode_value(value) == data
