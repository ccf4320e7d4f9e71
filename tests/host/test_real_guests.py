"""The border between host and real WebAssembly: memory that grows and moves, traps, addresses; on every engine.

The guest forwards: its export ``call_NAME`` passes its arguments on to the hostcall NAME. Each allocation is a page.
"""

from __future__ import annotations

from functools import cache

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.errors import PluginStartError
from asgi_wasm.host.abi import AbiVersion, LogLevel, ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.plugin import Code, Plugin, VmPool, abi_version
from asgi_wasm.host.signatures import Signature, hostcalls
from asgi_wasm.host.vm.contexts import StreamContext, VmFailedError
from asgi_wasm.host.wasi import preview1 as wasi
from asgi_wasm.limits import PluginLimits
from tests.engines.conftest import ENGINES
from tests.host.fed import REQUEST_HEADERS, Exchange
from tests.host.guest import MARKER, OUTSIDE, spec, vm_of
from tests.host.test_fuzz import NUMBERS, numbers_of
from tests.host.world import RecordingLog, World

PAGE = 65536
LIMIT = 64 * PAGE
GROWING = "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))"
ROWS: list[tuple[str, Signature]] = [("env", row) for row in hostcalls(AbiVersion.V0_2_1)]
ROWS += [("wasi_snapshot_preview1", row) for row in wasi.SIGNATURES.values()]


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return _engine(request.param)


@cache
def _engine(name: str) -> Engine:
    return ENGINES[name]()


def wat(*, malloc: str = GROWING, more: str = "") -> bytes:
    """The guest. ``malloc`` is the body of its allocator, ``more`` further fields."""
    imports, functions = [], []
    for module, row in ROWS:
        params = f"(param {' '.join(kind for _, kind in row.params)})" if row.params else ""
        result = "(result i32)" if row.result else ""
        gets = " ".join(f"(local.get {index})" for index in range(len(row.params)))
        imports.append(f'(import "{module}" "{row.name}" (func ${row.name} {params} {result}))')
        functions.append(f'(func (export "call_{row.name}") {params} {result} (call ${row.name} {gets}))')
    text = f"""(module {" ".join(imports)} (memory (export "memory") 1) {" ".join(functions)} {more}
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "malloc") (param i32) (result i32) {malloc})
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1)))"""
    return bytes(wasmtime.wat2wasm(text))


class Guest:
    """A stream context that is in a callback for as long as the test likes."""

    def __init__(self, engine: Engine, code: bytes | None = None) -> None:
        self.world = World(log=RecordingLog(lowest=LogLevel.INFO))
        module = _compiled(engine, code or wat())
        made = Code(module, abi_version(module), "")
        self.plugin = Plugin(spec(limits=PluginLimits(memory=LIMIT)), made, VmPool(self.world.ports))
        self.exchange = Exchange(self.world, self.plugin)
        self.exchange.request(b"body")
        self.context: StreamContext = self.exchange.chain.contexts[0]
        self.vm = vm_of(self.plugin)
        self.memory = self.vm.instance.memory
        self.memory.write(0, MARKER * PAGE)

    def call(self, name: str, *numbers: int) -> int:
        function = self.vm.instance.function(f"call_{name}")
        assert function is not None
        return self.vm.call(self.context, function, *numbers)

    def u32(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 4), "little")

    def given(self, address: int) -> bytes:
        """The bytes whose address and size the host stored here."""
        return self.memory.read(self.u32(address), self.u32(address + 4))

    def store(self, address: int, data: bytes) -> tuple[int, int]:
        self.memory.write(address, data)
        return address, len(data)


_MODULES: dict[tuple[str, bytes], Module] = {}


def _compiled(engine: Engine, code: bytes) -> Module:
    key = f"{engine.name} {id(engine)}", code
    if key not in _MODULES:
        _MODULES[key] = engine.compile(code)
    return _MODULES[key]


def test_results_land_where_they_belong_while_memory_grows(engine: Engine) -> None:
    guest = Guest(engine)
    key = guest.store(16, b"x-one")
    for round_ in range(5):
        assert guest.call("proxy_get_header_map_value", 0, *key, 64, 68) == ProxyStatus.OK
        assert guest.given(64) == b"1"
        assert guest.u32(64) == (2 * round_ + 1) * PAGE
        assert guest.call("proxy_get_header_map_pairs", 0, 72, 76) == ProxyStatus.OK
        assert guest.given(72) == encode_pairs(REQUEST_HEADERS)
    first_page = bytearray(guest.memory.read(0, PAGE))
    first_page[16:21] = MARKER * 5
    first_page[64:80] = MARKER * 16
    assert first_page == MARKER * PAGE
    # Around the last value: new memory, zero, and nothing beyond the value.
    end = guest.u32(72) + guest.u32(76)
    assert guest.memory.read(end, 64) == bytes(64)


def test_an_allocator_at_its_limit(engine: Engine) -> None:
    if not engine.limits_memory:
        pytest.skip("this engine cannot bound a guest's memory")
    guest = Guest(engine)
    key = guest.store(16, b"x-one")
    statuses = [guest.call("proxy_get_header_map_value", 0, *key, 64, 68) for _ in range(LIMIT // PAGE + 1)]
    # memory.grow answers -1, and so the allocator an address that is none.
    assert statuses == [*[ProxyStatus.OK] * (LIMIT // PAGE - 1), *[ProxyStatus.INVALID_MEMORY_ACCESS] * 2]


@pytest.mark.parametrize(
    ("malloc", "status"),
    [
        ("(i32.const 0)", ProxyStatus.INVALID_MEMORY_ACCESS),
        ("(i32.const -1)", ProxyStatus.INVALID_MEMORY_ACCESS),
        ("(i32.const 65536)", ProxyStatus.INVALID_MEMORY_ACCESS),
        ("(i32.const 65535)", ProxyStatus.OK),
    ],
)
def test_where_an_allocator_puts_one_byte(engine: Engine, malloc: str, status: ProxyStatus) -> None:
    guest = Guest(engine, wat(malloc=malloc))
    assert guest.call("proxy_get_header_map_value", 0, *guest.store(16, b"x-one"), 64, 68) == status
    stored = guest.memory.read(64, 8)
    assert stored == (MARKER * 8 if status else b"\xff\xff\0\0\1\0\0\0")


def test_an_allocator_that_traps(engine: Engine) -> None:
    guest = Guest(engine, wat(malloc="unreachable"))
    key = guest.store(16, b"x-one")
    with pytest.raises(VmFailedError):
        guest.call("proxy_get_header_map_value", 0, *key, 64, 68)
    assert guest.vm.failure
    with pytest.raises(VmFailedError):
        guest.call("proxy_done")


@pytest.mark.parametrize("name", ["proxy_done", "proxy_set_effective_context"])
def test_an_allocator_that_calls_what_it_may_not(engine: Engine, name: str) -> None:
    argument = "" if name == "proxy_done" else "(i32.const 1)"
    guest = Guest(engine, wat(malloc=f"(drop (call ${name} {argument})) (i32.const 1024)"))
    key = guest.store(16, b"x-one")
    with pytest.raises(VmFailedError, match=f"restricted_callback: {name} was called"):
        guest.call("proxy_get_header_map_value", 0, *key, 64, 68)


def test_an_allocator_that_logs(engine: Engine) -> None:
    malloc = "(drop (call $proxy_log (i32.const 2) (i32.const 16) (i32.const 5))) (i32.const 1024)"
    guest = Guest(engine, wat(malloc=malloc))
    assert guest.call("proxy_get_header_map_value", 0, *guest.store(16, b"x-one"), 64, 68) == 0
    assert guest.given(64) == b"1"
    assert [message for _, _, message in guest.world.log.words] == [b"x-one"]


def test_restricted_while_it_starts(engine: Engine) -> None:
    starting = '(func (export "_initialize") (drop (call $proxy_done)))'
    code = Code(_compiled(engine, wat(more=starting)), AbiVersion.V0_2_1, "")
    made = Plugin(spec(), code, VmPool(World().ports))
    with pytest.raises(PluginStartError, match="restricted_callback: proxy_done was called"):
        made.root(b"")


def test_a_start_section_runs_before_memory_can_be_reached(engine: Engine) -> None:
    section = """(global $answers (mut i32) (i32.const 0))
      (func $start
        (global.set $answers (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 1)))
        (global.set $answers (i32.add (i32.mul (global.get $answers) (i32.const 256))
          (call $proxy_log (i32.const 2) (i32.const 64) (i32.const 1))))
        (global.set $answers (i32.add (i32.mul (global.get $answers) (i32.const 256))
          (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))))
      (start $start)
      (func (export "call_answers") (result i32) (global.get $answers))"""
    guest = Guest(engine, wat(more=section))
    assert guest.call("answers") == 0x06_06_15  # twice INVALID_MEMORY_ACCESS, then EFAULT


def test_64_bits_travel_unharmed(engine: Engine) -> None:
    guest = Guest(engine)
    assert guest.call("proxy_define_metric", 1, *guest.store(16, b"g"), 64) == 0
    metric = guest.u32(64)
    assert guest.call("proxy_record_metric", metric, 0xFEDC_BA98_7654_3210) == 0
    assert guest.call("proxy_increment_metric", metric, -1) == 0
    assert guest.call("proxy_get_metric", metric, 72) == 0
    assert guest.memory.read(72, 9) == (0xFEDC_BA98_7654_320F).to_bytes(8, "little") + MARKER


def test_addresses_at_the_edge_of_memory(engine: Engine) -> None:
    guest = Guest(engine)
    assert guest.call("proxy_get_log_level", PAGE - 4) == ProxyStatus.OK
    assert guest.memory.read(PAGE - 8, 8) == MARKER * 4 + b"\2\0\0\0"
    for address in (PAGE - 3, PAGE, OUTSIDE, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF):
        assert guest.call("proxy_get_log_level", address) == ProxyStatus.INVALID_MEMORY_ACCESS
    for size in (PAGE + 1, 0x8000_0000, 0xFFFF_FFFF):
        assert guest.call("proxy_log", 2, 0, size) == ProxyStatus.INVALID_MEMORY_ACCESS
        assert guest.call("proxy_log", 2, PAGE - 1, size) == ProxyStatus.INVALID_MEMORY_ACCESS
    assert guest.call("proxy_log", 2, 0, PAGE) == ProxyStatus.OK
    assert guest.call("proxy_log", 2, PAGE, 0) == ProxyStatus.OK
    assert guest.memory.read(0, PAGE - 4) == MARKER * (PAGE - 4)


def check(module: str, row: Signature, answer: int) -> None:
    if module == "env" and row.name.startswith("proxy_"):
        ProxyStatus(answer)
    else:
        assert 0 <= answer <= wasi.ENOTCAPABLE


@pytest.mark.parametrize("name", list(ENGINES))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_numbers(name: str, data: st.DataObject) -> None:
    guest = Guest(_engine(name))
    guest.memory.write(0, data.draw(st.binary(max_size=32)))
    for module, row in data.draw(st.lists(st.sampled_from(ROWS), min_size=1, max_size=20)):
        answer = guest.call(row.name, *data.draw(numbers_of(row.type)))
        check(module, row, answer)
    assert guest.vm.failure is None
    assert [line for _, _, line in guest.world.log.hosts if " failed: " in line] == []


@pytest.mark.parametrize("name", list(ENGINES))
@settings(deadline=None, max_examples=40)
@given(start=NUMBERS, size=NUMBERS)
def test_any_part_of_any_buffer(name: str, start: int, size: int) -> None:
    guest = Guest(_engine(name))
    assert guest.call("proxy_get_buffer_bytes", 6, start, size, 64, 68) == ProxyStatus.OK
    assert guest.memory.read(64, 8) == bytes(8)
