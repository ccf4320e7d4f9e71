"""The content-length of a response that plugins change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.driving import answering, request
from tests.guests import (
    RESPONSE_BODY,
    Guest,
    Serve,
)


@pytest.mark.parametrize(
    ("chunks", "change", "length", "out"),
    [
        ([b"abc"], lambda data: data + b"!", b"4", b"abc!"),
        ([b"abc"], lambda data: b"", b"0", b""),
        ([b"abc"], lambda data: data, b"3", b"abc"),
        ([b"ab", b"c"], lambda data: data + b"!", None, b"ab!c!"),
        ([b"ab", b"c"], lambda data: data.upper(), b"3", b"ABC"),
    ],
    ids=["longer", "emptied", "untouched", "longer-in-chunks", "same-length-in-chunks"],
)
async def test_content_length_is_made_true_or_dropped(
    serve_guests: Serve, chunks: list[bytes], change: Any, length: bytes | None, out: bytes
) -> None:
    guest = Guest(
        on_response_body=lambda api, context, *_: api.set_buffer_bytes(
            RESPONSE_BODY, change(api.get_buffer_bytes(RESPONSE_BODY))
        )
    )

    app = answering(*chunks, headers=[(b"content-length", b"3"), (b"x-other", b"1")])
    async with serve_guests(app, guest) as middleware:
        response = await request(middleware)
        assert response.body == out
        assert response.header(b"content-length") == length
        assert response.header(b"x-other") == b"1"
