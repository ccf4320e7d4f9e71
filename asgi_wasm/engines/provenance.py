"""Of what a plugin was made, as far as its compilers left traces: language and SDK.

They leave no mark that is defined anywhere: what is told here are the ``producers`` section and names of source files
in panic messages, and "unknown" where those were stripped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from asgi_wasm.engines.binary import Reader, sections

_CUSTOM_SECTION = 0
# Bounded, since a module may say anything: to try each end of each number of a megabyte would take days.
_RUST_SDK = re.compile(rb"/proxy-wasm-(\d{1,9}\.\d{1,9}\.\d{1,9}[\w.-]{0,99})/src/")
# What it begins with is looked for backwards: a search for all that it might be takes half a second in a Go plugin.
_GO_SDK = b"/proxy-wasm-go-sdk"
_GO_SDK_END = re.compile(rb"\t(v[\w.+-]{1,99})|[/\t\0]")
_GO_PATH = re.compile(rb"[\w./-]*\Z")
_PATH_BYTES = 200
_SECTION_BYTES = 65536
_RUST = re.compile(rb"library/(?:alloc|std|core)/src/\w+|panicked at ")
_ASSEMBLYSCRIPT = "~lib/".encode("utf-16-le")


def _custom(content: bytes, wanted: str) -> Iterable[Reader]:
    for kind, reader in sections(content):
        if (
            kind == _CUSTOM_SECTION
            and reader.end - reader.position <= _SECTION_BYTES
            and reader.take() == wanted.encode()
        ):
            yield reader


def producers_of(content: bytes) -> dict[str, list[str]]:
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


def language_of(content: bytes, producers: dict[str, list[str]], imports: Collection[str]) -> tuple[str, str]:
    """Language and SDK, "unknown" and "" where nothing tells. ``imports`` are ``module.name``, if known."""
    builders = " ".join(producers.get("processed-by", []))
    named = ", ".join(producers.get("language", []))
    if rust := _RUST_SDK.search(content):
        return "Rust", f"proxy-wasm {rust[1].decode()}"
    if go_sdk := _go_sdk(content):
        return named or _go(builders), go_sdk
    if _ASSEMBLYSCRIPT in content or "env.abort" in imports:
        return "AssemblyScript", ""
    if named:
        return named, ""
    if _RUST.search(content):
        return "Rust", ""
    if "env.emscripten_notify_memory_growth" in imports:
        return "C++ (emscripten)", ""
    return "unknown", ""


def _go_sdk(content: bytes) -> str:
    """Its module's path, and its version where the module list is there."""
    named, at = "", content.find(_GO_SDK)
    while at >= 0:
        end = at + len(_GO_SDK)
        after = _GO_SDK_END.match(content, end)
        if after is not None:
            before = _GO_PATH.search(content[max(0, at - _PATH_BYTES) : at])
            path = ((before[0] if before is not None else b"") + _GO_SDK).decode()
            if after[1] is not None:
                return f"{path} {after[1].decode()}"
            named = named or path
        at = content.find(_GO_SDK, end)
    return named


def _go(builders: str) -> str:
    return "Go (TinyGo)" if "TinyGo" in builders or "Go cmd/compile" not in builders else "Go"
