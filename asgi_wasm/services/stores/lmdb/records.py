"""The form of what is in an LMDB database: see `services.stores.lmdb.store`."""

from __future__ import annotations

import struct
from hashlib import blake2b

import lmdb

WORKER_BYTES = 16
DIGEST_BYTES = 32
U64 = 0xFFFF_FFFF_FFFF_FFFF
CAS = struct.Struct(">I")
TOKEN = struct.Struct(">I")
VALUE_KEY = struct.Struct(">cIQ")
# Digest of its name, numbers of the oldest and of the next value.
QUEUE = struct.Struct(f">{DIGEST_BYTES}sQQ")
NUMBER = struct.Struct(">Q")
PART = struct.Struct(f">{WORKER_BYTES}sQ")
HISTOGRAM = struct.Struct(">QQ")


def digest_of(identity: bytes) -> bytes:
    """What stands for it in a key."""
    return blake2b(identity, digest_size=DIGEST_BYTES).digest()


def key_of(letter: bytes, identity: bytes) -> bytes:
    """The key of a record of this kind."""
    return letter + digest_of(identity)


def get(transaction: lmdb.Transaction, key: bytes) -> bytes | None:
    """A copy of the record, or None."""
    found = transaction.get(key)
    return None if found is None else bytes(found)
