"""Python functions as foreign functions: synchronous ones answer at once, asynchronous ones after the callback.

Envoy's functions are all of the first kind; the way of an answer that comes later is the spec's
`proxy_on_foreign_function`, whose use is left to the host. Ours is told in `asynchronous` and `deliver`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgi_wasm.errors import ForeignFunctionError
from asgi_wasm.host import limits
from asgi_wasm.host.abi import BufferType, HostcallError, LogLevel, ProxyStatus
from asgi_wasm.host.effects import ForeignCall
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.vm.contexts import RootContext
from asgi_wasm.host.vm.vm import ForeignFunction, WasmVM, vm_of

SyncFunction = Callable[[bytes], "bytes | None"]
AsyncFunction = Callable[[bytes], Awaitable["bytes | None"]]


def synchronous(name: str, function: SyncFunction) -> ForeignFunction:
    """A foreign function whose result is what ``function`` returns, and whose status is OK, or what it raises."""

    def call(vm: WasmVM, arguments: bytes) -> bytes:
        try:
            return result_bytes(function(arguments))
        except Exception as error:
            status, _ = failure_of(acting_context(vm).root, name, error)
            raise HostcallError(status) from error

    return call


def asynchronous(name: str, function: AsyncFunction) -> ForeignFunction:
    """A foreign function that is started after the callback.

    Its result is the function id, four bytes little endian, under which `proxy_on_foreign_function` brings the answer.
    An id is not used again in its VM.
    """

    def call(vm: WasmVM, arguments: bytes) -> bytes:
        root = acting_context(vm).root
        function_id = vm.calls.next_function_id()
        limits.ask(vm, ForeignCall(root, function_id, name, function, arguments), len(arguments))
        return function_id.to_bytes(4, "little")

    return call


def result_bytes(result: object) -> bytes:
    """A function's result; None is empty. Raises TypeError for anything but bytes."""
    if result is None:
        return b""
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    raise TypeError(f"it returned {type(result).__name__}, not bytes or None")


def failure_of(root: RootContext, name: str, error: Exception) -> tuple[ProxyStatus, bytes]:
    """The status and message that the plugin gets. An exception that was not meant for it is written to the log."""
    if isinstance(error, ForeignFunctionError):
        try:
            status = ProxyStatus(error.status)
        except ValueError:
            status = ProxyStatus.INTERNAL_FAILURE
        return status or ProxyStatus.INTERNAL_FAILURE, error.message.encode("utf-8", "replace")
    line = f"foreign function {name!r} raised {type(error).__name__}: {error}"
    vm_of(root).log_lines.host(LogLevel.ERROR, line, root)
    return ProxyStatus.INTERNAL_FAILURE, b""


def deliver(call: ForeignCall, result: bytes, status: tuple[int, bytes] = (ProxyStatus.OK, b"")) -> None:
    """Hand the answer of an asynchronous function to the plugin, unless its root context or VM is gone.

    The bytes are in buffer 8 during the callback, and `proxy_get_status` answers ``status``: (0, "") for a result, so
    that an empty one can be told from a failure.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#proxy_on_foreign_function
    Follows: proxy-wasm-cpp-host `ContextBase::onForeignFunction` (`src/context.cc`).
    """
    root = call.root
    before = root.status
    root.status = status
    root.buffers = {BufferType.CALL_DATA: Buffer(result, writable=False)}
    try:
        root.notify("proxy_on_foreign_function", call.function_id, len(result))
    finally:
        root.status, root.buffers = before, {}
