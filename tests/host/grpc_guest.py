"""A plugin written in Python that makes gRPC calls, in a VM of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from asgi_wasm.engines.base import FuncType, GuestFunction, Import
from asgi_wasm.engines.null import NullEngine, NullHost, NullInstance
from asgi_wasm.host.abi import AbiVersion, MapType
from asgi_wasm.host.codecs.wire import decode_pairs
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
        imports = [Import("env", name, "func", types[name]) for name in (*IMPORTS, *MORE_IMPORTS)]
        module = NullEngine({"guest": self._factory}, imports).compile(b"null:guest")
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
        self.vm = WasmVM(module, AbiVersion.V0_2_1, self.spec, ports, host_functions)
        assert isinstance(self.vm.instance, NullInstance)
        self.host = self.vm.instance.host
        self.root = lifecycle.start_root(self.vm, self.spec, b"")

    def _factory(self, host: NullHost) -> Mapping[str, GuestFunction]:
        def did(name: str) -> GuestFunction:
            def callback(root: int, token: int, number: int) -> None:
                todo, self.todo = self.todo, lambda: None
                self.seen.append((name, token, number))
                todo()

            return callback

        def proxy_on_tick(root: int) -> None:
            todo, self.todo = self.todo, lambda: None
            todo()

        def proxy_on_configure(root: int, size: int) -> int:
            proxy_on_tick(root)
            return self.configured

        def proxy_on_done(context: int) -> int:
            return self.done

        names = ("receive_initial_metadata", "receive", "receive_trailing_metadata", "close")
        return {
            "proxy_on_memory_allocate": host.allocate,
            "proxy_on_tick": proxy_on_tick,
            "proxy_on_configure": proxy_on_configure,
            "proxy_on_done": proxy_on_done,
            **{f"proxy_on_grpc_{name}": did(name) for name in names},
        }

    def act(self, todo: Callable[[], int], root: RootContext | None = None) -> int:
        """What a hostcall made in a callback of the root context answers."""
        answers: list[int] = []
        self.todo = lambda: answers.append(todo())
        (root or self.root).notify("proxy_on_tick")
        return answers[0]

    def ask(self, name: str, *arguments: int) -> int:
        """A hostcall, from within a callback."""
        return self.host.call("env", f"proxy_{name}", *arguments)

    def call(self, upstream: bytes = b"auth", metadata: bytes = b"", timeout: int = 0) -> tuple[int, int]:
        """Status and token of a unary call."""
        store, result = self.host.store, self.host.allocate(4)
        texts = (*store(upstream), *store(b"test.Auth"), *store(self.method), *store(metadata), *store(b"msg"))
        status = self.act(lambda: self.ask("grpc_call", *texts, timeout, result))
        return status, self.host.read_u32(result)

    def stream(self, root: RootContext | None = None) -> int:
        """Token of a new stream."""
        store, result = self.host.store, self.host.allocate(4)
        texts = (*store(b"auth"), *store(b"test.Auth"), *store(self.method), 0, 0)
        assert self.act(lambda: self.ask("grpc_stream", *texts, result), root) == 0
        return self.host.read_u32(result)

    def send(self, token: int, message: bytes, *, is_last: bool = False) -> int:
        """The status of a message that is sent on a stream."""
        return self.act(lambda: self.ask("grpc_send", token, *self.host.store(message), int(is_last)))

    def status(self) -> tuple[int, bytes]:
        """`get_status`, from within a callback."""
        at = self.host.allocate(12)
        assert self.ask("get_status", at, at + 4, at + 8) == 0
        code, address, size = (self.host.read_u32(at + offset) for offset in (0, 4, 8))
        return code, self.host.memory.read(address, size)

    def metadata(self, map_type: MapType) -> list[tuple[bytes, bytes]]:
        """A metadata map, from within a callback."""
        at = self.host.allocate(8)
        assert self.ask("get_header_map_pairs", map_type, at, at + 4) == 0
        return decode_pairs(self.host.memory.read(self.host.read_u32(at), self.host.read_u32(at + 4)))

    def message(self) -> bytes | None:
        """The message, from within a callback."""
        at = self.host.allocate(8)
        status = self.ask("get_buffer_bytes", 5, 0, 1000, at, at + 4)
        return None if status else self.host.memory.read(self.host.read_u32(at), self.host.read_u32(at + 4))


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
