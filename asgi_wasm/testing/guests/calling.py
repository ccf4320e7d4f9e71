"""How a guest in Python calls its host: bytes into its memory, results out of it, by the table of signatures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from asgi_wasm.engines.null import NullHost
from asgi_wasm.host.abi import ProxyStatus
from asgi_wasm.host.signatures import HOSTCALLS, Signature

ROWS = {row.name: row for row in HOSTCALLS}
# Results of eight bytes: nanoseconds, and what a metric has come to.
_WIDE = {("proxy_get_current_time_nanoseconds", "return_time"), ("proxy_get_metric", "return_value")}
# What one parameter, or two of them, stand for.
_VALUE, _BYTES, _BYTES_BACK, _NUMBER_BACK, _WIDE_BACK = range(5)


@cache
def _kinds(row: Signature) -> tuple[int, ...]:
    """What a hostcall is given and gives back, in the order of its parameters. An address and its size are one."""
    names = [name for name, _ in row.params]
    kinds: list[int] = []
    while names:
        name = names.pop(0)
        size = f"{name.removesuffix('_data')}_size"
        if name.endswith("_data") and names[:1] == [size]:
            names.pop(0)
            kinds.append(_BYTES_BACK if name.startswith("return_") else _BYTES)
        elif name.startswith("return_"):
            kinds.append(_WIDE_BACK if (row.name, name) in _WIDE else _NUMBER_BACK)
        else:
            kinds.append(_VALUE)
    return tuple(kinds)


@dataclass(frozen=True)
class Slot:
    """Where the host writes a result: a number of this size in bytes, or (``is_data``) an address and a size."""

    address: int
    size: int
    is_data: bool

    def read(self, host: NullHost) -> bytes | int:
        """What the host has written."""
        if not self.is_data:
            return int.from_bytes(host.memory.read(self.address, self.size), "little")
        return host.memory.read(host.read_u32(self.address), host.read_u32(self.address + 4))


def marshalled(host: NullHost, row: Signature, given: tuple[bytes | int, ...]) -> tuple[list[int], list[Slot]]:
    """The numbers to call with, and the slots of the results. Raises TypeError for what does not fit the signature."""
    values = list(given)
    numbers: list[int] = []
    slots: list[Slot] = []
    for kind in _kinds(row):
        if kind in (_VALUE, _BYTES):
            if not values or isinstance(values[0], bytes) != (kind == _BYTES):
                raise TypeError(f"{row.name} does not take {given!r}: its parameters are {row.params}")
            value = values.pop(0)
            numbers += host.store(value) if isinstance(value, bytes) else [value]
        else:
            size = 4 if kind == _NUMBER_BACK else 8
            slot = Slot(host.allocate(size), size, kind == _BYTES_BACK)
            slots.append(slot)
            numbers += [slot.address, slot.address + 4] if slot.is_data else [slot.address]
    if values:
        raise TypeError(f"{row.name} takes less than {given!r}: its parameters are {row.params}")
    return numbers, slots


class Calling:
    """Hostcalls by name. ``host`` is open: its memory, and what it allocates there."""

    def __init__(self, host: NullHost) -> None:
        self.host = host

    def raw(self, name: str, *numbers: int) -> int:
        """A hostcall with these very numbers, addresses among them. Its status; ``proxy_`` may be left out."""
        return self.host.call("env", _wire_name(name), *numbers)

    def call(self, name: str, *given: bytes | int) -> tuple[Any, ...]:
        """A hostcall with bytes for each address and size, and nothing for results: (status, *results).

        Results are bytes and numbers, there when the status is `ProxyStatus.OK`. Raises KeyError for an unknown name,
        and TypeError for arguments that do not fit.
        """
        row = ROWS[_wire_name(name)]
        numbers, slots = marshalled(self.host, row, given)
        status = ProxyStatus(self.raw(row.name, *numbers))
        return (status, *(slot.read(self.host) for slot in slots)) if status is ProxyStatus.OK else (status,)


def _wire_name(name: str) -> str:
    return f"proxy_{name}" if f"proxy_{name}" in ROWS else name
