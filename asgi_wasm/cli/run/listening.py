"""The addresses that ``asgi-wasm run`` listens on, bound before anything says that it is served."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Any

from asgi_wasm.errors import SettingsError

# An address of IPv6 that a name has and this machine has not.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def bind_all(host: str, port: int) -> list[socket.socket]:
    """A socket at each address of ``host``, as uvicorn does: "localhost" is two, unless the machine has no IPv6.

    All have one port, also where the system chooses it (0). Raises `SettingsError`.
    """
    bound: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            if bound:
                port = bound[0].getsockname()[1]
            try:
                bound.append(_bind(family, (address[0], port, *address[2:])))
            except OSError as error:
                if not bound or error.errno not in _NOT_HERE:
                    raise
    except (OSError, OverflowError) as error:
        for made in bound:
            made.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} is taken: choose another with --port") from None
        why = getattr(error, "strerror", None) or error
        raise SettingsError(f"--host {host} --port {port}: cannot listen there: {why}") from None
    return bound


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Each once, those of IPv4 first. Raises OSError and OverflowError."""
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("a port is 0 to 65535")
    told: list[tuple[Any, ...]] = [
        *socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ]
    return sorted({(family, address) for family, _, _, _, address in told})


def _bind(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family)
    try:
        if os.name != "nt":  # where it would take the port from another server
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Or it would take IPv4's port too.
            with suppress(OSError):
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made
