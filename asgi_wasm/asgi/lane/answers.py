"""Local responses as messages. The same one is often given thousands of times, so the last few are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asgi_wasm.asgi.messages import translate
from asgi_wasm.host.codecs.wire import decode_pairs
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.streams.local_reply import detail_words, local_reply

if TYPE_CHECKING:
    from asgi_wasm.asgi.types import Message, Scope
    from asgi_wasm.host.resident.window import Local, LocalImage

_KEPT = 64
# Longer ones are not kept.
_KEPT_BYTES = 4096
_GRPC = b"application/grpc"


class Answer(NamedTuple):
    """A local response with a body, before any plugin has seen it. ``start`` is to be copied before it is sent."""

    start: Message
    content: bytes
    details: bytes


class Answers:
    """The local responses of one lane."""

    def __init__(self) -> None:
        self.known: dict[Local, Answer | None] = {}
        # The last that was sent, and how it lay in the kernel's window.
        self.last: tuple[LocalImage | None, Answer | None] = (None, None)

    def find(self, scope: Scope, local: Local | None) -> Answer | None:
        """The messages for a plugin's local response; None for one that takes more than to be sent."""
        if local is None or scope["method"] in translate.BODILESS_METHODS or _is_grpc(scope):
            return None
        if local in self.known:
            return self.known[local]
        answer = _make(local)
        if len(local.body) + len(local.pairs) <= _KEPT_BYTES:
            if len(self.known) >= _KEPT:
                self.known.clear()
            self.known[local] = answer
        return answer


def _is_grpc(scope: Scope) -> bool:
    """Whether a local response may have to be gRPC's: `local_reply` tells, which is asked then."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return bool(kinds) and any(value[: len(_GRPC)] == _GRPC for value in kinds)


def _make(local: Local) -> Answer | None:
    headers, content = local_reply(HeaderMap(), local.status, local.body, decode_pairs(local.pairs), None)
    message, dropped = translate.response_start(None, headers)
    if dropped or not content or message["status"] in translate.BODILESS_STATUSES:
        return None
    return Answer(message, content, detail_words(local.details))
