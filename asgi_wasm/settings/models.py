"""What one entry of the settings may say. Everything is checked here; what files hold is checked in `load`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from asgi_wasm.engines import ENGINES
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN
from asgi_wasm.settings import names
from asgi_wasm.settings.entry import Entry
from asgi_wasm.settings.metrics import Metrics
from asgi_wasm.settings.store_url import parse_store_url
from asgi_wasm.specs import (
    DEFAULT_BODY_LIMIT,
    DEFAULT_CALL_RESPONSE_LIMIT,
    DEFAULT_CALLBACK_MS,
    DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_MEMORY_LIMIT,
    DEFAULT_MESSAGE_LIMIT,
    DEFAULT_PAUSE_TIMEOUT,
    DEFAULT_RELOAD_INTERVAL,
    DEFAULT_SLOW_CALLBACK_MS,
    FailurePolicy,
)

# A plugin's name becomes part of a logger's name and of settings' keys.
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEADER_NAME = re.compile(TOKEN)
_HEADER_VALUE = re.compile(FIELD_VALUE)
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def encode_conf(value: object) -> bytes | None:
    """A configuration as the bytes that the plugin gets: text as UTF-8, anything else as compact JSON.

    Raises ValueError for what neither can express.
    """
    if value is None or isinstance(value, bytes):
        return value
    try:
        text = (
            value
            if isinstance(value, str)
            else json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        )
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be encoded ({error}): give a string, or what JSON can express") from None


def _policy(value: object) -> object:
    """Any case, and Istio's FAIL_CLOSE."""
    if isinstance(value, FailurePolicy) or not isinstance(value, str):
        return value
    lower = value.lower()
    return "fail_closed" if lower == "fail_close" else lower


def _one_or_several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _seconds(value: object) -> object:
    """Envoy's durations are words like ``1.5s``."""
    return value[:-1] if isinstance(value, str) and value.endswith("s") else value


Conf = Annotated[Any, BeforeValidator(encode_conf)]
if TYPE_CHECKING:
    # What may be written; once checked it is a list, and an enumeration.
    Words = list[str] | str
    Policy = FailurePolicy | Literal["fail_closed", "fail_open", "fail_reload"]
else:
    Words = Annotated[list[str], BeforeValidator(_one_or_several)]
    Policy = Annotated[FailurePolicy, BeforeValidator(_policy)]


class PluginLimits(Entry):
    """Bounds of one plugin's VM; ``memory`` in bytes, times in milliseconds (None: those of `Limits`)."""

    memory: PositiveInt = DEFAULT_MEMORY_LIMIT
    callback_ms: NonNegativeInt | None = None
    slow_callback_ms: NonNegativeInt | None = None


class Backoff(Entry):
    """``base_interval`` is in seconds, or written as Envoy's ``1s``."""

    base_interval: Annotated[PositiveFloat, BeforeValidator(_seconds)] = DEFAULT_RELOAD_INTERVAL


class ReloadConfig(Entry):
    """When a failed VM is replaced (Envoy: ``PluginConfig.reload_config``)."""

    backoff: Backoff = Field(default_factory=Backoff)


class Limits(Entry):
    """Bytes of a body that may be held while a plugin pauses, and of the answer to an HTTP call.

    Times in milliseconds that each plugin has unless it says otherwise; 0 is no limit.
    """

    request_body: PositiveInt = DEFAULT_BODY_LIMIT
    response_body: PositiveInt = DEFAULT_BODY_LIMIT
    call_response: PositiveInt = DEFAULT_CALL_RESPONSE_LIMIT
    callback_ms: NonNegativeInt = DEFAULT_CALLBACK_MS
    slow_callback_ms: NonNegativeInt = DEFAULT_SLOW_CALLBACK_MS


class Plugin(Entry):
    """One plugin: what it is called, where it is, when it runs, and the ``conf`` that it parses itself."""

    name: str
    file: str | Path
    priority: int = 0
    conf: Conf = None
    root_id: str = ""
    vm_id: str = ""
    vm_conf: Conf = b""
    env: dict[str, str] = Field(default_factory=dict)
    failure_policy: Policy = FailurePolicy.FAIL_CLOSED
    reload_config: ReloadConfig = Field(default_factory=ReloadConfig)
    allowed_capabilities: list[str] = Field(default_factory=list)
    allow_on_headers_stop_iteration: bool = False
    limits: PluginLimits = Field(default_factory=PluginLimits)
    sha256: str | None = None
    service: bool = False

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        entry = names.canonical(value, names.PLUGIN)
        fail_open = entry.pop("fail_open", None)
        if fail_open is not None:
            # Envoy's older boolean; Envoy too refuses it beside a policy.
            if "failure_policy" in entry:
                raise ValueError("'fail_open' and 'failure_policy' exclude each other: keep failure_policy")
            entry["failure_policy"] = (
                FailurePolicy.FAIL_OPEN if fail_open in (True, "true", "1") else FailurePolicy.FAIL_CLOSED
            )
        return entry

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no name: use letters, digits, '.', '_' and '-'")
        return value

    @field_validator("sha256")
    @classmethod
    def _check_sha256(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value.lower()):
            raise ValueError("must be 64 hexadecimal digits")
        return value if value is None else value.lower()


class RoutePlugin(Entry):
    """A plugin on a route; without ``conf`` it keeps its own."""

    conf: Conf = None


class Route(Entry):
    """Requests that get their own plugins' ``conf``: an exact path or ``prefix/*``, some hosts, some methods."""

    uri: Words
    hosts: Words = Field(default_factory=list)
    methods: Words = Field(default_factory=list)
    plugins: dict[str, RoutePlugin]

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, value: Any) -> Any:
        return names.canonical(value, names.ROUTE) if isinstance(value, Mapping) else value

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, value: list[str]) -> list[str]:
        for uri in value:
            if not uri.startswith("/") or "*" in uri[:-1]:
                raise ValueError(f"{uri!r} is no route: begin it with '/', and put '*' at its end only")
        return value


class Upstream(Entry):
    """A named target of HTTP and gRPC calls.

    ``timeout`` bounds every call, in seconds; ``verify`` may be a file of certificates to trust; ``headers`` replace
    the plugin's; ``http2`` is by ALPN on https, and without asking on http; ``message_limit`` is in bytes of a gRPC
    message.
    """

    url: str
    timeout: PositiveFloat | None = None
    verify: bool | Path = True
    headers: dict[str, str] = Field(default_factory=dict)
    http2: bool = False
    message_limit: PositiveInt = DEFAULT_MESSAGE_LIMIT

    @model_validator(mode="before")
    @classmethod
    def _only_url(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"{value!r} is no upstream: write http://host:port or https://host")
        if "@" in parts.netloc:
            raise ValueError("holds a user name: put an authorization header into headers instead")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"{value!r} has more than a host: the plugin's :path is the whole path of a call")
        return value

    @field_validator("verify", mode="before")
    @classmethod
    def _bool_or_path(cls, value: Any) -> Any:
        """The environment has words only."""
        return _BOOLEANS.get(value.lower(), value) if isinstance(value, str) else value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no header name")
            if name.lower() in ("content-length", "transfer-encoding"):
                raise ValueError(f"{name!r} is made from the body of each call: leave it out")
            if not _HEADER_VALUE.fullmatch(text):
                raise ValueError(f"the value of {name!r} has characters that no header can carry")
        return value


class Settings(BaseSettings):
    """All settings as one object, for those who build them in Python: it reads no other source by itself."""

    model_config = SettingsConfigDict(extra="forbid")

    plugins: list[Plugin] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)
    upstreams: dict[str, Upstream] = Field(default_factory=dict)
    engine: str = "auto"
    cache_dir: Path | None = None
    limits: Limits = Field(default_factory=Limits)
    pause_timeout: PositiveFloat = DEFAULT_PAUSE_TIMEOUT
    metrics: Metrics = Field(default_factory=lambda: Metrics(enabled=False))
    # It may hold a password.
    shared_data: str = Field(default="memory://", repr=False)
    shared_metrics: bool = False
    watch: bool = False
    drain_timeout: PositiveFloat = DEFAULT_DRAIN_TIMEOUT

    @field_validator("shared_data")
    @classmethod
    def _check_shared_data(cls, value: str) -> str:
        parse_store_url(value)
        return value

    @field_validator("engine")
    @classmethod
    def _check_engine(cls, value: str) -> str:
        if value not in ENGINES:
            raise ValueError(f"{value!r} is no engine: choose from {', '.join(ENGINES)}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what was given: `sources` merges by plugin name and remembers where each key came from."""
        return (init_settings,)
