from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from asgi_wasm.host.abi import HostcallError, ProxyStatus
from asgi_wasm.host.streams.buffer import Buffer

NUMBERS = st.one_of(st.integers(0, 12), st.sampled_from([0x7FFF_FFFF, 0xFFFF_FFFF]))
BYTES = st.binary(max_size=8)


def expected(old: bytes, start: int, size: int, value: bytes) -> bytes | None:
    """Envoy's `Buffer::copyFrom`, case by case; None is BAD_ARGUMENT."""
    if start == 0:
        if size == 0:
            return value + old
        if size >= len(old):
            return value
        return value + old[size:]
    return old + value if start >= len(old) else None


@given(BYTES, NUMBERS, NUMBERS, BYTES)
@example(b"", 0, 5, b"x")
@example(b"", 1, 0, b"x")
def test_set(old: bytes, start: int, size: int, value: bytes) -> None:
    buffer = Buffer(old)
    status = ProxyStatus.OK
    try:
        buffer.set(start, size, value)
    except HostcallError as error:
        status = error.status
    result = expected(old, start, size, value)
    assert status == (ProxyStatus.BAD_ARGUMENT if result is None else ProxyStatus.OK)
    assert buffer.data == (old if result is None else result)


@given(BYTES, NUMBERS, NUMBERS)
def test_get(data: bytes, start: int, size: int) -> None:
    wanted = b"".join(bytes([byte]) for index, byte in enumerate(data) if start <= index < start + size)
    assert Buffer(data).get(start, size) == wanted


@given(NUMBERS, NUMBERS)
def test_read_only(start: int, size: int) -> None:
    buffer = Buffer(b"data", writable=False)
    try:
        buffer.set(start, size, b"x")
    except HostcallError as error:
        assert error.status is ProxyStatus.BAD_ARGUMENT
    else:
        raise AssertionError("it was written")
    assert (buffer.data, len(buffer)) == (b"data", 4)
