"""Protobuf's wire format, as far as it is needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.host.codecs import protobuf

_U64 = st.integers(0, 2**64 - 1)
_FIELDS = st.lists(st.tuples(st.integers(1, 2**29 - 1), st.one_of(_U64, st.binary(max_size=300))))


@given(_FIELDS)
def test_round_trip(fields: list[tuple[int, int | bytes]]) -> None:
    expected: protobuf.Message = {}
    for number, value in fields:
        expected.setdefault(number, []).append(value)
    assert protobuf.decode(protobuf.encode(fields)) == expected


def test_an_example_of_the_specification() -> None:
    # protobuf.dev: `message Test1 { optional int32 a = 1; }` with a = 150; `message Test2 { optional string b = 2; }`.
    assert protobuf.encode([(1, 150)]) == bytes.fromhex("089601")
    assert protobuf.decode(bytes.fromhex("120774657374696e67")) == {2: [b"testing"]}


def test_fixed_sizes_are_kept_as_bytes() -> None:
    assert protobuf.decode(b"\x09" + bytes(range(8)) + b"\x15" + b"abcd") == {1: [bytes(range(8))], 2: [b"abcd"]}


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        protobuf.decode(data)
    except protobuf.ProtobufError as error:
        assert str(error)


@pytest.mark.parametrize(
    "data",
    [b"\x08", b"\x12\x05abc", b"\x09abc", b"\x0b", b"\x00\x01", b"\x08" + b"\xff" * 10 + b"\x01"],
    ids=["no value", "short string", "short fixed", "group", "field 0", "endless varint"],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(protobuf.ProtobufError):
        protobuf.decode(data)


def test_the_last_value_wins() -> None:
    message = protobuf.decode(protobuf.encode([(1, b"a"), (1, b"b"), (2, 1), (2, 2)]))
    assert protobuf.text(message, 1) == b"b"
    assert protobuf.number(message, 2) == 2
    assert (protobuf.text(message, 3), protobuf.number(message, 3)) == (b"", 0)


def test_a_field_of_another_kind_is_an_error() -> None:
    message = protobuf.decode(protobuf.encode([(1, b"a"), (2, 1)]))
    with pytest.raises(protobuf.ProtobufError, match="field 2 is a number"):
        protobuf.text(message, 2)
    with pytest.raises(protobuf.ProtobufError, match="field 1 is a byte string"):
        protobuf.number(message, 1)
