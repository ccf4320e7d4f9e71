"""As much of protobuf's wire format as the ABI carries: flat messages of varints and byte strings.

Envoy takes serialized messages in a few places (`GrpcService`, arguments of its foreign functions). Specification:
protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterable

# A field's values in order of appearance; what they mean is the reader's affair.
Message = dict[int, list["int | bytes"]]

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_FIXED_SIZES = {_I64: 8, _I32: 4}
# A varint of 64 bits has at most ten bytes.
_MAX_VARINT = 10


class ProtobufError(ValueError):
    """Raised for bytes that are no protobuf message."""


def decode(data: bytes) -> Message:
    """The fields of a message by number. Fixed-size fields come as their bytes. Raises `ProtobufError`."""
    message: Message = {}
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        value: int | bytes
        if number == 0:
            raise ProtobufError("field number 0")
        if wire_type == _VARINT:
            value, position = _varint(data, position)
        else:
            if wire_type == _LEN:
                size, position = _varint(data, position)
            elif wire_type in _FIXED_SIZES:
                size = _FIXED_SIZES[wire_type]
            else:
                raise ProtobufError(f"wire type {wire_type}")
            value = data[position : position + size]
            if len(value) != size:
                raise ProtobufError("it ends inside of a field")
            position += size
        message.setdefault(number, []).append(value)
    return message


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + index + 1
    raise ProtobufError("it ends inside of a varint, or the varint has no end")


def text(message: Message, number: int) -> bytes:
    """The last byte string of a field (protobuf: "last one wins"), b"" for none.

    Raises `ProtobufError` for a number there.
    """
    values = message.get(number)
    if not values:
        return b""
    value = values[-1]
    if isinstance(value, int):
        raise ProtobufError(f"field {number} is a number")
    return value


def number(message: Message, field: int) -> int:
    """The last varint of a field, 0 for none. Raises `ProtobufError` for a byte string there."""
    values = message.get(field)
    if not values:
        return 0
    value = values[-1]
    if isinstance(value, bytes):
        raise ProtobufError(f"field {field} is a byte string")
    return value


def encode(fields: Iterable[tuple[int, int | bytes]]) -> bytes:
    """A message of these fields, in this order."""
    parts: list[bytes] = []
    for field, value in fields:
        if isinstance(value, int):
            parts += [_encode_varint(field << 3 | _VARINT), _encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)]
        else:
            parts += [_encode_varint(field << 3 | _LEN), _encode_varint(len(value)), value]
    return b"".join(parts)


def _encode_varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
