"""Real servers on free ports of 127.0.0.1 that plugins call, in the test's own event loop."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from asgi_wasm.asgi.types import ASGIApp
from tests.serving import listens
from tests.waiting import until

# From request line, headers and body to the bytes of the answer; None says nothing at all.
Answer = Callable[[bytes, dict[bytes, bytes], bytes], bytes | None]


class Raw:
    """A server of HTTP/1.1 by hand. ``heads`` and ``bodies`` are the requests' bytes; it may be told to hang up."""

    def __init__(self, answer: Answer, *, closes: bool) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.closed = 0
        self.over = asyncio.Event()
        self.handlers: set[asyncio.Task[Any]] = set()
        self._answer = answer
        self._closes = closes

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, OSError):
            while not self.over.is_set():
                await self._one(reader, writer)
                if self._closes:
                    break
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self.closed += 1

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        over = asyncio.ensure_future(self.over.wait())
        await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if not reading.done():
            reading.cancel()
            return
        head = reading.result()
        line, *fields = head[:-4].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(b":") for field in fields)}
        body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        self.heads.append(head)
        self.bodies.append(body)
        reply = self._answer(line, headers, body)
        if reply is None:
            await self.over.wait()
        else:
            writer.write(reply)
            await writer.drain()


@asynccontextmanager
async def raw(
    answer: Answer, *, closes: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, Raw]]:
    """The port of a server that gives ``answer(request line, headers, body)``, and what it saw."""
    seen = Raw(answer, closes=closes)
    server = await asyncio.start_server(seen.serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        seen.over.set()
        server.close()
        await asyncio.gather(*seen.handlers)
        await server.wait_closed()


@asynccontextmanager
async def upstream(answer: Answer) -> AsyncIterator[int]:
    """The port of a server that closes after each answer."""
    async with raw(answer, closes=True) as (port, _):
        yield port


@asynccontextmanager
async def hypercorn(app: ASGIApp, port: int, certificate: Certificate | None = None) -> AsyncIterator[None]:
    """A server of HTTP/1.1 and HTTP/2: by ALPN with a certificate, else by prior knowledge."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    if certificate is not None:
        config.certfile, config.keyfile = str(certificate.file), str(certificate.key)
    over = asyncio.Event()
    serving = asyncio.ensure_future(serve(app, config, shutdown_trigger=over.wait))  # type: ignore[arg-type]
    try:
        await until(lambda: listens(port) or serving.done())
        yield
    finally:
        over.set()
        await asyncio.wait_for(serving, 60)


class Certificate:
    """A self-signed certificate for 127.0.0.1, as files."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")])
        now = datetime.datetime.now(datetime.timezone.utc)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).add_extension(address, critical=False)
        builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(9))
        self.file, self.key = folder / "certificate.pem", folder / "key.pem"
        pem = serialization.Encoding.PEM
        self.file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
        self.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    @property
    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context
