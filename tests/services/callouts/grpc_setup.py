"""A gRPC server that misbehaves, the service, and a guest that calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_wasm.services.callouts.grpc.calls import GrpcCalls
from asgi_wasm.specs import UpstreamSpec
from tests.broken_grpc_server import BrokenServer, broken_grpc_server
from tests.driving import until
from tests.host.grpc_guest import Guest, carried_out_by


@asynccontextmanager
async def running(url: str = "", how: dict[str, Any] | None = None, **guest: Any) -> AsyncIterator[Setup]:
    """A broken server, the service and a guest; ``how`` the server is, and what the guest is made with."""
    async with broken_grpc_server(**(how or {})) as server:
        calls = GrpcCalls([UpstreamSpec("auth", url or server.url)])
        made = Guest(start=carried_out_by(calls), has_room=calls.has_room, may_send=calls.may_send, **guest)
        setup = Setup(server, calls, made)
        yield setup
        await asyncio.wait_for(calls.close(), 60)


class Setup:
    def __init__(self, server: BrokenServer, calls: GrpcCalls, guest: Guest) -> None:
        self.server, self.calls, self.guest = server, calls, guest

    def call(self, mode: str, timeout: int = 20_000) -> int:
        """The token of a call of this mode."""
        self.guest.method = mode.encode()
        status, token = self.guest.call(timeout=timeout)
        assert status == 0
        return token

    def stream(self, mode: str) -> int:
        """The token of a stream of this mode."""
        self.guest.method = mode.encode()
        return self.guest.stream()

    async def ended(self, token: int) -> tuple[str, int]:
        """How it ended: the name and the number of the last callback."""

        def found() -> list[tuple[str, int]]:
            is_call = token & 3 == 1
            names = ("receive", "close") if is_call else ("close",)
            return [(name, number) for name, of, number in self.guest.seen if of == token and name in names]

        await until(found)
        return found()[0]
