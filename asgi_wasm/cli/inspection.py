"""What can be said of a plugin without running it. Language and SDK: `engines.provenance`."""

from __future__ import annotations

from dataclasses import dataclass, field

from asgi_wasm import bundled
from asgi_wasm.engines.base import Import, Module
from asgi_wasm.engines.binary import LIMITS_HAVE_MAXIMUM, sections
from asgi_wasm.engines.provenance import language_of, producers_of
from asgi_wasm.host.abi import AbiVersion
from asgi_wasm.host.signatures import SHORT_GRPC_TYPES, callbacks, hostcalls
from asgi_wasm.host.vm.linker import WASI_MODULES
from asgi_wasm.host.wasi import preview1 as wasi

_MEMORY_SECTION = 5
_PAGE = 65536

# What a callback that is exported, or a hostcall that is imported, lets a plugin do.
_ABILITIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sees request headers", ("proxy_on_request_headers",)),
    ("sees request bodies", ("proxy_on_request_body",)),
    ("sees response headers", ("proxy_on_response_headers",)),
    ("sees response bodies", ("proxy_on_response_body",)),
    ("sees trailers", ("proxy_on_request_trailers", "proxy_on_response_trailers")),
    ("changes headers", ("proxy_add_header_map_value", "proxy_replace_header_map_value", "proxy_set_header_map_pairs")),
    ("changes bodies", ("proxy_set_buffer_bytes",)),
    ("answers in the app's stead", ("proxy_send_local_response",)),
    ("makes HTTP calls", ("proxy_http_call",)),
    ("makes gRPC calls", ("proxy_grpc_call", "proxy_grpc_stream")),
    ("keeps shared data", ("proxy_get_shared_data", "proxy_set_shared_data")),
    ("uses shared queues", ("proxy_register_shared_queue", "proxy_resolve_shared_queue")),
    ("counts metrics", ("proxy_define_metric",)),
    ("runs on a timer", ("proxy_set_tick_period_milliseconds",)),
    ("reads properties", ("proxy_get_property",)),
    ("calls foreign functions", ("proxy_call_foreign_function",)),
)


@dataclass(frozen=True)
class ImportReport:
    """One import. ``kind`` is "hostcall", "wasi" or "unknown"; ``problem`` says why it would be refused or answer
    UNIMPLEMENTED."""

    module: str
    name: str
    kind: str
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """What is known of a plugin. Sizes are in bytes; ``memory_max`` is None where the module sets no bound."""

    file: str
    size: int
    sha256: str
    abi_version: str
    language: str
    sdk: str
    built_by: list[str]
    abilities: list[str]
    imports: list[ImportReport]
    callbacks: list[str]
    other_exports: list[str]
    memory_initial: int
    memory_max: int | None
    unknown_imports: list[str] = field(default_factory=list)


def inspect(file: object, content: bytes, digest: str, module: Module, version: AbiVersion) -> Report:
    """The report of a module that the engine has compiled."""
    producers = producers_of(content)
    known = callbacks(version)
    names = {item.name for item in module.imports} | {*module.exports}
    imports = [_import(item, version) for item in module.imports]
    memory = _memory(content)
    language, sdk = language_of(content, producers, {f"{item.module}.{item.name}" for item in module.imports})
    return Report(
        file=bundled.shown(file),
        size=len(content),
        sha256=digest,
        abi_version=str(version),
        language=language,
        sdk=sdk,
        built_by=producers.get("processed-by", []),
        abilities=[ability for ability, by in _ABILITIES if names.intersection(by)],
        imports=imports,
        callbacks=sorted(name for name in module.exports if name in known and name.startswith("proxy_on_")),
        other_exports=sorted(name for name in module.exports if name not in known),
        memory_initial=memory[0],
        memory_max=memory[1],
        unknown_imports=[f"{item.module}.{item.name}" for item in imports if item.kind == "unknown"],
    )


def _import(item: Import, version: AbiVersion) -> ImportReport:
    """As `host.vm.linker` will take it."""
    if item.type is None:
        return ImportReport(item.module, item.name, "unknown", f"is a {item.kind}: the host has functions only")
    if item.module in WASI_MODULES:
        if item.name not in wasi.FUNCTIONS:
            return ImportReport(item.module, item.name, "unknown", "no Proxy-Wasm host has this WASI function")
        allowed = (wasi.SIGNATURES[item.name].type, wasi.ENVOY_TYPES.get(item.name))
        problem = "" if item.type in allowed else f"has type {item.type}, but WASI has {allowed[0]}: refused at start"
        return ImportReport(item.module, item.name, "wasi", problem)
    rows = {row.name: row for row in hostcalls(version)}
    row = rows.get(item.name) if item.module == "env" else None
    if item.module == "env" and item.name == "abort":
        return ImportReport(item.module, item.name, "hostcall")
    if row is None:
        return ImportReport(
            item.module, item.name, "unknown", f"ABI {version} does not have it: it answers UNIMPLEMENTED"
        )
    fits = item.type in (row.type, SHORT_GRPC_TYPES.get(row.name))
    problem = "" if fits else f"has type {item.type}, but ABI {version} has {row.type}: refused at start"
    return ImportReport(item.module, item.name, "hostcall", problem)


def _memory(content: bytes) -> tuple[int, int | None]:
    for kind, reader in sections(content):
        if kind == _MEMORY_SECTION and reader.number():
            flags = reader.byte()
            initial = reader.number() * _PAGE
            return initial, reader.number() * _PAGE if flags & LIMITS_HAVE_MAXIMUM else None
    return 0, None
