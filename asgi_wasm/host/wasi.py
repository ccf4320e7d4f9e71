"""The part of WASI that Proxy-Wasm hosts give: enough for a language's runtime to start, log and read clocks.

Followed: proxy-wasm-cpp-host `src/exports.cc` (`wasi_unstable_*`). No file, socket or environment of the host is
visible to a guest. Each function answers a WASI errno.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_wasm.host.abi import LogLevel

if TYPE_CHECKING:
    from asgi_wasm.host.vm import WasmVM

SUCCESS = 0
EBADF = 8
EFAULT = 21
EINVAL = 28
ENOENT = 44
ENOSYS = 52
ENOTDIR = 54
ENOTSUP = 58
ENOTCAPABLE = 76

# proxy-wasm-cpp-host `limits.h`: PROXY_WASM_HOST_WASI_RANDOM_GET_MAX_SIZE_BYTES.
MAX_RANDOM = 64 * 1024
# Our own: no guest prints that many pieces in one write; bounds the loop below.
MAX_IOVECS = 1024
_OUTPUTS = {1: LogLevel.INFO, 2: LogLevel.ERROR}
_RIGHTS_FD_WRITE = 64

WasiFunction = Callable[..., int]


def fd_write(vm: WasmVM, fd: int, iovs: int, count: int, return_written: int) -> int:
    """stdout is logged at INFO, stderr at ERROR, without the line's end."""
    level = _OUTPUTS.get(fd)
    if level is None:
        return EBADF
    if count > MAX_IOVECS:
        return EINVAL
    memory = vm.memory
    vectors = memory.read(iovs, 8 * count)
    numbers = [int.from_bytes(vectors[at : at + 4], "little") for at in range(0, len(vectors), 4)]
    text = b"".join(memory.read(address, size) for address, size in zip(numbers[::2], numbers[1::2], strict=True))
    if text.removesuffix(b"\n"):
        vm.ports.log.plugin(vm.plugin_name(), level, text.removesuffix(b"\n"))
    memory.write_u32(return_written, len(text))
    return SUCCESS


def fd_pwrite(vm: WasmVM, fd: int, iovs: int, count: int, _offset: int, return_written: int) -> int:
    """As `fd_write`: the outputs have no position."""
    return fd_write(vm, fd, iovs, count, return_written)


def fd_fdstat_get(vm: WasmVM, fd: int, return_stat: int) -> int:
    """24 bytes: all zero but the right to write."""
    if fd not in _OUTPUTS:
        return EBADF
    vm.memory.write(return_stat, bytes(8) + _RIGHTS_FD_WRITE.to_bytes(8, "little") + bytes(8))
    return SUCCESS


def _on_outputs(_vm: WasmVM, fd: int, *_: int) -> int:
    return SUCCESS if fd in _OUTPUTS else EBADF


def fd_tell(vm: WasmVM, fd: int, return_offset: int) -> int:
    """The outputs have no position."""
    if fd not in _OUTPUTS:
        return EBADF
    vm.memory.write(return_offset, bytes(8))
    return SUCCESS


def _misuse(name: str) -> WasiFunction:
    """cpp-host logs these and answers success."""

    def function(vm: WasmVM, *_: int) -> int:
        vm.ports.log.host(vm.plugin_name(), LogLevel.ERROR, f"called {name}, which does nothing here")
        return SUCCESS

    return function


def _answer(errno: int) -> WasiFunction:
    return lambda _vm, *_: errno


def environ_sizes_get(vm: WasmVM, return_count: int, return_size: int) -> int:
    """How many variables, and how many bytes they need."""
    entries = _environment(vm)
    vm.memory.write_u32(return_count, len(entries))
    vm.memory.write_u32(return_size, sum(map(len, entries)))
    return SUCCESS


def environ_get(vm: WasmVM, addresses: int, area: int) -> int:
    """The configured variables, each ``name=value`` and a NUL; nothing of the process's own environment."""
    memory = vm.memory
    for index, entry in enumerate(_environment(vm)):
        memory.write(area, entry)
        memory.write_u32(addresses + 4 * index, area)
        area += len(entry)
    return SUCCESS


def _environment(vm: WasmVM) -> list[bytes]:
    return [f"{name}={value}\0".encode() for name, value in vm.spec.env]


def args_sizes_get(vm: WasmVM, return_count: int, return_size: int) -> int:
    """No arguments."""
    vm.memory.write_u32(return_count, 0)
    vm.memory.write_u32(return_size, 0)
    return SUCCESS


def clock_time_get(vm: WasmVM, clock_id: int, _precision: int, return_time: int) -> int:
    """0 is realtime, 1 monotonic; there are no others."""
    clock = vm.ports.clock
    if clock_id > 1:
        return ENOTSUP
    now = clock.monotonic() if clock_id else clock.realtime()
    vm.memory.write(return_time, now.to_bytes(8, "little"))
    return SUCCESS


def clock_res_get(vm: WasmVM, clock_id: int, return_resolution: int) -> int:
    """One nanosecond."""
    if clock_id > 1:
        return ENOTSUP
    vm.memory.write(return_resolution, (1).to_bytes(8, "little"))
    return SUCCESS


def random_get(vm: WasmVM, address: int, size: int) -> int:
    """Random bytes, at most 64 KiB at a time."""
    if size > MAX_RANDOM:
        return EINVAL
    vm.memory.write(address, vm.ports.random(size))
    return SUCCESS


def poll_oneoff(vm: WasmVM, _subscriptions: int, _events: int, _count: int, return_events: int) -> int:
    """No event, at once: Go's runtime calls it while it idles, and nothing here may sleep."""
    vm.memory.write_u32(return_events, 0)
    return SUCCESS


def proc_exit(vm: WasmVM, code: int) -> int:
    """Only logged. A guest that really wanted to end runs into its own `unreachable` next, and traps."""
    level = LogLevel.DEBUG if code == 0 else LogLevel.ERROR
    vm.ports.log.host(vm.plugin_name(), level, f"called proc_exit({code})")
    return SUCCESS


def _each(errno: int, *names: str) -> dict[str, WasiFunction]:
    return dict.fromkeys(names, _answer(errno))


FUNCTIONS: dict[str, WasiFunction] = {
    "fd_write": fd_write,
    "fd_pwrite": fd_pwrite,
    "fd_fdstat_get": fd_fdstat_get,
    "fd_tell": fd_tell,
    "fd_seek": _misuse("fd_seek"),
    "fd_close": _misuse("fd_close"),
    "environ_sizes_get": environ_sizes_get,
    "environ_get": environ_get,
    "args_sizes_get": args_sizes_get,
    "clock_time_get": clock_time_get,
    "clock_res_get": clock_res_get,
    "random_get": random_get,
    "poll_oneoff": poll_oneoff,
    "proc_exit": proc_exit,
    **dict.fromkeys(
        (
            "fd_allocate",
            "fd_datasync",
            "fd_sync",
            "fd_fdstat_set_rights",
            "fd_filestat_set_size",
            "fd_filestat_set_times",
        ),
        _on_outputs,
    ),
    **_each(SUCCESS, "args_get", "sched_yield", "fd_advise"),
    **_each(EBADF, "fd_prestat_get", "fd_filestat_get", "fd_renumber"),
    **_each(ENOSYS, "fd_read", "fd_pread", "fd_prestat_dir_name", "fd_fdstat_set_flags"),
    **_each(ENOTDIR, "fd_readdir"),
    **_each(ENOENT, "path_open"),
    **_each(
        ENOTSUP,
        "path_create_directory",
        "path_filestat_get",
        "path_filestat_set_times",
        "path_link",
        "path_readlink",
        "path_remove_directory",
        "path_rename",
        "path_symlink",
        "path_unlink_file",
        "sock_accept",
        "sock_recv",
        "sock_send",
        "sock_shutdown",
    ),
}
