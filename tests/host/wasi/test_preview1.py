from __future__ import annotations

import struct
from typing import Any

import pytest

from asgi_wasm.engines.base import FuncType, Import
from asgi_wasm.errors import PluginLoadError
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.wasi import preview1 as wasi
from tests.host.guest import MARKER, OUTSIDE, Calls, in_phase, plugin, vm_of
from tests.host.world import NANOSECONDS, World

SUCCESS, BADF, EFAULT, EINVAL, EIO, NOENT, NOSYS, NOTSUP = 0, 8, 21, 28, 29, 44, 52, 58


def run(act: Any, world: World | None = None, **changes: Any) -> Any:
    return in_phase("_initialize", act, world=world, **changes)


def memory(calls: Calls, address: int, size: int) -> bytes:
    return bytes(calls.memory.data[address : address + size])


def iovecs(calls: Calls, *pieces: bytes) -> tuple[int, int]:
    numbers = [number for piece in pieces for number in calls.host.store(piece)]
    address, _ = calls.host.store(struct.pack(f"<{len(numbers)}I", *numbers))
    return address, len(pieces)


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        ((b"hello\n",), b"hello"),
        ((b"hel", b"", b"lo\n\n"), b"hello\n"),
        ((b"\xff",), b"\xff"),
        ((b"\n",), None),
        ((b"",), None),
        ((), None),
    ],
)
@pytest.mark.parametrize(("fd", "level"), [(1, LogLevel.INFO), (2, LogLevel.ERROR)])
@pytest.mark.parametrize("name", ["fd_write", "fd_pwrite"])
def test_outputs_are_logged(name: str, fd: int, level: LogLevel, pieces: tuple[bytes, ...], line: bytes | None) -> None:
    world = World()

    def act(calls: Calls) -> Any:
        offset = (0,) if name == "fd_pwrite" else ()
        errno = calls.wasi(name, fd, *iovecs(calls, *pieces), *offset, 64)
        return errno, calls.host.read_u32(64)

    assert run(act, world) == (SUCCESS, sum(map(len, pieces)))
    assert world.log.words == ([] if line is None else [("guest", level, line)])


def test_bad_writes() -> None:
    def act(calls: Calls) -> Any:
        good = iovecs(calls, b"x")
        return [
            calls.wasi("fd_write", 0, *good, 64),
            calls.wasi("fd_write", 3, *good, 64),
            calls.wasi("fd_write", 1, OUTSIDE, 1, 64),
            calls.wasi("fd_write", 1, *calls.host.store(struct.pack("<2I", OUTSIDE, 1))[:1], 1, 64),
            calls.wasi("fd_write", 1, *good, OUTSIDE),
            calls.wasi("fd_write", 1, good[0], wasi.MAX_IOVECS + 1, 64),
            # An address may be anything where there is nothing to read.
            calls.wasi("fd_write", 1, *calls.host.store(struct.pack("<2I", OUTSIDE, 0))[:1], 1, 64),
        ]

    world = World()
    assert run(act, world) == [BADF, BADF, EFAULT, EFAULT, EFAULT, EINVAL, SUCCESS]


def test_many_pieces_of_the_same_memory_are_not_copied() -> None:
    def act(calls: Calls) -> Any:
        vectors, _ = calls.host.store(struct.pack("<2I", 0, calls.memory.size) * 1000)
        return calls.wasi("fd_write", 1, vectors, 1000, 64)

    world = World()
    assert run(act, world) == EINVAL
    assert world.log.words == []


def test_the_environment_is_the_configured_one() -> None:
    def act(calls: Calls) -> Any:
        assert calls.wasi("environ_sizes_get", 64, 68) == SUCCESS
        count, size = calls.host.read_u32(64), calls.host.read_u32(68)
        assert calls.wasi("environ_get", 128, 256) == SUCCESS
        entries = [calls.host.read_u32(128 + 4 * index) - 256 for index in range(count)]
        return count, memory(calls, 256, size), entries, memory(calls, 256 + size, 1), memory(calls, 128 + 4 * count, 1)

    env = (("A", "1"), ("Ü", ""))
    area = b"A=1\0" + "Ü=\0".encode()
    assert run(act, env=env) == (2, area, [0, 4], MARKER, MARKER)
    assert run(act) == (0, b"", [], MARKER, MARKER)


def test_an_environment_that_cannot_be_encoded_is_no_trap() -> None:
    world = World()
    assert run(lambda calls: calls.wasi("environ_get", 64, 128), world, env=(("A", "\udcff"),)) == EIO
    assert "environ_get failed: UnicodeEncodeError" in world.log.hosts[0][2]


def test_there_are_no_arguments() -> None:
    def act(calls: Calls) -> Any:
        errnos = calls.wasi("args_sizes_get", 64, 68), calls.wasi("args_get", 72, 76)
        return errnos, memory(calls, 64, 16)

    assert run(act) == ((0, 0), bytes(8) + MARKER * 8)


def test_clocks() -> None:
    def act(calls: Calls) -> Any:
        for clock in (0, 1):
            assert calls.wasi("clock_time_get", clock, 1, 64 + 8 * clock) == SUCCESS
            assert calls.wasi("clock_res_get", clock, 80 + 8 * clock) == SUCCESS
        for clock in (2, 3, 0xFFFF_FFFF):
            assert calls.wasi("clock_time_get", clock, 1, OUTSIDE) == NOTSUP
            assert calls.wasi("clock_res_get", clock, OUTSIDE) == NOTSUP
        return struct.unpack("<4Q", memory(calls, 64, 32))

    assert run(act) == (NANOSECONDS, 42, 1, 1)


def test_random() -> None:
    def act(calls: Calls) -> Any:
        assert calls.wasi("random_get", 64, 5) == SUCCESS
        assert memory(calls, 64, 6) == b"\x5a" * 5 + MARKER
        return [calls.wasi("random_get", address, size) for address, size in [(0, 65536), (0, 65537), (OUTSIDE, 0)]]

    assert run(act) == [SUCCESS, EINVAL, SUCCESS]


def test_poll_never_waits() -> None:
    def act(calls: Calls) -> Any:
        return calls.wasi("poll_oneoff", OUTSIDE, OUTSIDE, 5, 64), calls.host.read_u32(64)

    assert run(act) == (SUCCESS, 0)


def test_fdstat() -> None:
    def act(calls: Calls) -> Any:
        errnos = [calls.wasi("fd_fdstat_get", fd, 64) for fd in (0, 1, 2, 3)]
        return errnos, struct.unpack("<3Q", memory(calls, 64, 24)), memory(calls, 88, 1)

    assert run(act) == ([BADF, 0, 0, BADF], (0, 64, 0), MARKER)


@pytest.mark.parametrize("code", [0, 1])
def test_proc_exit_is_only_logged(code: int) -> None:
    world = World()
    assert run(lambda calls: calls.wasi("proc_exit", code), world) == 0
    level = LogLevel.ERROR if code else LogLevel.DEBUG
    assert world.log.hosts == [("guest", level, f"called proc_exit({code})")]


@pytest.mark.parametrize("name", ["fd_seek", "fd_close"])
def test_what_does_nothing_says_so(name: str) -> None:
    world = World()
    assert run(lambda calls: calls.wasi(name, *[1] * len(wasi.SIGNATURES[name].params)), world) == SUCCESS
    assert world.log.hosts[0][2] == f"called {name}, which does nothing here"


# fd -> errno.
BY_FD = {0: BADF, 1: SUCCESS, 2: SUCCESS, 3: BADF}
SAME = {
    SUCCESS: ["args_get", "sched_yield", "fd_advise"],
    BADF: ["fd_prestat_get", "fd_filestat_get"],
    NOSYS: ["fd_read", "fd_pread", "fd_prestat_dir_name", "fd_fdstat_set_flags"],
    NOENT: ["path_open"],
    NOTSUP: [name for name in wasi.SIGNATURES if name.startswith(("path_", "sock_")) and name != "path_open"],
}


@pytest.mark.parametrize(("errno", "name"), [(errno, name) for errno, names in SAME.items() for name in names])
def test_constant_answers(errno: int, name: str) -> None:
    def act(calls: Calls) -> Any:
        before = bytes(calls.memory.data)
        answer = calls.wasi(name, *[3] * len(wasi.SIGNATURES[name].params))
        return answer, bytes(calls.memory.data) == before

    assert run(act) == (errno, True)


@pytest.mark.parametrize("fd", BY_FD)
@pytest.mark.parametrize(
    "name",
    [
        *["fd_allocate", "fd_datasync", "fd_sync", "fd_fdstat_set_rights", "fd_filestat_set_size"],
        *["fd_filestat_set_times", "fd_tell"],
    ],
)
def test_answers_by_file(name: str, fd: int) -> None:
    def act(calls: Calls) -> Any:
        return calls.wasi(name, fd, *[64] * (len(wasi.SIGNATURES[name].params) - 1))

    assert run(act) == BY_FD[fd]


def test_tell_renumber_and_readdir() -> None:
    def act(calls: Calls) -> Any:
        assert calls.wasi("fd_tell", 1, 64) == SUCCESS
        assert memory(calls, 64, 9) == bytes(8) + MARKER
        assert [calls.wasi("fd_renumber", *each) for each in [(1, 2), (1, 3), (0, 2)]] == [NOTSUP, BADF, BADF]
        # Envoy's number; WASI has 54.
        return calls.wasi("fd_readdir", 3, 0, 0, 0, 80), memory(calls, 80, 5)

    assert run(act) == (20, bytes(4) + MARKER)


WRITERS: dict[str, list[tuple[int, ...]]] = {
    "environ_sizes_get": [(OUTSIDE, 64), (64, OUTSIDE)],
    "environ_get": [(OUTSIDE, 64), (64, OUTSIDE)],
    "args_sizes_get": [(OUTSIDE, 64), (64, OUTSIDE)],
    "clock_time_get": [(0, 0, OUTSIDE)],
    "clock_res_get": [(0, OUTSIDE)],
    "random_get": [(OUTSIDE, 1)],
    "poll_oneoff": [(0, 0, 0, OUTSIDE)],
    "fd_fdstat_get": [(1, OUTSIDE)],
    "fd_tell": [(1, OUTSIDE)],
    "fd_readdir": [(3, 0, 0, 0, OUTSIDE)],
}


@pytest.mark.parametrize(("name", "numbers"), [(name, each) for name in WRITERS for each in WRITERS[name]])
def test_results_outside_memory(name: str, numbers: tuple[int, ...]) -> None:
    assert run(lambda calls: calls.wasi(name, *numbers), env=(("A", "1"),)) == EFAULT


@pytest.mark.parametrize("module", ["wasi_snapshot_preview1", "wasi_unstable"])
def test_both_module_names(module: str) -> None:
    imports = [Import(module, "sched_yield", "func", FuncType((), ("i32",)))]
    answers: list[int] = []

    def start(calls: Calls) -> None:
        answers.append(calls.host.call(module, "sched_yield"))

    vm_of(plugin(World(), {"_start": start}, imports=imports))
    assert answers == [SUCCESS]


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("fd_write", FuncType(("i32",) * 3, ("i32",))),
        ("fd_seek", FuncType(("i32",) * 4, ("i32",))),
        ("proc_exit", FuncType(("i32",), ("i32",))),
    ],
)
def test_another_type_is_refused(name: str, type_: FuncType) -> None:
    made = plugin(World(), {}, imports=[Import("wasi_snapshot_preview1", name, "func", type_)])
    with pytest.raises(PluginLoadError, match=rf"plugin 'guest' \(guest.wasm\): it imports {name} with type"):
        made.root(b"")


def test_an_unknown_function_answers_nosys_and_warns_once() -> None:
    world, answers = World(), list[int]()
    imports = [Import("wasi_snapshot_preview1", "proc_raise", "func", FuncType(("i32",), ("i32",)))]

    def start(calls: Calls) -> None:
        answers.extend(calls.wasi("proc_raise", 1) for _ in range(2))

    vm_of(plugin(world, {"_start": start}, imports=imports))
    assert answers == [NOSYS, NOSYS]
    assert world.log.hosts == [
        ("guest", LogLevel.WARN, "imports the WASI function proc_raise, which no Proxy-Wasm host has")
    ]


def test_restricted_capabilities() -> None:
    def act(calls: Calls) -> Any:
        before = bytes(calls.memory.data)
        denied = [calls.wasi(name, *[0] * len(row.params)) for name, row in wasi.SIGNATURES.items()]
        assert bytes(calls.memory.data) == before
        return dict(zip(wasi.SIGNATURES, denied, strict=True))

    answers = run(act, allowed_capabilities=frozenset({"sched_yield"}))
    allowed = {"sched_yield": SUCCESS, "proc_exit": SUCCESS}
    assert answers == {name: allowed.get(name, 76) for name in wasi.SIGNATURES}
