"""What enters a kernel without Python, as the host knows it: the extension module of `asgi_wasm.accelerator`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from asgi_wasm.engines import companion


class NativeKernel(Protocol):
    """What enters one VM's kernel. ``fill``, ``give_body``, ``take_body`` and ``env`` are a `NativeFunction`'s;
    ``thread`` is whose it may be; it is ``stale`` once the VM has failed, or a root context of it is gone. ``piece``:
    see `Resident`.
    """

    thread: int
    stale: bool
    piece: bytes

    @property
    def fill(self) -> int: ...

    @property
    def give_body(self) -> int: ...

    @property
    def take_body(self) -> int: ...

    @property
    def env(self) -> int: ...

    def attach(
        self,
        call: int,
        store: int,
        entry: int,
        guest: int,
        functions: tuple[int, ...],
        window: int,
        address: int,
        thread: int,
        owner: object,
        vm: object,
        fill: Callable[[int], int],
        fail: Callable[[int, int], object],
        headroom: Callable[[], None],
        realtime: Callable[[], int],
        body_bytes: int,
        /,
    ) -> None:
        """Tell it where all this is; once."""
        ...

    def show(self, context_id: int, root_id: int, piece: bytes, ends: bool, /) -> int:
        """`Resident.show_request` from C: a crossing that shows a piece of a request's body."""
        ...

    def close(self) -> None:
        """Enter no more. Idempotent; a call that runs may end."""
        ...


class Accelerator(Protocol):
    """The extension module."""

    WINDOW_SIZE: int
    # Of what it was built; see `asgi_wasm.accelerator.sources`.
    SOURCES: int
    # What servers call; see `asgi_wasm.asgi.lane.door`.
    Door: type
    # Makes requests of one chain of filters; see `asgi_wasm.asgi.lane.native`.
    Course: Any
    # The base of the class of such requests.
    Stream: type
    # Of those with a body that plugins look at.
    Upload: type

    def request_type(self, base: type, /) -> type:
        """The class of such requests: `Stream`, and ``base``, which has no fields."""
        ...

    def loop_mark(self) -> object:
        """One object for as long as an event loop runs on this thread; None without one, and from CPython 3.12 on."""
        ...

    def Ticker(self) -> companion.Ticker:  # noqa: N802  # likewise
        """What ticks for the watchdog."""
        ...

    def Kernel(self) -> NativeKernel:  # noqa: N802  # a class there
        """A kernel's way in, to be attached."""
        ...
