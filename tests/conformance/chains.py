"""What a conformance case runs: plugins in order, told to both hosts from one description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
# Of VMs that failed, with `fail_reload`. Longer than a run, since the back-off is jittered.
RELOAD_INTERVAL = "600s"


@dataclass(frozen=True)
class PluginEntry:
    """One plugin of a chain. ``file`` is relative to ``plugins/``, without its suffix, or absolute."""

    name: str
    file: str
    conf: str = ""
    root_id: str = ""
    vm_conf: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    failure_policy: str = "fail_closed"
    allow_on_headers_stop_iteration: bool = False

    @property
    def path(self) -> Path:
        """Where the module is."""
        path = Path(self.file)
        return path if path.is_absolute() else PLUGINS / f"{self.file}.wasm"


@dataclass(frozen=True)
class Chain:
    """Plugins in the order in which they see a request, behind a listener of their own in each host.

    ``name`` is also the VM id, so that no chain shares a VM, shared data or a queue with another one.
    """

    name: str
    plugins: tuple[PluginEntry, ...]
    # Bytes of a body that may be held; None for the hosts' default, which is 1 MiB in both.
    limit: int | None = None
    # What parses the requests in front of asgi-wasm: uvicorn's "httptools" or "h11".
    http: str = "httptools"
    # Spare Envoy's plugins what only its own HTTP/1 codec puts into the header maps: see `hops.CODEC_HEADERS`.
    level: bool = True
    # Let Envoy answer by itself, so that nothing but Envoy is measured.
    answers: bool = False
