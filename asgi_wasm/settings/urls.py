"""URLs as a message or a log may show them: what could be a password is left out."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def parse(text: str) -> SplitResult | None:
    """The parts, or None for what is no URL; its port is a number, if it has one."""
    try:
        parts = urlsplit(text)
        return parts if parts.port is None or parts.scheme else None
    except ValueError:
        return None


def shown_url(parts: SplitResult | None, *, path: bool = False) -> str:
    """Scheme, host and port, and perhaps the path; empty where it is not sure which part is which."""
    if parts is None or not parts.scheme or not (parts.netloc or path):
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path if path else ''}"


def named(url: str) -> str:
    """A shown URL as the beginning of a sentence."""
    return f"{url!r} " if url else ""
