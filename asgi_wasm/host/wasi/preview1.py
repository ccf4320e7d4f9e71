"""The part of WASI that Proxy-Wasm hosts give: enough for a language's runtime to start, log and read clocks.

Each function NAME answers a WASI errno, the one of proxy-wasm-cpp-host's `exports::wasi_unstable_NAME`
(`src/exports.cc`); those that the Proxy-Wasm spec has name its line. A guest sees no file, socket or environment of
the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from asgi_wasm.engines.base import FuncType
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.signatures import Signature, parameters

if TYPE_CHECKING:
    from asgi_wasm.host.vm.vm import WasmVM

SUCCESS = 0
EBADF = 8
EFAULT = 21
EINVAL = 28
EIO = 29
ENOENT = 44
ENOSYS = 52
# cpp-host answers 20, Linux's number, where WASI has 54.
ENOTDIR = 20
ENOTSUP = 58
ENOTCAPABLE = 76

# proxy-wasm-cpp-host `limits.h`: PROXY_WASM_HOST_WASI_RANDOM_GET_MAX_SIZE_BYTES.
MAX_RANDOM = 64 * 1024
# Our own: no guest prints that much, or that many pieces, in one write. The pieces may all be the same one.
MAX_IOVECS = 1024
MAX_WRITE = 1024 * 1024
_OUTPUTS = {1: LogLevel.INFO, 2: LogLevel.ERROR}
_RIGHTS_FD_WRITE = 64

WasiFunction = Callable[..., int]


def fd_write(vm: WasmVM, fd: int, iovs: int, count: int, return_written: int) -> int:
    """stdout is logged at INFO, stderr at ERROR, without the line's end.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1fd_write
    Follows: proxy-wasm-cpp-host `exports::wasi_unstable_fd_write` (`src/exports.cc`).
    """
    level = _OUTPUTS.get(fd)
    if level is None:
        return EBADF
    if count > MAX_IOVECS:
        return EINVAL
    memory = vm.memory
    vectors = memory.read(iovs, 8 * count)
    numbers = [int.from_bytes(vectors[at : at + 4], "little") for at in range(0, len(vectors), 4)]
    if sum(numbers[1::2]) > MAX_WRITE:
        return EINVAL
    pieces = (pair for pair in zip(numbers[::2], numbers[1::2], strict=True) if pair[1])
    text = b"".join(memory.read(address, size) for address, size in pieces)
    line = text.removesuffix(b"\n")
    if line and level >= vm.log_lines.lowest():
        vm.log_lines.write(vm.plugin_name(), level, line[: vm.spec.limits.log_line_bytes], len(line))
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


def fd_renumber(_vm: WasmVM, fd: int, to: int) -> int:
    """The outputs stay where they are."""
    return ENOTSUP if fd in _OUTPUTS and to in _OUTPUTS else EBADF


def fd_readdir(vm: WasmVM, _fd: int, _buffer: int, _size: int, _cookie: int, return_size: int) -> int:
    """There are no directories."""
    vm.memory.write_u32(return_size, 0)
    return ENOTDIR


def _misuse(name: str) -> WasiFunction:
    """cpp-host logs these and answers success."""

    def function(vm: WasmVM, *_: int) -> int:
        vm.log_lines.host(LogLevel.ERROR, f"called {name}, which does nothing here")
        return SUCCESS

    return function


def _answer(errno: int) -> WasiFunction:
    return lambda _vm, *_: errno


def environ_sizes_get(vm: WasmVM, return_count: int, return_size: int) -> int:
    """How many variables, and how many bytes they need.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1environ_sizes_get
    Follows: proxy-wasm-cpp-host `exports::wasi_unstable_environ_sizes_get` (`src/exports.cc`).
    """
    entries = _environment(vm)
    vm.memory.write_u32(return_count, len(entries))
    vm.memory.write_u32(return_size, sum(map(len, entries)))
    return SUCCESS


def environ_get(vm: WasmVM, addresses: int, area: int) -> int:
    """The configured variables, each ``name=value`` and a NUL; nothing of the process's own environment.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1environ_get
    Follows: proxy-wasm-cpp-host `exports::wasi_unstable_environ_get` (`src/exports.cc`).
    """
    memory = vm.memory
    for index, entry in enumerate(_environment(vm)):
        memory.write(area, entry)
        memory.write_u32(addresses + 4 * index, area)
        area += len(entry)
    return SUCCESS


def _environment(vm: WasmVM) -> list[bytes]:
    return [f"{name}={value}\0".encode() for name, value in vm.spec.env]


def args_sizes_get(vm: WasmVM, return_count: int, return_size: int) -> int:
    """There are no arguments, so `args_get` writes none.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1args_sizes_get
    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1args_get
    Follows: proxy-wasm-cpp-host `exports::wasi_unstable_args_sizes_get` (`src/exports.cc`).
    """
    vm.memory.write_u32(return_count, 0)
    vm.memory.write_u32(return_size, 0)
    return SUCCESS


def clock_time_get(vm: WasmVM, clock_id: int, _precision: int, return_time: int) -> int:
    """0 is realtime, 1 monotonic; there are no others.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1clock_time_get
    Follows: proxy-wasm-cpp-host `exports::wasi_unstable_clock_time_get` (`src/exports.cc`).
    """
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
    """Random bytes, at most 64 KiB at a time.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1random_get
    Follows: proxy-wasm-cpp-host `exports::wasi_unstable_random_get` (`src/exports.cc`).
    """
    if size > MAX_RANDOM:
        return EINVAL
    if size == 0:
        return SUCCESS
    vm.memory.write(address, vm.ports.random(size))
    return SUCCESS


def poll_oneoff(vm: WasmVM, _subscriptions: int, _events: int, _count: int, return_events: int) -> int:
    """No event, at once: Go's runtime calls it while it idles, and nothing here may sleep."""
    vm.memory.write_u32(return_events, 0)
    return SUCCESS


def proc_exit(vm: WasmVM, code: int) -> int:
    """Only logged. A guest that really wanted to end runs into its own `unreachable` next, and traps.

    Spec: https://github.com/proxy-wasm/spec/blob/3a844b8/abi-versions/v0.2.1/README.md#wasi_snapshot_preview1proc_exit
    Follows: proxy-wasm-cpp-host `exports::wasi_unstable_proc_exit` (`src/exports.cc`).
    """
    level = LogLevel.DEBUG if code == 0 else LogLevel.ERROR
    vm.log_lines.host(level, f"called proc_exit({code})")
    return SUCCESS


def _same(function: WasiFunction, rows: Mapping[str, str]) -> dict[str, tuple[str, WasiFunction]]:
    return {name: (params, function) for name, params in rows.items()}


# Name -> parameters, as in `host.abi`, and what is done.
_TABLE: dict[str, tuple[str, WasiFunction]] = {
    "fd_write": ("fd iovs iovs_count return_written", fd_write),
    "fd_pwrite": ("fd iovs iovs_count offset:i64 return_written", fd_pwrite),
    "fd_fdstat_get": ("fd return_stat", fd_fdstat_get),
    "fd_tell": ("fd return_offset", fd_tell),
    "fd_renumber": ("fd to", fd_renumber),
    "fd_readdir": ("fd buffer buffer_size cookie:i64 return_size", fd_readdir),
    "fd_seek": ("fd offset:i64 whence return_offset", _misuse("fd_seek")),
    "fd_close": ("fd", _misuse("fd_close")),
    "environ_sizes_get": ("return_count return_size", environ_sizes_get),
    "environ_get": ("addresses area", environ_get),
    "args_sizes_get": ("return_count return_size", args_sizes_get),
    "clock_time_get": ("clock_id precision:i64 return_time", clock_time_get),
    "clock_res_get": ("clock_id return_resolution", clock_res_get),
    "random_get": ("buffer buffer_size", random_get),
    "poll_oneoff": ("subscriptions events subscriptions_count return_events", poll_oneoff),
    "proc_exit": ("code", proc_exit),
    **_same(
        _on_outputs,
        {
            "fd_allocate": "fd offset:i64 size:i64",
            "fd_datasync": "fd",
            "fd_sync": "fd",
            "fd_fdstat_set_rights": "fd rights:i64 rights_inheriting:i64",
            "fd_filestat_set_size": "fd size:i64",
            "fd_filestat_set_times": "fd accessed:i64 modified:i64 flags",
        },
    ),
    **_same(
        _answer(SUCCESS),
        {"args_get": "addresses area", "sched_yield": "", "fd_advise": "fd offset:i64 size:i64 advice"},
    ),
    **_same(_answer(EBADF), {"fd_prestat_get": "fd return_prestat", "fd_filestat_get": "fd return_stat"}),
    **_same(
        _answer(ENOSYS),
        {
            "fd_read": "fd iovs iovs_count return_size",
            "fd_pread": "fd iovs iovs_count offset:i64 return_size",
            "fd_prestat_dir_name": "fd path path_size",
            "fd_fdstat_set_flags": "fd flags",
        },
    ),
    "path_open": (
        "fd lookup_flags path path_size open_flags rights:i64 rights_inheriting:i64 fd_flags return_fd",
        _answer(ENOENT),
    ),
    **_same(
        _answer(ENOTSUP),
        {
            "path_create_directory": "fd path path_size",
            "path_filestat_get": "fd flags path path_size return_stat",
            "path_filestat_set_times": "fd flags path path_size accessed:i64 modified:i64 times_flags",
            "path_link": "fd flags path path_size new_fd new_path new_path_size",
            "path_readlink": "fd path path_size buffer buffer_size return_size",
            "path_remove_directory": "fd path path_size",
            "path_rename": "fd path path_size new_fd new_path new_path_size",
            "path_symlink": "path path_size fd new_path new_path_size",
            "path_unlink_file": "fd path path_size",
            "sock_accept": "fd flags return_fd",
            "sock_recv": "fd iovs iovs_count flags return_size return_flags",
            "sock_send": "fd iovs iovs_count flags return_size",
            "sock_shutdown": "fd how",
        },
    ),
}
SIGNATURES = {
    name: Signature(name, parameters(params), None if name == "proc_exit" else "i32")
    for name, (params, _) in _TABLE.items()
}
FUNCTIONS = {name: function for name, (_, function) in _TABLE.items()}
# proxy-wasm-cpp-host has these without a last size, and links no other.
ENVOY_TYPES = {
    "path_link": FuncType(("i32",) * 6, ("i32",)),
    "path_symlink": FuncType(("i32",) * 4, ("i32",)),
}
