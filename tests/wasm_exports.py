"""A module with some of its exports taken out, so that one plugin stands for several kinds."""

from __future__ import annotations

from collections.abc import Container

_EXPORTS = 7


def _number(code: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        byte = code[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def without_exports(code: bytes, names: Container[str]) -> bytes:
    """The module without the exports of these names."""
    at, out = 8, [code[:8]]
    while at < len(code):
        begin, kind = at, code[at]
        size, content = _number(code, at + 1)
        at = content + size
        out.append(_kept_exports(code[content:at], names) if kind == _EXPORTS else code[begin:at])
    return b"".join(out)


def _kept_exports(section: bytes, names: Container[str]) -> bytes:
    count, at = _number(section, 0)
    kept = []
    for _ in range(count):
        begin = at
        size, at = _number(section, at)
        name, at = section[at : at + size].decode(), at + size
        _, at = _number(section, at + 1)
        if name not in names:
            kept.append(section[begin:at])
    content = _encoded(len(kept)) + b"".join(kept)
    return bytes([_EXPORTS]) + _encoded(len(content)) + content
