"""What the settings may say of upstreams, the only targets of calls."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN
from asgi_wasm.settings import urls
from asgi_wasm.settings.entry import Count, Entry, Flag, Seconds, boolean
from asgi_wasm.settings.files import shown
from asgi_wasm.specs import DEFAULT_MESSAGE_LIMIT

_HEADER_NAME = re.compile(TOKEN)
_HEADER_VALUE = re.compile(FIELD_VALUE)


class Upstream(Entry):
    """A named target of HTTP and gRPC calls."""

    url: str
    """`http://host:port` or `https://host`, without a path: that is the plugin's."""
    timeout: Seconds | None = None
    """Seconds that any call may take, whatever the plugin asks for."""
    verify: bool | Path = True
    """Of `https://`: `false`, or a file of certificates to trust instead of the usual ones."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Put in place of the plugin's headers of the same names (`authorization`, `host`, …)."""
    http2: Flag = False
    """HTTP/2: on `https://` when the server takes it, on `http://` without asking (extra `http2`)."""
    message_limit: Count = DEFAULT_MESSAGE_LIMIT
    """Bytes of a gRPC message from there; a larger one ends the call with status 8."""

    @model_validator(mode="before")
    @classmethod
    def _only_url(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urls.parse(value)
        shows = urls.named(urls.shown_url(parts))
        valid = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        if parts is None or not valid or not value.isprintable():
            raise ValueError(f"{shows}is no upstream: write http://host:port or https://host")
        if "@" in parts.netloc:
            raise ValueError("holds a user name: put an authorization header into headers instead")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"{shows}has more than a host: the plugin's :path is the whole path of a call")
        return value

    @field_validator("verify", mode="before")
    @classmethod
    def _bool_or_path(cls, value: Any) -> Any:
        """The environment has words only."""
        if not isinstance(value, (bool, str, Path)):
            raise ValueError("must be true, false, or a file of certificates")
        return boolean(value)

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{shown(name)!r} is no header name")
            if name.lower() in ("content-length", "transfer-encoding"):
                raise ValueError(f"{name!r} is made from the body of each call: leave it out")
            if not _HEADER_VALUE.fullmatch(text):
                raise ValueError(f"the value of {name!r} has characters that no header can carry")
        return value
