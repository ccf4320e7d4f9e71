from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi_wasm.host.streams.header_map import HeaderMap, RequestHeaderMap

NAMES = st.sampled_from([b"a", b"A", b"x-b", b"X-B", b":path", b":Method"])
VALUES = st.binary(max_size=4)


class HeaderMapMachine(RuleBasedStateMachine):
    """`HeaderMap` against two plain lists, pseudo-headers in one, all others in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.map = RequestHeaderMap()
        self.pseudo: list[tuple[bytes, bytes]] = []
        self.others: list[tuple[bytes, bytes]] = []
        self.touched = False

    def of(self, name: bytes) -> list[tuple[bytes, bytes]]:
        return self.pseudo if name.startswith(b":") else self.others

    @rule(name=NAMES, value=VALUES)
    def add(self, name: bytes, value: bytes) -> None:
        self.map.add(name, value)
        self.expect_add(name.lower(), value)
        self.touched = True

    def expect_add(self, name: bytes, value: bytes) -> None:
        at = next((index for index, pair in enumerate(self.pseudo) if pair[0] == name), None)
        if at is None:
            self.of(name).append((name, value))
        else:
            self.pseudo[at] = (name, self.pseudo[at][1] + b"," + value)

    @rule(name=NAMES, value=VALUES)
    def replace(self, name: bytes, value: bytes) -> None:
        self.map.replace(name, value)
        self.touched = True
        name = name.lower()
        at = next((index for index, pair in enumerate(self.pseudo) if pair[0] == name), None)
        if at is not None:
            self.pseudo[at] = (name, value)
            return
        kept = self.of(name)
        kept[:] = [pair for pair in kept if pair[0] != name]
        kept.append((name, value))

    @rule(name=NAMES)
    def remove(self, name: bytes) -> None:
        self.map.remove(name)
        self.touched = True
        kept = self.of(name)
        kept[:] = [pair for pair in kept if pair[0] != name.lower()]

    @rule(pairs=st.lists(st.tuples(NAMES, VALUES), max_size=5))
    def replace_all(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self.map.replace_all(pairs)
        self.touched = True
        self.pseudo.clear()
        self.others.clear()
        for name, value in pairs:
            self.expect_add(name.lower(), value)

    @rule(name=NAMES)
    def get(self, name: bytes) -> None:
        values = [value for key, value in self.of(name) if key == name.lower()]
        assert self.map.get(name) == (values[0] if values else None)
        assert self.map.get_all(name.lower()) == values

    @invariant()
    def same(self) -> None:
        expected = self.pseudo + self.others
        assert self.map.pairs == expected
        assert len(self.map) == len(expected)
        assert self.map.byte_size == sum(len(name) + len(value) for name, value in expected)
        assert self.map.changed is self.touched


TestHeaderMap = HeaderMapMachine.TestCase


@given(st.lists(st.tuples(st.sampled_from([b"set-cookie", b"cookie", b"a"]), VALUES)))
def test_order_and_duplicates_stay(pairs: list[tuple[bytes, bytes]]) -> None:
    assert HeaderMap(pairs).pairs == pairs
