"""The URL of the store that workers share: `memory://`, `lmdb:///path`, `redis://…` or `rediss://…`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode

from asgi_wasm.settings import urls
from asgi_wasm.specs import DEFAULT_MAP_SIZE, DEFAULT_REDIS_PREFIX, DEFAULT_REDIS_TIMEOUT, StoreSpec

_FORMS = "memory://, lmdb:///path, redis://host:port/0 or rediss://host:port/0"
# What redis-py itself may be told; its timeouts and retries are ours to set.
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
_CERTIFICATES = ("none", "optional", "required")
_OPTIONS = {"memory": (), "lmdb": ("map_size",), "redis": ("prefix", "timeout")}
_OPTIONS["rediss"] = (*_OPTIONS["redis"], *_TLS_OPTIONS)

# Bytes: below, a database holds next to nothing; above, no machine has the addresses.
_MAP_SIZES = 1 << 17, 1 << 44

_Number = TypeVar("_Number", int, float)


def parse_store_url(text: str) -> StoreSpec:
    """The store that the URL names. Raises ValueError: one sentence, without the password."""
    parsed = urls.parse(text)
    parts = parsed or SplitResult("", "", "", "", "")
    port = parts.port
    is_file = parts.scheme == "lmdb"
    shown = urls.shown_url(parsed, path=is_file or bool(parts.netloc))
    database = parts.path.removeprefix("/")
    fits = {
        "memory": not parts.netloc and not parts.path,
        "lmdb": not parts.netloc and bool(database) and "\0" not in unquote(database),
        "redis": bool(parts.hostname) and port != 0 and (not database or database.isdigit()),
    }
    if not fits.get(parts.scheme.replace("rediss", "redis"), False):
        raise ValueError(f"{urls.named(shown)}is no store: write {_FORMS}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = _OPTIONS[parts.scheme]
    for name in options:
        if name not in known:
            raise ValueError(f"{urls.named(shown)}has an unknown option; known are: {', '.join(known) or 'none'}")
    if parts.scheme == "memory":
        return StoreSpec()
    label = shown
    if parts.scheme == "lmdb":
        size = _positive(int, options, "map_size", DEFAULT_MAP_SIZE)
        if not _MAP_SIZES[0] <= size <= _MAP_SIZES[1]:
            raise ValueError(f"its option map_size must be from {_MAP_SIZES[0]} (128 KiB) to {_MAP_SIZES[1]} (16 TiB)")
        return StoreSpec("lmdb", label, path=Path(unquote(parts.path)), map_size=size)
    tls = {name: value for name, value in options.items() if name in _TLS_OPTIONS}
    if tls.get("ssl_cert_reqs", "none") not in _CERTIFICATES:
        raise ValueError(f"its option ssl_cert_reqs must be one of {', '.join(_CERTIFICATES)}")
    return StoreSpec(
        "redis",
        label,
        url=parts._replace(query=urlencode(tls), fragment="").geturl(),
        prefix=options.get("prefix", DEFAULT_REDIS_PREFIX),
        timeout=_positive(float, options, "timeout", DEFAULT_REDIS_TIMEOUT),
    )


def _positive(kind: Callable[[str], _Number], options: dict[str, str], name: str, default: _Number) -> _Number:
    if name not in options:
        return default
    try:
        value = kind(options[name])
    except ValueError:
        value = kind("0")
    if not 0 < value < float("inf"):
        raise ValueError(f"its option {name} must be a number above 0")
    return value
