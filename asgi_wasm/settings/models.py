"""What one entry of the settings may say. Everything is checked here; what files hold is checked in `load`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from asgi_wasm.engines import ENGINES
from asgi_wasm.host.signatures import CALLBACKS, HOSTCALLS
from asgi_wasm.host.wasi.preview1 import SIGNATURES
from asgi_wasm.settings import nested
from asgi_wasm.settings.conf import Conf
from asgi_wasm.settings.entry import CountOrNone, Entry, Flag, Number, Seconds, boolean, texts
from asgi_wasm.settings.files import shown
from asgi_wasm.settings.limits import Limits, PluginLimits
from asgi_wasm.settings.metrics import Metrics
from asgi_wasm.settings.routes import Route
from asgi_wasm.settings.store_url import parse_store_url
from asgi_wasm.settings.upstreams import Upstream
from asgi_wasm.specs import (
    DEFAULT_CACHE_LIMIT,
    DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_FETCH_TIMEOUT,
    DEFAULT_PAUSE_TIMEOUT,
    DEFAULT_RELOAD_INTERVAL,
    EscapedSlashes,
    FailurePolicy,
    Mode,
)

# A plugin's name becomes part of a logger's name and of settings' keys.
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_CAPABILITIES = frozenset({row.name for row in (*HOSTCALLS, *CALLBACKS)} | SIGNATURES.keys())
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _policy(value: object) -> object:
    """Any case, and Istio's FAIL_CLOSE."""
    if isinstance(value, FailurePolicy) or not isinstance(value, str):
        return value
    lower = value.lower()
    return "fail_closed" if lower == "fail_close" else lower


def _lower(value: object) -> object:
    """Envoy writes its words in upper case."""
    return value.lower() if isinstance(value, str) else value


LEVELS = ("trace", "debug", "info", "warn", "error", "critical")


def _level(value: object) -> object:
    """Any case, and Python's ``warning``."""
    lower = _lower(value)
    return "warn" if lower == "warning" else lower


if TYPE_CHECKING:
    Level = Literal["trace", "debug", "info", "warn", "warning", "error", "critical"]
    # What may be written; once checked it is an enumeration.
    PluginMode = Mode | Literal["enforce", "observe"]
    Policy = FailurePolicy | Literal["fail_closed", "fail_open", "fail_reload"]
    Slashes = (
        EscapedSlashes | Literal["keep_unchanged", "reject_request", "unescape_and_redirect", "unescape_and_forward"]
    )
else:
    Level = Annotated[Literal[LEVELS], BeforeValidator(_level)]
    PluginMode = Annotated[Mode, BeforeValidator(_lower)]
    Policy = Annotated[FailurePolicy, BeforeValidator(_policy)]
    Slashes = Annotated[EscapedSlashes, BeforeValidator(_lower)]


class Backoff(Entry):
    """``base_interval`` is in seconds."""

    base_interval: Seconds = DEFAULT_RELOAD_INTERVAL
    """Seconds between two starts of a VM that goes on failing."""


class ReloadConfig(Entry):
    """When a failed VM is replaced (Envoy: ``PluginConfig.reload_config``)."""

    backoff: Backoff = Field(default_factory=Backoff)
    """How long to wait before the next start."""


class Plugin(Entry):
    """One plugin: what it is called, where it is, when it runs, and the ``conf`` that it parses itself."""

    name: str
    """Names the logger, and the plugin in routes and in messages: letters, digits, `.`, `_`, `-`."""
    file: str | Path
    """The `.wasm`, relative to the settings file that names it, else to the working directory; or
    `asgi_wasm:fault_injection`, which the package brings; or `https://…` with its `sha256`, or
    `oci://registry/name:tag@sha256:…`, which are fetched."""
    enabled: Flag = True
    """`false`: as if the settings had neither the plugin nor a route's line about it; its file is not read."""
    priority: Number = 0
    """Higher runs earlier on the request and later on the response; equal ones run in the order of the list."""
    conf: Conf = Field(default=None, repr=False)
    """What the plugin gets in `on_configure`: a string as it is, anything else as compact JSON."""
    root_id: str = ""
    """Which root context inside the module; some SDKs register them by name."""
    vm_id: str = ""
    """Plugins with equal `vm_id`, `vm_conf`, `mode` and code share one VM. It is also the namespace of shared data."""
    vm_conf: Conf = Field(default=b"", repr=False)
    """What the VM gets in `on_vm_start`: as `conf`."""
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """The environment that the plugin sees; it sees nothing of the process's."""
    failure_policy: Policy = FailurePolicy.FAIL_CLOSED
    """What a request gets when the plugin's VM fails: 503 (`fail_closed`), the app without the plugin (`fail_open`), or
    503 and Envoy's back-off (`fail_reload`)."""
    reload_config: ReloadConfig = Field(default_factory=ReloadConfig)
    """When a failed VM is started again."""
    allowed_capabilities: list[str] = Field(default_factory=list)
    """The only hostcalls, WASI functions and callbacks that the plugin may use, by name. Empty: all."""
    allow_on_headers_stop_iteration: Flag = False
    """Whether body callbacks come while the plugin pauses on headers."""
    limits: PluginLimits = Field(default_factory=PluginLimits)
    """Limits of this plugin, in place of those of the top level."""
    log_level: Level = "trace"
    """The lowest level that is kept of what the plugin logs: `trace`, `debug`, `info`, `warn`, `error`, `critical`. Its
    logger's own level counts as well."""
    sha256: str | None = None
    """Refuse any other file: 64 hexadecimal digits. Needed for an `https://` file (or `#sha256=…` at its end); for
    `oci://` it is the image's digest, if its name has none."""
    service: Flag = False
    """A plugin without requests: only its root context runs (ticks, queues)."""
    when: str = ""
    """A condition in CEL, such as `request.headers["x-debug"] == "1"` or `random() < 0.05`: the plugin runs on requests
    for which it is true (extra `cel`). Empty: on all."""
    mode: PluginMode = Mode.ENFORCE
    """`enforce`, or `observe`: the plugin runs on copies; what it would have answered, changed, held back or broken off
    is logged and counted, never done."""

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        entry = nested.flat(value)
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

    @field_validator("file", mode="before")
    @classmethod
    def _text_or_path(cls, value: Any) -> Any:
        if not isinstance(value, (str, Path)):
            raise ValueError("must be a path or a URL")
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


class Settings(Entry):
    """All settings as one object, for those who build them in Python: it reads no source, which `load` does."""

    plugins: list[Plugin] = Field(default_factory=list)
    """The plugins: a list, or a mapping by name."""
    enabled: Flag = True
    """`false` (`ASGI_WASM_ENABLED=false`): no plugin runs, and no `default: deny`; the app answers as without us."""
    routes: list[Route] = Field(default_factory=list)
    """Which requests get which plugin's `conf`: a list, or a mapping by any names. An entry `default: deny` answers
    404, before any plugin, to what no route names."""
    upstreams: dict[str, Upstream] = Field(default_factory=dict)
    """The only targets of HTTP and gRPC calls, by name: a URL, or a mapping."""
    engine: str = "auto"
    """`wasmtime` (what `auto` means) or `wasmer`."""
    wasmer_library: Path | None = None
    """libwasmer's file, for `engine: wasmer`. Without it, it is looked for."""
    resident: Literal["auto", "off"] = "auto"
    """Whether hostcalls about headers are answered by WebAssembly beside each plugin; `off` narrows down a bug. Only
    with wasmtime, not for a plugin of ABI 0.1.0 or with `allowed_capabilities`, nor while a trace or `metrics` are
    on."""
    accelerator: Literal["auto", "off", "required"] = "auto"
    """Whether the way to that WebAssembly is a C extension's: `auto` (where it was built), `off`, or `required` (a
    start without it fails). Without it everything works, at some four times the cost; the log says so at start."""
    cache_dir: Path | None = None
    """Where compiled code and fetched files are kept: a private directory. Without it, one in the user's cache."""
    cache_limit: CountOrNone = DEFAULT_CACHE_LIMIT
    """Bytes that compiled code and fetched files may have together. A start removes what was used longest ago; never
    what it uses itself, nor what anybody used within the last hour. 0: any size."""
    fetch_timeout: Seconds = DEFAULT_FETCH_TIMEOUT
    """Seconds that fetching one plugin may take in all."""
    limits: Limits = Field(default_factory=Limits)
    """What plugins may make the host keep or do."""
    pause_timeout: Seconds = DEFAULT_PAUSE_TIMEOUT
    """Seconds that a paused stream waits for anything to happen; then it is answered 504, or cut off where an answer
    has started. What the client sends renews it, up to ten times as long in all."""
    normalize_path: Flag = True
    """Routes also match the path without dot segments and with backslashes as slashes."""
    merge_slashes: Flag = True
    """Routes also match the path with several slashes as one."""
    path_with_escaped_slashes_action: Slashes = EscapedSlashes.KEEP_UNCHANGED
    """What becomes of `%2F` and `%5C` in a path: kept, refused (400), redirected (307), or decoded in `raw_path`."""
    metrics: Metrics = Field(default_factory=lambda: Metrics(enabled=False))
    """`true` exports metrics (extra `metrics`), a mapping says more."""
    # It may hold a password.
    shared_data: str = Field(default="memory://", repr=False)
    """`memory://`, `lmdb:///path`, `redis://host:port/0` or `rediss://…`: where shared data and queues are kept."""
    shared_metrics: Flag = False
    """Keep the plugins' metrics there too, so that each worker reads the sums of all."""
    trace_requests: CountOrNone = 0
    """How many of the last requests are kept with every callback, hostcall and callout, for the status page. Headers
    are kept too, but for those that hold credentials. 0 keeps none and costs nothing; else each hostcall passes
    Python."""
    opentelemetry: Flag = False
    """Spans of OpenTelemetry for each plugin and phase, and for callouts, which carry the trace on (extra
    `opentelemetry`); each hostcall passes Python then."""
    watch: Flag = False
    """Reload when the settings' file or a plugin's file changes (extra `watch`)."""
    drain_timeout: Seconds = DEFAULT_DRAIN_TIMEOUT
    """Seconds that requests may go on with the plugins that a reload has replaced."""

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
