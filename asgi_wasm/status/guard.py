"""Who may see how plugins are: whoever has the token, or, without one, a client on this very machine.

A server behind a proxy on the same machine sees every client on the loopback: so a request that a proxy has passed on
is none of those, as far as that can be told, and neither is one for another host than this machine, which a web page
may send by a name of its own that leads here (DNS rebinding).
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from starlette.requests import HTTPConnection

_PASSED_ON = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"}
)
# Nginx, unless told otherwise, passes requests on without such a header, as if they were for the address that it passes
# them to; but by this version of HTTP, which no client of today speaks.
_OLD = "1.0"


def may_see(request: HTTPConnection, token: str | None) -> bool:
    """Whether the request may have what is behind it."""
    if token is not None:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
    if request.client is None or request.scope.get("http_version") == _OLD:
        return False
    if any(name in _PASSED_ON or name.startswith("x-forwarded") for name in request.headers):
        return False
    return _is_loopback(request.client.host) and _is_loopback(_host(request.headers.get("host", "")))


def _host(authority: str) -> str:
    """Without its port."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.rpartition(":")[0] or authority


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
