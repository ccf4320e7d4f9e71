"""What one entry of the settings may say. Everything is checked here; what files hold is checked in `load`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from asgi_wasm.engines import ENGINES
from asgi_wasm.host.abi import CALLBACKS, HOSTCALLS
from asgi_wasm.host.wasi.preview1 import SIGNATURES
from asgi_wasm.http_syntax import FIELD_VALUE, TOKEN
from asgi_wasm.settings import names, urls
from asgi_wasm.settings.conf import Conf
from asgi_wasm.settings.entry import Count, Entry, Number, Seconds, boolean, texts
from asgi_wasm.settings.files import shown
from asgi_wasm.settings.limits import Limits, PluginLimits
from asgi_wasm.settings.metrics import Metrics
from asgi_wasm.settings.routes import Route
from asgi_wasm.settings.store_url import parse_store_url
from asgi_wasm.specs import (
    DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_MESSAGE_LIMIT,
    DEFAULT_PAUSE_TIMEOUT,
    DEFAULT_RELOAD_INTERVAL,
    EscapedSlashes,
    FailurePolicy,
)

# A plugin's name becomes part of a logger's name and of settings' keys.
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_CAPABILITIES = frozenset({row.name for row in (*HOSTCALLS, *CALLBACKS)} | SIGNATURES.keys())
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEADER_NAME = re.compile(TOKEN)
_HEADER_VALUE = re.compile(FIELD_VALUE)


def _policy(value: object) -> object:
    """Any case, and Istio's FAIL_CLOSE."""
    if isinstance(value, FailurePolicy) or not isinstance(value, str):
        return value
    lower = value.lower()
    return "fail_closed" if lower == "fail_close" else lower


def _lower(value: object) -> object:
    """Envoy writes its words in upper case."""
    return value.lower() if isinstance(value, str) else value


def _seconds(value: object) -> object:
    """Envoy's durations are words like ``1.5s``."""
    return value[:-1] if isinstance(value, str) and value.endswith("s") else value


if TYPE_CHECKING:
    # What may be written; once checked it is an enumeration.
    Policy = FailurePolicy | Literal["fail_closed", "fail_open", "fail_reload"]
    Slashes = (
        EscapedSlashes | Literal["keep_unchanged", "reject_request", "unescape_and_redirect", "unescape_and_forward"]
    )
else:
    Policy = Annotated[FailurePolicy, BeforeValidator(_policy)]
    Slashes = Annotated[EscapedSlashes, BeforeValidator(_lower)]
Flag = Annotated[bool, BeforeValidator(boolean)]


class Backoff(Entry):
    """``base_interval`` is in seconds, or written as Envoy's ``1s``."""

    base_interval: Annotated[Seconds, BeforeValidator(_seconds)] = DEFAULT_RELOAD_INTERVAL


class ReloadConfig(Entry):
    """When a failed VM is replaced (Envoy: ``PluginConfig.reload_config``)."""

    backoff: Backoff = Field(default_factory=Backoff)


class Plugin(Entry):
    """One plugin: what it is called, where it is, when it runs, and the ``conf`` that it parses itself."""

    name: str
    file: str | Path
    priority: Number = 0
    conf: Conf = Field(default=None, repr=False)
    root_id: str = ""
    vm_id: str = ""
    vm_conf: Conf = Field(default=b"", repr=False)
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    failure_policy: Policy = FailurePolicy.FAIL_CLOSED
    reload_config: ReloadConfig = Field(default_factory=ReloadConfig)
    allowed_capabilities: list[str] = Field(default_factory=list)
    allow_on_headers_stop_iteration: Flag = False
    limits: PluginLimits = Field(default_factory=PluginLimits)
    sha256: str | None = None
    service: Flag = False

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
            is_open = boolean(fail_open)
            if not isinstance(is_open, bool):
                raise ValueError("'fail_open' must be true or false")
            entry["failure_policy"] = FailurePolicy.FAIL_OPEN if is_open else FailurePolicy.FAIL_CLOSED
        return entry

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(f"{shown(value)!r} is no name: use letters, digits, '.', '_' and '-'")
        return value

    @field_validator("file")
    @classmethod
    def _check_file(cls, value: str | Path) -> str | Path:
        if not str(value) or "\0" in str(value):
            raise ValueError("is no path: give that of the .wasm file")
        return value

    @field_validator("env")
    @classmethod
    def _check_env(cls, value: dict[str, str]) -> dict[str, str]:
        return dict(texts(value))

    @field_validator("allowed_capabilities")
    @classmethod
    def _check_capabilities(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in _CAPABILITIES:
                close = get_close_matches(name, _CAPABILITIES, 1)
                hint = f"did you mean {close[0]!r}?" if close else "they are named as hostcalls, callbacks and WASI's"
                raise ValueError(f"{shown(name)!r} is no capability; {hint}")
        return value

    @field_validator("sha256")
    @classmethod
    def _check_sha256(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value.lower()):
            raise ValueError("must be 64 hexadecimal digits")
        return value if value is None else value.lower()


class Upstream(Entry):
    """A named target of HTTP and gRPC calls.

    ``timeout`` bounds every call, in seconds; ``verify`` may be a file of certificates to trust; ``headers`` replace
    the plugin's; ``http2`` is by ALPN on https, and without asking on http; ``message_limit`` is in bytes of a gRPC
    message.
    """

    url: str
    timeout: Seconds | None = None
    verify: bool | Path = True
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    http2: Flag = False
    message_limit: Count = DEFAULT_MESSAGE_LIMIT

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


class Settings(BaseSettings):
    """All settings as one object, for those who build them in Python: it reads no other source by itself."""

    model_config = SettingsConfigDict(extra="forbid", hide_input_in_errors=True)

    plugins: list[Plugin] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)
    upstreams: dict[str, Upstream] = Field(default_factory=dict)
    engine: str = "auto"
    wasmer_library: Path | None = None
    resident: Literal["auto", "off"] = "auto"
    accelerator: Literal["auto", "off", "required"] = "auto"
    cache_dir: Path | None = None
    limits: Limits = Field(default_factory=Limits)
    pause_timeout: Seconds = DEFAULT_PAUSE_TIMEOUT
    normalize_path: Flag = True
    merge_slashes: Flag = True
    path_with_escaped_slashes_action: Slashes = EscapedSlashes.KEEP_UNCHANGED
    metrics: Metrics = Field(default_factory=lambda: Metrics(enabled=False))
    # It may hold a password.
    shared_data: str = Field(default="memory://", repr=False)
    shared_metrics: Flag = False
    watch: Flag = False
    drain_timeout: Seconds = DEFAULT_DRAIN_TIMEOUT

    @field_validator("shared_data")
    @classmethod
    def _check_shared_data(cls, value: str) -> str:
        parse_store_url(value)
        return value

    @field_validator("resident", "accelerator", mode="before")
    @classmethod
    def _read_off(cls, value: object) -> object:
        """YAML reads a bare ``off`` as false."""
        return "off" if value is False else value

    @field_validator("engine")
    @classmethod
    def _check_engine(cls, value: str) -> str:
        if value not in ENGINES:
            raise ValueError(f"{shown(value)!r} is no engine: choose from {', '.join(ENGINES)}")
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
