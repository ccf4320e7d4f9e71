"""A gRPC server that misbehaves as the method says: ``python -m tests.chaos.grpc_upstream PORT``."""

from __future__ import annotations

import asyncio
import sys

from tests.broken_grpc_server import broken_grpc_server

GOOD = "ok"
WAYS = (
    *(GOOD, "mute", "abort", "cut", "early-7", "late-8", "goaway-0", "garbage", "status-5", "endless", "http-503"),
    *("flag-2", "short", "long", "huge", "unfinished-4000000", "flood-1000", "many-3000", "crumbs-3000"),
    *("interim-1000", "pings-1000", "wide-200000", "fields-3000", "name-41", "last-7f", "length-3"),
)


async def main(port: int) -> None:
    """Until it is killed."""
    async with broken_grpc_server(port):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
