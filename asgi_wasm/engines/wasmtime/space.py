"""How much of everything a guest's store may have."""

from __future__ import annotations

from dataclasses import dataclass

import wasmtime

from asgi_wasm.engines.base import DEFAULT_TABLE_LIMIT

# A guest has one memory and one table, or with a language's references to the host some more.
_TABLES = 16
# Beside it are four instances of the host's; the first has a memory and a table.
_COMPANIONS = 4


@dataclass(frozen=True)
class SpaceLimits:
    """Bytes of each memory, and elements of each table."""

    memory: int
    table: int = DEFAULT_TABLE_LIMIT

    def apply(self, store: wasmtime.Store, *, companion: bool = False) -> None:
        """Let no instance in the store go beyond. Memories are counted too, or each of many has its own limit."""
        beside = int(companion)
        store.set_limits(
            memory_size=self.memory,
            table_elements=self.table,
            instances=1 + _COMPANIONS * beside,
            tables=_TABLES + beside,
            memories=1 + beside,
        )


#: What the first of the host's own instances may have: it is made before the guest, whose limits are not for it.
OF_COMPANION = SpaceLimits(memory=1 << 20, table=100)
