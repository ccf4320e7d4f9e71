"""Names that mean the same in every process that shares a store."""

from __future__ import annotations

from hashlib import blake2b
from urllib.parse import quote

# Tokens are 31 bits, so that no guest sees a negative one.
LAST_TOKEN = 0x7FFF_FFFF


def scoped(scope: str, name: bytes) -> bytes:
    """``name`` within ``scope``, a vm_id or a plugin: two different pairs never give the same bytes."""
    return quote(scope, safe="").encode() + b":" + name


def first_token(identity: bytes) -> int:
    """Where to look for a queue's token first; a queue whose place is taken has the next free one.

    A hash and no running number, so that a guest's token stays right when a store lost what it held.
    """
    return int.from_bytes(blake2b(identity, digest_size=8).digest(), "big") % LAST_TOKEN + 1


def next_token(token: int) -> int:
    """The place after this one; never 0."""
    return token % LAST_TOKEN + 1
