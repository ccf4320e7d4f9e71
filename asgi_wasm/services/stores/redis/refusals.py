"""Errors that Redis answers: what each means, said once a minute."""

from __future__ import annotations

import time

from redis import Redis
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)

from asgi_wasm.logs import get_logger

_QUIET_SECONDS = 60.0
_CLUSTER = "it is part of a Redis Cluster, whose keys lie on several servers: name one server that is none"
_SENTINEL = "it is a Sentinel, which holds no keys: name the primary, best by a name that follows it"
# redis-py takes the first word of some errors off, and makes a class of it.
_WORDS: tuple[tuple[type[ResponseError], str], ...] = (
    (OutOfMemoryError, "OOM"),
    (ReadOnlyError, "READONLY"),
    (NoPermissionError, "NOPERM"),
    (AskError, "MOVED"),
    (ClusterCrossSlotError, "MOVED"),
    # A kind of the next one to redis-py, and no Cluster's.
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "MOVED"),
)
_HINTS = {
    "OOM": "it is full: raise its maxmemory, or let it evict keys",
    "READONLY": "it is a replica: name the primary",
    "MASTERDOWN": "it is a replica that has lost its primary: name the primary",
    "NOREPLICAS": "it has fewer replicas than its min-replicas-to-write",
    "NOPERM": "its user may not do that: asgi_wasm/services/README.md lists what it must be allowed",
    "MOVED": _CLUSTER,
    "WRONGTYPE": "something else writes keys with this prefix: set another one",
    "BUSY": "somebody's script keeps it busy",
    "MISCONF": "it cannot write to its disk",
}
# How a script words it, that it may not do something.
_NOT_ALLOWED = ("no permissions", "the script can't")

# Of a key that somebody else wrote, where Redis itself cannot tell; scripts say the same.
NOT_OURS = ResponseError("WRONGTYPE It is no value of ours")

logger = get_logger("asgi_wasm.host")


class Refusals:
    """Tells the log of them."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._told: dict[str, float] = {}

    def tell(self, error: ResponseError) -> None:
        """To be called for each."""
        word, now = _word(error), time.monotonic()
        if now - self._told.get(word, float("-inf")) >= _QUIET_SECONDS:
            self._told[word] = now
            text, hint = " ".join(str(error).split()), _HINTS.get(word)
            logger.error("shared_data %s refuses hostcalls (%s)%s", self._label, text, f": {hint}" if hint else "")


def _word(error: ResponseError) -> str:
    text = str(error)
    if any(words in text for words in _NOT_ALLOWED):
        return "NOPERM"
    found = [word for kind, word in _WORDS if isinstance(error, kind)]
    return found[0] if found else text.partition(" ")[0]


def require_single(client: Redis) -> None:
    """Raises redis-py's ConnectionError for a server of a kind that cannot hold the state."""
    try:
        told = client.info("server")
    except ResponseError:
        # Its user may not ask; the first hostcall will tell.
        return
    # Valkey's name for it, from its release 9 on.
    mode = told.get("redis_mode", told.get("server_mode"))
    if mode == "cluster":
        raise RedisConnectionError(_CLUSTER)
    if mode == "sentinel":
        raise RedisConnectionError(_SENTINEL)
