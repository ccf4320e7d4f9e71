"""The ABI's byte formats: pairs, property paths and property values.

Followed: proxy-wasm-cpp-host `src/pairs_util.cc`; Envoy `source/extensions/common/wasm/context.cc` (`serializeValue`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

Pairs = list[tuple[bytes, bytes]]
# What a property may be; lists and mappings nest one level in practice (headers, SANs).
PropertyValue = bool | int | float | bytes | str | Sequence["PropertyValue"] | Mapping[bytes, "PropertyValue"]

# proxy-wasm-cpp-host `limits.h`: more than either is read as no pairs at all.
MAX_PAIRS_BYTES = 1024 * 1024
MAX_PAIRS_COUNT = 1024

_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")


def encode_pairs(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Count, then all sizes, then all keys and values, each ended by a NUL that its size does not count.

    No pairs are no bytes: the spec allows a single zero byte, on which the Rust and Go SDKs crash.
    """
    if not pairs:
        return b""
    sizes = [len(part) for pair in pairs for part in pair]
    head = struct.pack(f"<{len(sizes) + 1}I", len(pairs), *sizes)
    return head + b"\0".join([part for pair in pairs for part in pair]) + b"\0"


def decode_pairs(data: bytes) -> Pairs:
    """The pairs, or the empty list for malformed bytes, as `PairsUtil::toPairs` does."""
    if not 4 <= len(data) <= MAX_PAIRS_BYTES:
        return []
    (count,) = _U32.unpack_from(data)
    position = 4 + 8 * count
    if count > MAX_PAIRS_COUNT or position > len(data):
        return []
    parts: list[bytes] = []
    for size in struct.unpack_from(f"<{2 * count}I", data, 4):
        end = position + size
        if end >= len(data) or data[end] != 0:
            return []
        parts.append(data[position:end])
        position = end + 1
    if position != len(data):
        return []
    return list(zip(parts[::2], parts[1::2], strict=True))


def split_path(path: bytes) -> tuple[bytes, ...]:
    """The parts of a property path. The C++ SDK ends it with a NUL, the Rust and Go SDKs do not."""
    return tuple(path.removesuffix(b"\0").split(b"\0"))


def encode_value(value: PropertyValue) -> bytes:
    """The bytes of a property, as Envoy gives them to plugins.

    bool is one byte; int (also nanoseconds of a time or duration) and float are eight, little endian; a mapping
    is pairs; a sequence is pairs with empty values.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    if isinstance(value, int):
        return _I64.pack(value)
    if isinstance(value, float):
        return _F64.pack(value)
    if isinstance(value, Mapping):
        pairs = [(key, encode_value(item)) for key, item in value.items()]
    else:
        pairs = [(encode_value(item), b"") for item in value]
    # Unlike an empty header map, an empty property has its count.
    return encode_pairs(pairs) or _U32.pack(0)
