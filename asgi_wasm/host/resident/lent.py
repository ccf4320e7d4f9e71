"""What is lent to a kernel, and whom a hostcall acts for that came from a callback in the kernel's care."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from asgi_wasm.host.resident import layout
from asgi_wasm.host.streams.buffer import Buffer

if TYPE_CHECKING:
    from asgi_wasm.host.vm.contexts import Context, RootContext, StreamContext


class Lent(Protocol):
    """A request whose headers are lent to kernels, and which has no contexts that hostcalls could act for."""

    def flat(self, slot: int) -> Sequence[bytes]:
        """The names and values of a map (`layout.REQUEST_SLOT` and so on) in turn, pseudo-headers first."""
        ...

    def recall(self) -> None:
        """Make its contexts, which the VM has then, and lend no more."""
        ...


class Neighbour(Protocol):
    """What a kernel asks of the VM that it stands beside (`host.vm.vm.WasmVM`)."""

    thread: int
    current: Context | None
    contexts: dict[int, Context]
    lent: dict[int, Lent]


class Keeper(Protocol):
    """Where the piece of a body is kept that a callback is shown."""

    piece: bytes


class Lender(Protocol):
    """What a hostcall asks of the kernel that its callback is in the care of (`Resident`)."""

    words: Sequence[int]

    @property
    def keeper(self) -> Keeper: ...

    def recall(self) -> StreamContext | None:
        """The stream context of the callback that runs, which takes over from the kernel."""
        ...


class LentBody(Buffer):
    """The piece of a body that a callback in the kernel's care is shown, for what the kernel leaves to Python."""

    __slots__ = ("_lender",)

    def __init__(self, lender: Lender) -> None:
        super().__init__(lender.keeper.piece)
        self._lender = lender

    def set(self, start: int, size: int, value: bytes) -> None:
        """As a buffer's; the kernel answers by what comes of it, and the host is to look at it after the callback."""
        super().set(start, size, value)
        words = cast("list[int]", self._lender.words)
        self._lender.keeper.piece = self.data = bytes(self.data)
        words[layout.BODY_SIZE] = len(self.data)
        words[layout.COMPLEX] = 1


class LentContext:
    """Whom a hostcall acts for while a kernel answers for it: its root; its stream is made when asked for."""

    __slots__ = ("_lender", "root")

    def __init__(self, root: RootContext, lender: Lender) -> None:
        self.root = root
        self._lender = lender

    @property
    def stream(self) -> StreamContext | None:
        """The stream context, which takes over from the kernel."""
        return self._lender.recall()

    @property
    def stream_id(self) -> int:
        """The stream context's id, whether that is made or not."""
        return self._lender.words[layout.STREAM]

    def body_shown(self, direction: int) -> Buffer | None:
        """The piece of a body, in its own callback; elsewhere nothing is held."""
        return LentBody(self._lender) if self._lender.words[layout.BODIES] >> direction & 1 else None
