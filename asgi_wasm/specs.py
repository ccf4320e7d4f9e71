"""What the settings come to: plain, frozen, checked. No pydantic is needed below this line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from asgi_wasm.limits import (
    DEFAULT_CALL_RESPONSE_LIMIT,
    DEFAULT_PLUGIN_LIMITS,
    DEFAULT_STACK_LIMIT,
    DEFAULT_STORE_LIMITS,
    DEFAULT_STREAM_LIMITS,
    PluginLimits,
    StoreLimits,
    StreamLimits,
)

# gRPC's own default; Envoy's `max_receive_message_length` has none.
DEFAULT_MESSAGE_LIMIT = 4 * 1024 * 1024
# Seconds. Envoy's `--drain-time-s` is ten minutes, which two sets of VMs side by side are too much for.
DEFAULT_DRAIN_TIMEOUT = 60.0
# Seconds. Envoy's `stream_idle_timeout` defaults to five minutes.
DEFAULT_PAUSE_TIMEOUT = 300.0
# Envoy `source/common/stats/histogram_impl.cc` (`defaultBuckets`): plugins are written for these, in milliseconds.
DEFAULT_BUCKETS = (
    *(0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0),
    *(10_000.0, 30_000.0, 60_000.0, 300_000.0, 600_000.0, 1_800_000.0, 3_600_000.0),
)
# Bytes of address space, not of disk: the file grows as needed. 1 GiB holds a million counters and fits any container.
DEFAULT_MAP_SIZE = 1024 * 1024 * 1024
# Seconds that one hostcall may hold the event loop for Redis. It answers in less than a millisecond on one network.
DEFAULT_REDIS_TIMEOUT = 0.05
DEFAULT_REDIS_PREFIX = "asgi_wasm:"
# Seconds. Envoy's `reload_config.backoff.base_interval`.
DEFAULT_RELOAD_INTERVAL = 1.0
# Bytes of both caches together: some sixty large plugins, or a thousand small ones.
DEFAULT_CACHE_LIMIT = 1024 * 1024 * 1024
# Seconds that fetching one plugin may take in all. Envoy's and Istio's own default is 30 s.
DEFAULT_FETCH_TIMEOUT = 60.0


class FailurePolicy(str, Enum):
    """What a failed VM means for traffic. Envoy: ``PluginConfig.failure_policy``."""

    FAIL_CLOSED = "fail_closed"
    FAIL_OPEN = "fail_open"
    FAIL_RELOAD = "fail_reload"


class Mode(str, Enum):
    """Whether what a plugin decides is done, or only told."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class EscapedSlashes(str, Enum):
    """What becomes of a request whose path has %2F or %5C. Envoy: ``path_with_escaped_slashes_action``."""

    KEEP_UNCHANGED = "keep_unchanged"
    REJECT_REQUEST = "reject_request"
    UNESCAPE_AND_REDIRECT = "unescape_and_redirect"
    UNESCAPE_AND_FORWARD = "unescape_and_forward"


@dataclass(frozen=True)
class RemoteFile:
    """A plugin's file that is fetched (`asgi_wasm.fetching`).

    ``url`` is ``https://…``, or ``oci://registry/name:tag`` without its digest. ``digest`` is the SHA-256, in
    hexadecimal, of that file, or of the image's manifest; "" only where it is to be found out.
    """

    url: str = field(repr=False)
    digest: str = ""

    def __str__(self) -> str:
        """The name as it may be written in settings, without what may be a secret: user, password and query."""
        parts = urlsplit(self.url)
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if not self.digest:
            return shown
        return f"{shown}@sha256:{self.digest}" if parts.scheme == "oci" else f"{shown}#sha256={self.digest}"


@dataclass(frozen=True)
class PluginSpec:
    """One entry of the plugin list. ``conf`` is None when the plugin has none of its own."""

    name: str
    file: Path | RemoteFile
    priority: int = 0
    conf: bytes | None = field(default=None, repr=False)
    root_id: str = ""
    vm_id: str = ""
    vm_conf: bytes = field(default=b"", repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    failure_policy: FailurePolicy = FailurePolicy.FAIL_CLOSED
    allowed_capabilities: frozenset[str] = frozenset()
    allow_on_headers_stop_iteration: bool = False
    limits: PluginLimits = DEFAULT_PLUGIN_LIMITS
    sha256: str | None = None
    service: bool = False
    mode: Mode = Mode.ENFORCE
    # In CEL; "" for always.
    when: str = ""
    # The lowest ABI level (`host.abi.LogLevel`) that is kept of what it logs.
    log_level: int = 0
    # Seconds between two starts after failures.
    reload_interval: float = DEFAULT_RELOAD_INTERVAL
    # Source and key that name the file, for messages; and how they name it, where that is not its path.
    named_by: str = ""
    file_named: str = ""

    @property
    def shown_file(self) -> str:
        """The file as the settings name it, and not by where this machine has a plugin of the package's."""
        return self.file_named or str(self.file)


@dataclass(frozen=True)
class RouteSpec:
    """Requests that get their own ``conf``: an exact path, or ``prefix/*``. Empty hosts or methods match all."""

    uri: str
    hosts: tuple[str, ...] = ()
    methods: frozenset[str] = frozenset()
    plugins: Mapping[str, bytes | None] = field(default_factory=dict, repr=False)
    # Plugins that do not run here, though they have a conf of their own, or run everywhere else.
    off: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PathSpec:
    """How routes read paths that frameworks read in different ways. Envoy: keys of its connection manager.

    Whatever they say, what plugins and app see are the client's bytes, unless ``escaped_slashes`` says otherwise.
    """

    # Routes also match the path without dot segments and with backslashes as slashes.
    normalize_path: bool = True
    # Routes also match the path with several slashes as one.
    merge_slashes: bool = True
    # What is done about %2F and %5C, which every ASGI server has decoded in `path`, by which frameworks route.
    escaped_slashes: EscapedSlashes = EscapedSlashes.KEEP_UNCHANGED


DEFAULT_PATHS = PathSpec()


@dataclass(frozen=True)
class UpstreamSpec:
    """A named target of HTTP and gRPC calls. ``url`` is ``http://`` or ``https://`` with a host.

    ``timeout`` is in seconds; ``verify`` may be the path of the certificates to trust; ``message_limit`` is the most
    bytes of a gRPC message from there.
    """

    name: str
    url: str
    timeout: float | None = None
    verify: bool | Path = True
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    http2: bool = False
    message_limit: int = DEFAULT_MESSAGE_LIMIT

    def timeout_of(self, asked_milliseconds: int) -> float | None:
        """Seconds that a call may take: the less of what its plugin asks (0: any time) and ``timeout``; None: any."""
        limits = (asked_milliseconds / 1000 or None, self.timeout)
        return min((limit for limit in limits if limit is not None), default=None)


@dataclass(frozen=True)
class TagRule:
    """How a label is got from a metric's name (Envoy: ``TagSpecifier``).

    What ``regex``'s first group matches leaves the name; its second group, or else the first, is the label's value.
    A rule with ``value`` instead gives every metric that label.
    """

    tag: str
    regex: re.Pattern[str] | None = None
    value: str | None = None


@dataclass(frozen=True)
class MetricsSpec:
    """Whether and how metrics are exported: to Prometheus, or to OpenTelemetry.

    ``buckets`` are upper bounds of the plugins' histograms. Unless ``per_plugin``, those of one name are one metric.
    """

    enabled: bool = False
    opentelemetry: bool = False
    rules: tuple[TagRule, ...] = ()
    buckets: tuple[float, ...] = DEFAULT_BUCKETS
    per_plugin: bool = True


@dataclass(frozen=True)
class StoreSpec:
    """Where shared data, shared queues and, when ``metrics`` is true, the plugins' metrics are kept.

    ``label`` is the store's URL as a log may show it, while ``url`` is Redis's own, with its password. ``path`` and
    ``map_size`` (bytes) are LMDB's; ``prefix`` of keys and ``timeout`` (seconds a hostcall may take) are Redis's.
    """

    scheme: str = "memory"
    label: str = "memory://"
    path: Path = Path()
    map_size: int = DEFAULT_MAP_SIZE
    url: str = field(default="", repr=False)
    prefix: str = DEFAULT_REDIS_PREFIX
    timeout: float = DEFAULT_REDIS_TIMEOUT
    metrics: bool = False
    limits: StoreLimits = DEFAULT_STORE_LIMITS


class Wish(str, Enum):
    """Whether something optional is to be used."""

    AUTO = "auto"
    OFF = "off"
    REQUIRED = "required"


@dataclass(frozen=True)
class HostSpec:
    """The whole configuration of one middleware.

    ``sources`` are the files that it was read from; with ``watch`` a change of one of them, or of a plugin's file, is a
    reload, after which requests that run have ``drain_timeout`` seconds.
    """

    plugins: tuple[PluginSpec, ...] = ()
    # Names of those that the settings have and say not to run.
    off: tuple[str, ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    # What no route names is refused.
    deny_unrouted: bool = False
    paths: PathSpec = DEFAULT_PATHS
    upstreams: tuple[UpstreamSpec, ...] = ()
    engine: str = "auto"
    # Where libwasmer is, if the settings say so.
    wasmer_library: Path | None = None
    # Whether a kernel may stand beside each plugin.
    resident: bool = True
    accelerator: Wish = Wish.AUTO
    cache_dir: Path | None = None
    # 0: any size.
    cache_limit: int = DEFAULT_CACHE_LIMIT
    fetch_timeout: float = DEFAULT_FETCH_TIMEOUT
    limits: StreamLimits = DEFAULT_STREAM_LIMITS
    call_response_limit: int = DEFAULT_CALL_RESPONSE_LIMIT
    stack_limit: int = DEFAULT_STACK_LIMIT
    pause_timeout: float = DEFAULT_PAUSE_TIMEOUT
    metrics: MetricsSpec = MetricsSpec()
    store: StoreSpec = StoreSpec()
    sources: tuple[Path, ...] = field(default=(), compare=False)
    watch: bool = False
    # How many of the last requests are kept with all their calls, and whether these become spans.
    trace_requests: int = 0
    opentelemetry: bool = False
    drain_timeout: float = DEFAULT_DRAIN_TIMEOUT
