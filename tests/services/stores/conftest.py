"""Every store, at a place of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from asgi_wasm.services.stores.store import Store, open_store
from asgi_wasm.settings.store_url import parse_store_url
from tests.extras import LMDB_MISSING
from tests.redis_server import BINARY, MISSING, VALKEY, VALKEY_MISSING, RedisServer, redis_server


@dataclass(frozen=True)
class Place:
    """Where state is kept."""

    url: str

    @asynccontextmanager
    async def stores(self, count: int = 2) -> AsyncIterator[list[Store]]:
        """So many started stores over this place. Memory is one process's, hence one store."""
        async with AsyncExitStack() as stack:
            opened = [open_store(parse_store_url(self.url)) for _ in range(1 if self.in_memory else count)]
            for store in opened:
                await store.start()
                stack.push_async_callback(store.stop)
            yield opened * count if self.in_memory else opened

    @property
    def in_memory(self) -> bool:
        return self.url == "memory://"


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    if BINARY is None:
        pytest.skip(MISSING)
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    if VALKEY is None:
        pytest.skip(VALKEY_MISSING)
    with redis_server(binary=VALKEY) as server:
        yield server


@pytest.fixture(params=["redis", "valkey"])
def binary(request: pytest.FixtureRequest) -> str | None:
    """Of a server, for what the two may answer differently."""
    if request.param == "valkey" and VALKEY is None:
        pytest.skip(VALKEY_MISSING)
    return VALKEY if request.param == "valkey" else BINARY


@pytest.fixture
def either(binary: str | None) -> Iterator[RedisServer]:
    """A server of each kind, for one test."""
    with redis_server(binary=binary) as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that a test may stop, freeze and fill."""
    with redis_server() as server:
        yield server


@pytest.fixture(params=["memory", "lmdb", "redis", "valkey"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make_place(request.param, request, tmp_path)


@pytest.fixture(params=["lmdb", "redis", "valkey"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Only the stores that several processes share."""
    return make_place(request.param, request, tmp_path)


def make_place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if kind == "memory":
        return Place("memory://")
    if kind == "lmdb":
        if LMDB_MISSING:
            pytest.skip(LMDB_MISSING)
        return Place(f"lmdb://{tmp_path}/state")
    server: RedisServer = request.getfixturevalue(kind)
    # Generous, since the machine may be busy with other tests.
    return Place(f"{server.url}?prefix={uuid4().hex}:&timeout=60")
