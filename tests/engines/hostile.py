"""Modules that mean harm, each as its bytes: what no engine may crash on, hang on, or take much memory for."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.engines.wat import wasm

HEADER = b"\0asm\1\0\0\0"
# As section ids.
TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA = range(1, 12)
BLOCK, LOOP, END, EMPTY = b"\x02", b"\x03", b"\x0b", b"\x40"


def leb(number: int) -> bytes:
    """A number as LEB128."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + leb(len(content)) + content


def with_body(body: bytes, locals_: bytes = b"\0") -> bytes:
    """One exported function "f" of no parameters and results."""
    code = locals_ + body + END
    return HEADER + b"".join(
        section(kind, content)
        for kind, content in [
            (TYPE, b"\1\x60\0\0"),
            (FUNCTION, b"\1\0"),
            (EXPORT, b"\1\1f\0\0"),
            (CODE, b"\1" + leb(len(code)) + code),
        ]
    )


def claims(kind: int, count: int) -> bytes:
    """A section that says it has so many items, and has none."""
    return HEADER + section(kind, leb(count))


# Each names what it does; most are refused, the rest is harmless. By the same name in each engine's test.
MODULES: dict[str, bytes] = {
    # Sections that are not what they say.
    **{f"section {kind} of four billion items": claims(kind, 0xFFFFFFFF) for kind in range(1, 13)},
    "a section of four billion bytes": HEADER + b"\1" + leb(0xFFFFFFFF),
    "a section that never says how long it is": HEADER + b"\1" + b"\xff" * 20,
    "sections in the wrong order": HEADER + section(CODE, b"\0") + section(TYPE, b"\0"),
    "the same section twice": HEADER + section(TYPE, b"\0") * 2,
    "an unknown section": HEADER + section(99, b"\0"),
    "a name of four billion letters": HEADER + section(IMPORT, b"\1" + leb(0xFFFFFFFF)),
    "a name that is no text": HEADER + section(TYPE, b"\1\x60\0\0") + section(IMPORT, b"\1\2\xff\xfe\1f\0\0"),
    "a million custom sections": HEADER + section(0, b"\1x") * 1_000_000,
    "a custom section of 16 MB": HEADER + section(0, b"\1x" + bytes(16 << 20)),
    "twenty thousand types": HEADER + section(TYPE, leb(20_000) + b"\x60\0\0" * 20_000),
    "a type of a million parameters": HEADER + section(TYPE, b"\1\x60" + leb(1_000_000) + b"\x7f" * 1_000_000 + b"\0"),
    "a function without code": HEADER + section(TYPE, b"\1\x60\0\0") + section(FUNCTION, b"\1\0"),
    # Functions that are.
    "four billion locals": with_body(b"", b"\1" + leb(0xFFFFFFFF) + b"\x7f"),
    "fifty thousand locals": with_body(b"", b"\1" + leb(50_000) + b"\x7e"),
    "a hundred thousand blocks in each other": with_body((BLOCK + EMPTY) * 100_000 + END * 100_000),
    # Wasmtime's time for these grows with the square of their number.
    "a thousand loops in each other": with_body((LOOP + EMPTY) * 1000 + END * 1000),
    "blocks that never end": with_body((BLOCK + EMPTY) * 100_000),
    "a jump to seven million places": with_body(
        BLOCK + EMPTY + b"\x41\0\x0e" + leb(7_000_000) + bytes(7_000_000) + b"\0" + END
    ),
    "a jump to more than there are bytes": with_body(b"\x41\0\x0e" + leb(0xFFFFFFF0)),
    # The start section.
    "a start that traps": wasm("(module (func $f unreachable) (start $f))"),
    "a start that loops": wasm("(module (func $f (loop $l (br $l))) (start $f))"),
    "a start that recurses": wasm("(module (func $f (call $f)) (start $f))"),
    "a start that throws": wasm("(module (tag $t) (func $f (throw $t)) (start $f))"),
    "a start that takes all memory": wasm(
        "(module (memory 1) (start $f)"
        " (func $f (loop $l (br_if $l (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))))"
    ),
    # Space.
    "a memory beyond its limit": wasm('(module (memory (export "memory") 65536))'),
    "a memory that grows": wasm(
        '(module (memory (export "memory") 1) (func (export "f") (result i32) (memory.grow (i32.const 60000))))'
    ),
    "a hundred memories": wasm("(module" + " (memory 1)" * 100 + ")"),
    "a hundred million table elements": wasm("(module (table 100000000 funcref))"),
    "a table that grows": wasm(
        "(module (table $t 1 externref)"
        ' (func (export "f") (result i32) (table.grow $t (ref.null extern) (i32.const 100000000))))'
    ),
    "a hundred tables": wasm("(module" + " (table 1000000 funcref)" * 100 + ")"),
    "data beyond memory": wasm('(module (memory 1) (data (i32.const 65535) "abc"))'),
    "elements beyond a table": wasm("(module (table 1 funcref) (func $f) (elem (i32.const 7) $f $f))"),
    # Proposals that a plugin may not have, or may.
    "memory64": wasm('(module (memory (export "memory") i64 1))'),
    "table64": wasm("(module (table i64 1 funcref))"),
    "shared memory": wasm('(module (memory (export "memory") 1 60000 shared))'),
    "multi-memory": wasm(
        '(module (memory (export "memory") 1) (memory $b 1) (func (export "f") (drop (memory.grow $b (i32.const 1)))))'
    ),
    "atomics": wasm(
        '(module (memory (export "memory") 1) (func (export "f") (result i32) (i32.atomic.load (i32.const 0))))'
    ),
    "a wait for a shared memory": wasm(
        '(module (memory (export "memory") 1 1 shared)'
        ' (func (export "f") (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))'
    ),
    "an exception that nobody catches": wasm(
        '(module (tag $t (param i32)) (func (export "f") (throw $t (i32.const 1))))'
    ),
    "an exception that is caught": wasm(
        '(module (tag $t (param i32)) (func (export "f") (result i32)'
        " (block $h (result i32) (try_table (catch $t $h) (throw $t (i32.const 7))) (i32.const 1))))"
    ),
    "exceptions without end": wasm(
        '(module (tag $t (param i32)) (func (export "f") (loop $l'
        " (drop (block $h (result i32) (try_table (catch $t $h) (throw $t (i32.const 7))) (i32.const 1))) (br $l))))"
    ),
    "an imported tag": wasm('(module (import "e" "t" (tag (param i32))))'),
    "exports of odd types": wasm(
        '(module (table (export "t") 1 exnref) (global (export "v") v128 (v128.const i64x2 0 0)) (tag (export "tag"))'
        ' (global (export "x") externref (ref.null extern)))'
    ),
    "garbage collection": wasm("(module (type $t (struct (field i32))) (func (drop (struct.new $t (i32.const 1)))))"),
    "tail calls without end": wasm('(module (func $f (export "f") (return_call $f)))'),
    "small pages": wasm('(module (memory (export "memory") 1 (pagesize 1)))'),
    "a component": b"\0asm\x0d\0\1\0",
    # Imports.
    "an unknown import": wasm('(module (import "env" "system" (func (param i32))))'),
    "a memory as import": wasm('(module (import "env" "memory" (memory 1)))'),
    "a table as import": wasm('(module (import "env" "t" (table 1 funcref)))'),
    "a global as import": wasm('(module (import "env" "g" (global (mut i32))))'),
    "an import of several results": wasm('(module (import "e" "host" (func (result i32 i32))))'),
    "an import of no numbers": wasm('(module (import "e" "host" (func (param externref))))'),
    "a hundred thousand imports": HEADER
    + section(TYPE, b"\1\x60\0\0")
    + section(IMPORT, leb(100_000) + b"\1e\1f\0\0" * 100_000),
    "two exports of one name": wasm('(module (func (export "f")))').replace(b"\1\1f\0\0", b"\2\1f\0\0\1f\0\0"),
}

# Something of everything, so that a changed byte is likely to matter.
SEED = wasm("""(module
  (type $t (func (param i32) (result i32)))
  (import "e" "host" (func $host (param i32) (result i32)))
  (memory (export "memory") 1 4)
  (table (export "table") 4 8 funcref)
  (global $g (mut i64) (i64.const -7))
  (func $add (type $t) (i32.add (local.get 0) (call $host (i32.const 3))))
  (func $loop (export "f") (result i32) (local $n i32)
    (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if $l (i32.lt_u (local.get $n) (i32.const 9))))
    (i32.store (i32.const 16) (local.get $n))
    (call_indirect (type $t) (local.get $n) (i32.rem_u (local.get $n) (i32.const 3))))
  (func (export "wide") (param i64 f64 f32) (result i64)
    (global.set $g (i64.add (global.get $g) (local.get 0)))
    (block $b (br_table $b $b (i32.wrap_i64 (local.get 0))))
    (i64.trunc_sat_f64_s (f64.add (local.get 1) (f64.promote_f32 (local.get 2)))))
  (func (export "bulk") (memory.fill (i32.const 100) (i32.const 1) (i32.const 50))
    (memory.copy (i32.const 0) (i32.const 100) (i32.const 50)) (drop (memory.grow (i32.const 1))))
  (elem (i32.const 0) $add $add $add)
  (data (i32.const 8) "\\00\\01\\02hello"))""")


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """The seed with some bytes changed, cut out, doubled or put elsewhere; the same ones for the same ``seed``."""
    chance = random.Random(seed)
    for _ in range(count):
        code = bytearray(SEED)
        for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
            at = chance.randrange(len(HEADER), len(code))
            size = chance.randrange(1, 9)
            way = chance.randrange(6)
            if way < 3:
                code[at] = chance.choice([chance.randrange(256), code[at] ^ 1 << chance.randrange(8), 0, 0x7F, 0xFF])
            elif way == 3:
                del code[at : at + size]
            elif way == 4:
                code[at:at] = code[at : at + size]
            else:
                other = chance.randrange(len(HEADER), len(code))
                code[at : at + size] = code[other : other + size]
        yield bytes(code)
