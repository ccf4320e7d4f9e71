"""A plugin written in Python that makes gRPC calls, in a VM of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from asgi_wasm import testing
from asgi_wasm.engines.base import FuncType, Import
from asgi_wasm.engines.null import NullInstance, NullModule
from asgi_wasm.host.abi import AbiVersion, BufferType, MapType
from asgi_wasm.host.effects import EndCallouts, EndStreamCallouts, GrpcEffect
from asgi_wasm.host.host_metrics import NO_HOST_METRICS, HostMetrics
from asgi_wasm.host.ports import Effect, Ports
from asgi_wasm.host.signatures import HOSTCALLS
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.linker import host_functions
from asgi_wasm.host.vm.vm import WasmVM
from asgi_wasm.limits import PluginLimits
from asgi_wasm.services.callouts.grpc.calls import GrpcCalls
from asgi_wasm.services.clock import SystemClock
from asgi_wasm.services.log import StandardLog
from asgi_wasm.services.stores.memory import MemoryQueues, MemorySharedData
from asgi_wasm.services.stores.memory_metrics import MemoryMetrics
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing import Hostcalls

TYPES = {row.name: row.type for row in HOSTCALLS}
IMPORTS = ("proxy_grpc_call", "proxy_grpc_stream", "proxy_grpc_send", "proxy_grpc_close", "proxy_grpc_cancel")
MORE_IMPORTS = ("proxy_get_status", "proxy_get_header_map_pairs", "proxy_get_buffer_bytes", "proxy_done")


_LIMITS = PluginLimits()


class Guest:
    """A plugin whose next callback does ``todo``; ``seen`` are the gRPC callbacks that it got."""

    def __init__(
        self,
        types: Mapping[str, FuncType] = TYPES,
        capabilities: frozenset[str] = frozenset(),
        start: Callable[[Effect], None] | None = None,
        method: bytes = b"M",
        host_metrics: HostMetrics = NO_HOST_METRICS,
        limits: PluginLimits = _LIMITS,
        has_room: Callable[[str], bool] = lambda _: True,
        may_send: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.method = method
        self.todo: Callable[[], object] = lambda: None
        self.seen: list[tuple[str, int, int]] = []
        self.effects: list[Effect] = []
        self.done = 1
        self.configured = 1
        ports = Ports(
            log=StandardLog(),
            clock=SystemClock(),
            random=bytes,
            shared_data=MemorySharedData(),
            queues=MemoryQueues(lambda callback: callback()),
            metrics=MemoryMetrics(),
            start=start or self.effects.append,
            can_call_grpc={"auth"}.__contains__,
            has_room_grpc=has_room,
            may_send_grpc=may_send,
            host_metrics=host_metrics,
        )
        self.spec = PluginSpec("guest", Path("guest.wasm"), allowed_capabilities=capabilities, limits=limits)
        self.vm = WasmVM(self._module(types), AbiVersion.V0_2_1, self.spec, ports, host_functions)
        assert isinstance(self.vm.instance, NullInstance)
        self.host = self.vm.instance.host
        self.calls = Hostcalls(self.host)
        self.root = lifecycle.start_root(self.vm, self.spec, b"")

    def _module(self, types: Mapping[str, FuncType]) -> NullModule:
        names = ("receive_initial_metadata", "receive", "receive_trailing_metadata", "close")
        plugin = testing.Guest(
            on_tick=self._act,
            on_configure=self._configure,
            on_done=lambda *_: self.done,
            **{f"on_grpc_{name}": partial(self._hear, name) for name in names},
        )
        imports = [Import("env", name, "func", types[name]) for name in (*IMPORTS, *MORE_IMPORTS)]
        return NullModule("guest", plugin, imports)

    def _act(self, *_: object) -> None:
        todo, self.todo = self.todo, lambda: None
        todo()

    def _configure(self, *_: object) -> int:
        self._act()
        return self.configured

    def _hear(self, name: str, _: Hostcalls, root: int, token: int, number: int) -> None:
        self.seen.append((name, token, number))
        self._act()

    def act(self, todo: Callable[[], Any], root: RootContext | None = None) -> Any:
        """What a hostcall made in a callback of the root context answers."""
        answers: list[Any] = []
        self.todo = lambda: answers.append(todo())
        (root or self.root).notify("proxy_on_tick")
        return answers[0]

    def ask(self, name: str, *arguments: int) -> int:
        """A hostcall, from within a callback."""
        return self.calls.raw(name, *arguments)

    def call(self, upstream: bytes = b"auth", metadata: bytes = b"", timeout: int = 0) -> tuple[int, int]:
        """Status and token of a unary call; 0 for none."""
        given = (upstream, b"test.Auth", self.method, metadata, b"msg", timeout)
        answers: list[tuple[Any, ...]] = []
        self.act(lambda: answers.append(self.calls.call("grpc_call", *given)))
        ((status, *token),) = answers
        return status, token[0] if token else 0

    def stream(self, root: RootContext | None = None) -> int:
        """Token of a new stream."""
        token: int = self.act(lambda: self.calls.grpc_stream(b"auth", b"test.Auth", self.method), root)
        return token

    def send(self, token: int, message: bytes, *, is_last: bool = False) -> int:
        """The status of a message that is sent on a stream."""
        status: int = self.act(lambda: self.calls.call("grpc_send", token, message, int(is_last))[0])
        return status

    def status(self) -> tuple[int, bytes]:
        """`get_status`, from within a callback."""
        return self.calls.get_status()

    def metadata(self, map_type: MapType) -> list[tuple[bytes, bytes]]:
        """A metadata map, from within a callback."""
        return self.calls.get_header_map_pairs(map_type)

    def message(self) -> bytes | None:
        """The message, from within a callback."""
        status, *found = self.calls.call("get_buffer_bytes", BufferType.GRPC_RECEIVE_BUFFER, 0, 1000)
        return None if status else found[0]


def carried_out_by(calls: GrpcCalls) -> Callable[[Effect], None]:
    """What a worker does with the effects that concern gRPC."""

    def start(effect: Effect) -> None:
        if isinstance(effect, EndCallouts):
            calls.end(effect)
        elif isinstance(effect, EndStreamCallouts):
            calls.leave(effect)
        elif isinstance(effect, GrpcEffect):
            calls.start(effect)

    return start
