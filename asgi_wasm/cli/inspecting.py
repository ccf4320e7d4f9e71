"""``asgi-wasm inspect``."""

from __future__ import annotations

from dataclasses import asdict

from asgi_wasm.cli import console, given, progress
from asgi_wasm.cli.inspection import Report, inspect
from asgi_wasm.cli.plugin_files import plugin_file, plugin_name, told_as_typed
from asgi_wasm.engines import create_engine
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.errors import FetchError, PluginLoadError
from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.specs import PluginSpec, RemoteFile
from asgi_wasm.worker.loading import compile_content
from asgi_wasm.worker.plugin_file import read_plugin_file


def inspect_plugin(name: str, *, as_json: bool, engine: str) -> int:
    """Print what is known; 1 where the plugin would be refused at a start. Raises `AsgiWasmError`."""
    made = create_engine(given.engine(engine))
    file = plugin_file(name, pinned=False)
    if isinstance(file, RemoteFile) and not file.digest:
        # Whoever asks wants to know the digest; nothing of it runs here.
        try:
            file = Fetcher().fetch(file).file
        except FetchError as error:
            raise PluginLoadError(plugin_name(name), name, str(error)) from None
    spec = PluginSpec(name=plugin_name(name), file=file)
    with told_as_typed({spec.name: name}):
        content, digest = read_plugin_file(spec)
        with progress.steps(f"compiling {spec.name}"):
            code, _ = compile_content(made, spec, (content, digest), ModuleCache(), None)
    report = inspect(file, content, digest, code.module, code.version)
    if as_json:
        console.json_out(asdict(report))
    else:
        _print(report)
    return 1 if any(item.problem and item.kind != "unknown" for item in report.imports) else 0


def _print(report: Report) -> None:
    calls = [item.name for item in report.imports if item.kind == "hostcall"]
    # Go imports some of them twice.
    wasi = [*dict.fromkeys(item.name for item in report.imports if item.kind == "wasi")]
    most = "" if report.memory_max is None else f", at most {_bytes(report.memory_max)}"
    console.fields(
        [
            ("file", report.file),
            ("size", _bytes(report.size)),
            ("sha256", report.sha256),
            ("ABI version", report.abi_version),
            ("language", report.language),
            ("SDK", report.sdk or "not told by the file"),
            ("built by", ", ".join(report.built_by)),
            ("memory", f"{_bytes(report.memory_initial)} at the start{most}"),
            ("may", report.abilities),
            ("callbacks", ", ".join(report.callbacks)),
            ("hostcalls", f"{len(calls)}: {', '.join(calls)}" if calls else "none"),
            ("WASI", f"{len(wasi)}: {', '.join(wasi)}" if wasi else "none"),
        ]
    )
    for item in report.imports:
        if item.problem:
            console.line(
                f"import {item.module}.{item.name} {item.problem}", "yellow" if item.kind == "unknown" else "red"
            )
    if report.language == "Rust":
        console.line(
            "The Rust SDK exports every callback and imports every hostcall, whether the plugin uses it or not."
        )


def _bytes(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.0f} KiB" if count < 1024 * 1024 else f"{count / (1024 * 1024):.1f} MiB"
