"""A plugin that calls every hot hostcall at random, with arguments of every kind, and an allocator that lies.

All of it happens in WebAssembly, a hundred calls a crossing, so that a million take seconds. The kernel stands beside
it with stubs for the host's own hostcalls: what is tried is the kernel alone, which must neither trap, nor write
outside of the arena's and the log's bounds, nor ask the host for what is not inside of the plugin's memory.
"""

from __future__ import annotations

import random
import struct
from functools import cache, partial
from typing import Any

from wasmtime import wat2wasm

from asgi_wasm.engines.companion import CompanionModule
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.host.resident import kit as kits
from asgi_wasm.host.resident import layout
from asgi_wasm.host.resident.kit import FILL, GIVE_BODY, TAKE_BODY, Kit

CALLS = 100
_PAGE = 65536
_MEMORY = 3 * _PAGE
NAMES = [
    b"x-a",
    b"X-B",
    b"host",
    b":path",
    b"accept",
    b"a b",
    b"\n",
    b"x" * 300,
    b"request\0path",
    b"request\0headers\0x-a\0",
    b"response\0code",
    b"response\0headers\0",
    b"request\0" + b"y" * 119,
]
# Hostcall -> what each parameter is: a map or buffer, bytes (two parameters), an address, any number.
HOSTCALLS = {
    "proxy_get_header_map_value": "kbaa",
    "proxy_get_header_map_pairs": "kaa",
    "proxy_get_header_map_size": "ka",
    "proxy_add_header_map_value": "kbb",
    "proxy_replace_header_map_value": "kbb",
    "proxy_remove_header_map_value": "kb",
    "proxy_send_local_response": "nbbbg",
    "proxy_get_buffer_bytes": "knnaa",
    "proxy_get_buffer_status": "kaa",
    "proxy_set_buffer_bytes": "knnb",
    "proxy_get_current_time_nanoseconds": "a",
    "proxy_get_property": "baa",
}
_PRODUCE = {
    "k": "(call $kind)",
    "b": "(call $bytes) (global.get $size)",
    "a": "(call $address)",
    "n": "(call $any)",
    "g": "(i32.sub (i32.const 0) (call $below (i32.const 3)))",
}
_WIDTH = {"k": 1, "b": 2, "a": 1, "n": 1, "g": 1}


_TEXT = """(module {imports}
  (memory (export "memory") {pages} 4)
  (data (i32.const 0) "{words}") (data (i32.const {at}) "{text}") (global $shown (mut i32) (i32.const 0))
  (global $state (mut i32) (i32.const 1)) (global $size (mut i32) (i32.const 0))
  (global $top (mut i32) (i32.const {page}))
  (func (export "proxy_abi_version_0_2_1"))
  (func $next (result i32) (local $x i32)
    (local.set $x (global.get $state))
    (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
    (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
    (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
    (global.set $state (local.get $x)) (local.get $x))
  (func $below (param i32) (result i32) (i32.rem_u (call $next) (local.get 0)))
  ;; Small, at the memory's end, at the greatest number, or any.
  (func $any (result i32) (local $kind i32)
    (local.set $kind (call $below (i32.const 8)))
    (if (i32.eqz (local.get $kind)) (then (return (call $next))))
    (if (i32.eq (local.get $kind) (i32.const 1)) (then (return (i32.sub (i32.const 0) (call $below (i32.const 9))))))
    (if (i32.eq (local.get $kind) (i32.const 2))
      (then (return (i32.sub (i32.const {beyond}) (call $below (i32.const 9))))))
    (call $below (i32.const 70)))
  (func $address (result i32)
    (if (result i32) (call $below (i32.const 8))
      (then (i32.add (i32.const 4096) (call $below (i32.const 4096)))) (else (call $any))))
  (func $kind (result i32)
    (if (call $below (i32.const 4)) (then (return (global.get $shown))))
    (if (result i32) (call $below (i32.const 4)) (then (call $below (i32.const 3))) (else (call $any))))
  ;; The address of bytes, whose size is left in $size: a name, a stretch of memory, or anything.
  (func $bytes (result i32) (local $kind i32)
    (local.set $kind (call $below (i32.const 64)))
    (if (i32.eqz (i32.and (local.get $kind) (i32.const 15))) (then (global.set $size (call $any)) (return (call $any))))
    (if (i32.eq (local.get $kind) (i32.const 1))
      (then (global.set $size (call $below (i32.const 70000))) (return (call $below (i32.const {memory})))))
    (local.set $kind (i32.shl (call $below (i32.const {names})) (i32.const 3)))
    (global.set $size (i32.load (i32.add (local.get $kind) (i32.const 4))))
    (i32.load (local.get $kind)))
  (func (export "malloc") (param i32) (result i32) (local $kind i32)
    (local.set $kind (call $below (i32.const 16)))
    (if (i32.eqz (local.get $kind)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $kind) (i32.const 1)) (then (return (call $any))))
    (if (i32.eq (local.get $kind) (i32.const 2)) (then (drop (memory.grow (i32.const 1)))))
    (local.set $kind (global.get $top))
    (if (i32.gt_u (i32.add (local.get $kind) (local.get 0)) (i32.const {memory}))
      (then (local.set $kind (i32.const {page}))))
    (global.set $top (i32.add (local.get $kind) (local.get 0)))
    (local.get $kind))
  (func $run (param $seed i32) (param $more i32) (local $left i32) (local $which i32)
    (global.set $state (i32.or (i32.xor (local.get $seed) (local.get $more)) (i32.const 1)))
    (global.set $top (i32.const {page}))
    (local.set $left (i32.const {count}))
    (loop $again
      (local.set $which (call $below (i32.const {hostcalls})))
      {calls}
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left))))
  {callbacks}
  (func (export "proxy_on_log") (param i32) (call $run (local.get 0) (i32.const 77))))"""


@cache
def hostile_plugin() -> bytes:
    """Its module. Callbacks take a seed where they are told the number of headers, or of bytes."""
    imports, calls = [], []
    for index, (name, parts) in enumerate(HOSTCALLS.items()):
        count = sum(_WIDTH[part] for part in parts)
        imports.append(f'(import "env" "{name}" (func $h{index} (param {"i32 " * count}) (result i32)))')
        arguments = " ".join(_PRODUCE[part] for part in parts)
        calls.append(f"(if (i32.eq (local.get $which) (i32.const {index})) (then (drop (call $h{index} {arguments}))))")
    at, table, data = 8 * len(NAMES), [], b""
    for known in NAMES:
        table.append((at + len(data), len(known)))
        data += known
    text = "".join(f"\\{byte:02x}" for byte in data)
    words = "".join(f"\\{byte:02x}" for entry in table for byte in struct.pack("<2I", *entry))
    callbacks = "".join(
        f'(func (export "proxy_on_{name}") (param i32 i32 i32) (result i32) (global.set $shown (i32.const {shown}))'
        " (call $run (local.get 1) (local.get 2)) (i32.and (call $next) (i32.const 1)))"
        for name, shown in (("request_headers", 0), ("response_headers", 2), ("request_body", 0), ("response_body", 1))
    )
    return bytes(
        wat2wasm(
            _TEXT.format(
                imports="".join(imports),
                calls="".join(calls),
                callbacks=callbacks,
                words=words,
                text=text,
                at=at,
                names=len(NAMES),
                hostcalls=len(HOSTCALLS),
                count=CALLS,
                page=_PAGE,
                pages=_MEMORY // _PAGE,
                memory=_MEMORY,
                beyond=_MEMORY + 4,
            )
        )
    )


class Stage:
    """The plugin, the kernel beside it, and what the host is asked for."""

    def __init__(self, seed: int) -> None:
        engine = WasmtimeEngine()
        self.random = random.Random(seed)
        self.slow = self.filled = self.given = self.taken = 0
        module = engine.compile(hostile_plugin())
        assert isinstance(module, CompanionModule)
        functions: dict[tuple[str, str], Any] = {("env", name): self._slow for name in HOSTCALLS}
        functions |= {FILL: self._fill, GIVE_BODY: self._give_body, TAKE_BODY: self._take_body}
        kit = Kit.load(lambda path: engine.compile(path.read_bytes()))
        self.instance, self.beside = module.instantiate_beside(functions, kit, memory_limit=8 * _PAGE)
        self.at = self.beside.function("window_address")() or 0
        self.words = self.beside.words(self.at, layout.WORDS)
        self.view = self.beside.view(self.at, layout.SIZE)
        self.view[4 * layout.WORDS : layout.ARENA_AT] = self.tables = self.random.randbytes(
            layout.ARENA_AT - 4 * layout.WORDS
        )
        self.body_size = 0

    def _slow(self, *_: int) -> int:
        self.slow += 1
        return 12

    def _fill(self, slot: int) -> int:
        assert slot < layout.SLOTS
        self.filled += 1
        count = self.random.choice([0, 1, 5, layout.MAX_PAIRS - 1, layout.MAX_PAIRS, layout.MAX_PAIRS + 1])
        flat = [self.random.choice(NAMES[:6]) if index % 2 else b"v" for index in range(1, 2 * count + 1)]
        data, used = b"".join(flat), self.words[layout.USED]
        if self.random.random() < 0.2 or count > layout.MAX_PAIRS or len(data) > layout.ARENA - used:
            return 0
        self.view[layout.ARENA_AT + used : layout.ARENA_AT + used + len(data)] = data
        self.words[layout.SIZES : layout.SIZES + len(flat)] = [len(part) for part in flat]
        self.words[layout.COUNT + slot] = count
        return 1

    def _give_body(self, at: int, start: int, size: int) -> None:
        assert size and start + size <= self.body_size
        self.given += 1
        self.instance.memory.write(at, b"b" * size)

    def _take_body(self, at: int, start: int, size: int, value_size: int) -> int:
        assert at + value_size <= self.instance.memory.size
        assert size <= self.body_size and (start >= self.body_size and not size if start else True)
        if self.random.random() < 0.2:
            return 0
        self.taken += 1
        self.body_size += value_size - size
        assert self.body_size <= 0xFFFFFFFF
        return 1

    def play(self) -> None:
        """One callback of each kind. Raises what is wrong."""
        draw = partial(self.random.randrange, 1 << 32)
        for crossing in ("request", "response", "request_body", "response_body"):
            self.body_size = self.random.choice([0, 1, 5000, 0xFFFFFFFF]) if crossing.endswith("body") else 0
            count = self.body_size if crossing.endswith("body") else draw()
            self.beside.function(crossing)(3, 2, count, draw())
            self.check()
            assert not crossing.endswith("body") or self.words[layout.BODY_SIZE] == self.body_size
        self.beside.function("log")(draw(), 2, self.random.randrange(2))
        self.check()

    def check(self) -> None:
        """Whether what the kernel says of itself is inside of its bounds."""
        words = self.words
        assert words[layout.USED] <= layout.ARENA
        assert words[layout.CHANGES] <= layout.MAX_CHANGES
        assert all(words[layout.COUNT + slot] <= layout.MAX_PAIRS for slot in range(layout.SLOTS))
        arena = self.at + layout.ARENA_AT
        for index in range(words[layout.CHANGES]):
            _, name_size, value_size, where = words[layout.CHANGE + 4 * index : layout.CHANGE + 4 * index + 4]
            assert arena <= where and where + name_size + value_size <= arena + layout.ARENA
        if words[layout.ANSWERED]:
            parts = words[layout.LOCAL + 1 : layout.LOCAL + 7]
            assert all(
                arena <= at and at + size <= arena + layout.ARENA
                for at, size in zip(parts[::2], parts[1::2], strict=True)
            )
        assert not any(words[index] for index in (layout.ACTIVE, layout.READABLE, layout.WRITABLE, layout.BODIES))
        assert bytes(self.view[4 * layout.WORDS : layout.ARENA_AT]) == self.tables
        assert words[layout.RESTRICTED] == 0


def play(seed: int, calls: int) -> Stage:
    """At least so many hostcalls."""
    stage = Stage(seed)
    for _ in range(-(-calls // (5 * CALLS))):
        stage.play()
    return stage


assert set(HOSTCALLS) == set(kits._HOT), "every hostcall that the kernel answers is tried"
