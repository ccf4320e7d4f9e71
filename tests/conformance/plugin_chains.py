"""Chains of plugins, and for every plugin the one that gets every request of `cases_common`."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.chains import Chain, PluginEntry

_MB = 1_000_000


def _conf(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def entry(file: str, conf: Any = "", **more: Any) -> PluginEntry:
    """A plugin; AssemblyScript ones are registered under their folder's name."""
    folder, _, language = file.partition("/")
    root_id = more.pop("root_id", folder if language == "assemblyscript" else "")
    name = more.pop("name", f"{folder}-{language}")
    return PluginEntry(name, file, _conf(conf), root_id, **more)


def chain(name: str, *plugins: PluginEntry, **more: Any) -> Chain:
    """A chain whose plugins are named after it, so that their logs can be told from other chains'."""
    named = [PluginEntry(**{**vars(plugin), "name": f"{name}.{plugin.name}"}) for plugin in plugins]
    return Chain(name, tuple(named), **more)


_HEADERS = {
    "request": {"remove": ["x-a"], "set": {"x-set": "1"}, "add": {"x-added": "2"}},
    "response": {"remove": ["x-remove"], "set": {"x-set": "3"}, "add": {"set-cookie": "c=4"}},
}
APPEND = {"direction": "both", "mode": "append", "text": "+"}
LANGUAGES = ("rust", "go", "assemblyscript", "c")
ABIS = ("010", "020", "021")


def lifecycle(abi: str) -> str:
    return "lifecycle/abi_" + "_".join(abi)


#: For every plugin, the chain that gets every request of `cases_common`.
DEFAULTS = [
    chain("headers", entry("headers/rust", _HEADERS)),
    chain("body", entry("body/go", APPEND)),
    chain("body-buffer", entry("body/go", {"direction": "both", "mode": "buffer"}), limit=8 * _MB),
    chain("local-reply", entry("local_reply/assemblyscript", {"phase": "none"})),
    chain("counter", entry("counter/assemblyscript", "conformance")),
    chain("queue", entry("queue/rust", {})),
    chain("trailers", entry("trailers/c")),
    chain("root-id", entry("root_id/assemblyscript", root_id="first")),
    chain("http-auth", entry("http_auth/rust", {"upstream": "auth", "timeout_ms": 20_000})),
    *(chain(f"lifecycle-{abi}", entry(lifecycle(abi))) for abi in ABIS),
    *(chain(f"fault-{language}", entry(f"fault_injection/{language}", {"percentage": 0})) for language in LANGUAGES),
]

#: uvicorn's other parser.
H11 = [
    chain("headers-h11", entry("headers/rust", _HEADERS), http="h11"),
    chain("body-h11", entry("body/go", APPEND), http="h11"),
    chain("lifecycle-h11", entry(lifecycle("021")), http="h11"),
]
