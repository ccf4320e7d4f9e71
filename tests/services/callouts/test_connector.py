"""Where an upstream is: addresses, and names that are resolved once, late or never."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from asgi_wasm.services.callouts.connector import Connector, connector_to
from asgi_wasm.services.callouts.deadline import Deadline
from asgi_wasm.services.callouts.messages import (
    Answer,
    ConnectError,
    Request,
)
from asgi_wasm.services.callouts.pool import Pool
from asgi_wasm.services.callouts.turns import Turns
from asgi_wasm.specs import UpstreamSpec
from tests.driving import listening, settled, until
from tests.services.callouts.http1_server import OK, Calls, Writer, saying
from tests.serving import free_port


async def test_ipv6() -> None:
    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(listening(serve, "::1"))
        except OSError:
            pytest.skip("this machine has no IPv6")
        pool, answer = Pool(connector_to(UpstreamSpec("up", f"http://[::1]:{port}"), []), Turns()), Answer(1000)
        await pool.exchange(Request(b"GET", b"/", [(b"host", b"up.test")], b""), answer)
        assert answer.body == b"ok"
        await pool.close()


async def test_nobody_listens() -> None:
    pool = Pool(Connector("127.0.0.1", free_port(), None), Turns())
    with pytest.raises(ConnectError):
        await pool.exchange(Request(b"GET", b"/", [(b"host", b"a")], b""), Answer())


async def test_names_are_resolved_once_for_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Calls(saying(OK)) as calls:
        port = calls.port
        calls.pool = Pool(Connector("localhost", port, None), Turns())
        loop, asked = asyncio.get_running_loop(), []
        real = loop.getaddrinfo

        async def getaddrinfo(*arguments: object, **more: object) -> object:
            asked.append(arguments)
            return await real(*arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        assert await asyncio.gather(*(calls.get() for _ in range(20))) == [b"ok"] * 20
        assert len([one for one in asked if one[0] == "localhost"]) == 1


class Names:
    """A name server: ``answer`` are its addresses or its error, None for none yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: list[str] | OSError | None) -> None:
        self.answer = answer
        self.asked = 0
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def getaddrinfo(host: object, port: object, **more: object) -> object:
            if host != "up.test":
                return await real(host, port, **more)  # type: ignore[arg-type]
            self.asked += 1
            await until(lambda: self.answer is not None)
            assert self.answer is not None
            if isinstance(self.answer, OSError):
                raise self.answer
            return [(0, 0, 0, "", (address, port)) for address in self.answer]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


async def test_a_name_that_is_not_resolved_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By calls at once, and by those that come while it takes: each would hold a thread."""
    async with Calls(saying(OK)) as calls:
        names = Names(monkeypatch, None)
        calls.pool = Pool(Connector("up.test", calls.port, None), Turns())
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError), Deadline(0.02):
                await calls.get()
        together = [asyncio.ensure_future(calls.get()) for _ in range(20)]
        await settled()
        names.answer = OSError("Name or service not known")
        results = await asyncio.gather(*together, return_exceptions=True)
        assert {type(result) for result in results} == {ConnectError} and "up.test" in str(results[0])
        assert names.asked == 1
        names.answer = ["127.0.0.1"]
        assert await calls.get() == b"ok"
        assert names.asked == 2


async def test_what_a_name_was_is_used_while_its_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.services.callouts.connector._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("asgi_wasm.services.callouts.connector._ADDRESS_TIMEOUT", 0.05)

    async with Calls(saying(OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"))) as calls:
        # An address that refuses first.
        names = Names(monkeypatch, ["127.0.0.2", "127.0.0.1"])
        calls.pool = Pool(Connector("up.test", calls.port, None), Turns())
        assert await calls.get("/first") == b"ok"
        for answer in (OSError("Temporary failure in name resolution"), None):
            names.answer = answer
            assert await calls.get("/first") == b"ok"
        assert names.asked == 3
    # The one that is still asked for is no task that is left over.
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "_look_up" in repr(task)] == []
