"""Responses without a body."""

from __future__ import annotations

import pytest

from tests.driving import answering, request
from tests.guests import (
    Guest,
    Serve,
)


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        ("HEAD", 200, [(b"content-length", b"3")]),
        ("GET", 204, []),
        ("GET", 304, []),
        ("GET", 200, [(b"content-length", b"0")]),
    ],
)
async def test_response_without_body(
    serve_guests: Serve, method: str, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    """The headers are the end of the stream, no body callback comes, and content-length stays."""
    seen: list[str] = []
    guest = Guest(
        on_response_headers=lambda api, context, count, end: seen.append(f"headers {end}"),
        on_response_body=lambda api, context, size, end: seen.append("body"),
    )
    content = b"app" if method == "HEAD" else b""

    async with serve_guests(answering(content, headers=headers, status=status), guest) as middleware:
        response = await request(middleware, method)
        assert (response.status, response.body, response.headers) == (status, b"", headers)
        assert response.complete
    assert seen == ["headers 1"]
