"""What can be said of a plugin without running it.

Languages and SDKs leave no mark that is defined anywhere: what is told here are the traces that their compilers leave
(the ``producers`` section, names of source files in panic messages), and "unknown" where those were stripped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from asgi_wasm.engines.base import Import, Module
from asgi_wasm.engines.binary import LIMITS_HAVE_MAXIMUM, Reader, sections
from asgi_wasm.host.abi import SHORT_GRPC_TYPES, AbiVersion, callbacks, hostcalls
from asgi_wasm.host.vm.linker import WASI_MODULES
from asgi_wasm.host.wasi import preview1 as wasi

_CUSTOM_SECTION, _MEMORY_SECTION = 0, 5
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
_RUST_SDK = re.compile(rb"/proxy-wasm-(\d+\.\d+\.\d+[\w.-]*)/src/")
_GO_SDK = re.compile(rb"([\w./-]*/proxy-wasm-go-sdk)\t(v[\w.+-]+)")
_GO_SDK_NAME = re.compile(rb"[\w./-]*/proxy-wasm-go-sdk(?=[/\t\0])")
_RUST = re.compile(rb"library/(?:alloc|std|core)/src/\w+|panicked at ")
_ASSEMBLYSCRIPT = "~lib/".encode("utf-16-le")


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


def inspect(file: Path, content: bytes, digest: str, module: Module, version: AbiVersion) -> Report:
    """The report of a module that the engine has compiled."""
    producers = _producers(content)
    known = callbacks(version)
    names = {item.name for item in module.imports} | {*module.exports}
    imports = [_import(item, version) for item in module.imports]
    memory = _memory(content)
    language, sdk = _language(content, producers, module)
    return Report(
        file=str(file),
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


def _custom(content: bytes, wanted: str) -> Iterable[Reader]:
    for kind, reader in sections(content):
        if kind == _CUSTOM_SECTION and reader.take() == wanted.encode():
            yield reader


def _producers(content: bytes) -> dict[str, list[str]]:
    """The section of that name (tool-conventions `ProducersSection.md`): "language" and "processed-by"."""
    found: dict[str, list[str]] = {}
    try:
        for reader in _custom(content, "producers"):
            for _ in range(reader.number()):
                name = reader.take().decode(errors="replace")
                parts = [(reader.take(), reader.take()) for _ in range(reader.number())]
                found[name] = [" ".join(part.decode(errors="replace") for part in pair if part) for pair in parts]
    except IndexError:
        # Anybody may write a custom section; engines do not look at it.
        return {}
    return found


def _memory(content: bytes) -> tuple[int, int | None]:
    for kind, reader in sections(content):
        if kind == _MEMORY_SECTION and reader.number():
            flags = reader.byte()
            initial = reader.number() * _PAGE
            return initial, reader.number() * _PAGE if flags & LIMITS_HAVE_MAXIMUM else None
    return 0, None


def _language(content: bytes, producers: dict[str, list[str]], module: Module) -> tuple[str, str]:
    """Language and SDK, "unknown" and "" where nothing tells."""
    builders = " ".join(producers.get("processed-by", []))
    named = ", ".join(producers.get("language", []))
    if rust := _RUST_SDK.search(content):
        return "Rust", f"proxy-wasm {rust[1].decode()}"
    if go := _GO_SDK.search(content):
        return named or _go(builders), f"{go[1].decode()} {go[2].decode()}"
    if go_name := _GO_SDK_NAME.search(content):
        return named or _go(builders), go_name[0].decode()
    if _ASSEMBLYSCRIPT in content or any(item.name == "abort" and item.module == "env" for item in module.imports):
        return "AssemblyScript", ""
    if named:
        return named, ""
    if _RUST.search(content):
        return "Rust", ""
    if "emscripten_notify_memory_growth" in {item.name for item in module.imports}:
        return "C++ (emscripten)", ""
    return "unknown", ""


def _go(builders: str) -> str:
    return "Go (TinyGo)" if "TinyGo" in builders or "Go cmd/compile" not in builders else "Go"
