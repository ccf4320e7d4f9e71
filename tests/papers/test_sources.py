"""Who reads a hostcall or a callback finds what it follows: the spec's line and a function of Envoy or its library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from asgi_wasm.host.abi import AbiVersion
from asgi_wasm.host.hostcalls import IMPLEMENTATIONS
from asgi_wasm.host.signatures import CALLBACKS, HOSTCALLS, Signature
from tests.serving import ROOT

# One commit of the spec, so that its lines stay what they are.
_SPEC = re.compile(
    r"Spec: https://github\.com/proxy-wasm/spec/blob/[0-9a-f]{7,40}/abi-versions/v(\d\.\d\.\d)/README\.md#(\w+)$",
    re.MULTILINE,
)
_FOLLOWS = re.compile(r"^ *Follows: (Envoy|proxy-wasm-cpp-host) `\w+::\w+`.*\(`[\w./-]+\.(cc|h)`\)", re.MULTILINE)
# Not in the spec.
_EMSCRIPTEN = ("pthread_equal", "emscripten_notify_memory_growth")
# What the spec says of WASI (headings "wasi_snapshot_preview1.…").
_WASI_OF_THE_SPEC = (
    *("fd_write", "clock_time_get", "random_get", "environ_sizes_get", "environ_get"),
    *("args_sizes_get", "args_get", "proc_exit"),
)
# Never called: `tests.conformance.probe.tables` says why.
_NOT_CALLED = {
    *("proxy_validate_configuration", "proxy_on_request_metadata", "proxy_on_response_metadata"),
    *("proxy_on_new_connection", "proxy_on_downstream_data", "proxy_on_upstream_data"),
    *("proxy_on_downstream_connection_close", "proxy_on_upstream_connection_close"),
}
_NO_FUNCTION = (
    "this row of host/signatures.py has no function: write one of its name, without 'proxy_', in a module of "
    "host/hostcalls/, and name it in __all__ there (a new module also in _CHAPTERS)"
)
_EXAMPLE = "'Follows: Envoy `Context::getProperty` (`source/extensions/common/wasm/context.cc`).'"
# Files that nobody else has.
_ELSEWHERE = re.compile(r"§|\b(?:abi|design|style|toolchains)\.md\b")


@pytest.fixture(scope="module")
def docstrings() -> list[str]:
    """Of every function and class of the package."""
    return [*_docstrings()]


def _docstrings() -> Iterator[str]:
    for path in sorted((ROOT / "asgi_wasm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("row", HOSTCALLS, ids=lambda row: row.name)
def test_hostcall(row: Signature) -> None:
    assert row.name in IMPLEMENTATIONS, _NO_FUNCTION
    doc = IMPLEMENTATIONS[row.name].__doc__ or ""
    assert _FOLLOWS.search(doc), f"say in the docstring of {row.name} what it follows: {_EXAMPLE}"
    if row.name in _EMSCRIPTEN:
        assert "Spec: none" in doc, f"{row.name} is Emscripten's: say 'Spec: none' in its docstring"
        return
    newest = min(row.until, AbiVersion.V0_2_1)
    assert _SPEC.findall(doc) == [(str(newest), row.name)], (
        f"say in the docstring of {row.name} where the spec has it: "
        f"'Spec: https://github.com/proxy-wasm/spec/blob/COMMIT/abi-versions/v{newest}/README.md#{row.name}'"
    )


@pytest.mark.parametrize("name", dict.fromkeys(row.name for row in CALLBACKS))
def test_callback(docstrings: list[str], name: str) -> None:
    if name in _NOT_CALLED:
        return
    telling = [doc for doc in docstrings if name in (anchor for _, anchor in _SPEC.findall(doc))]
    assert telling, "no function says that it calls this callback: give it a line 'Spec: …' and one 'Follows: …'"
    assert all(_FOLLOWS.search(doc) for doc in telling), f"say in the docstring what is followed: {_EXAMPLE}"


@pytest.mark.parametrize("name", _WASI_OF_THE_SPEC)
def test_wasi(docstrings: list[str], name: str) -> None:
    told = [
        doc for doc in docstrings if f"wasi_snapshot_preview1{name}" in (anchor for _, anchor in _SPEC.findall(doc))
    ]
    assert len(told) == 1 and _FOLLOWS.search(told[0]), f"say where the spec has {name}, and what is followed"


def test_no_reference_to_what_is_not_here() -> None:
    kinds = ("*.py", "*.md", "*.c", "*.h", "*.rs", "*.go", "*.ts", "*.yaml")
    paths = {
        path
        for kind in kinds
        for folder in ("asgi_wasm", "plugins", "sample_apps")
        for path in (ROOT / folder).rglob(kind)
    }
    told = [f"{path}: {match[0]}" for path in sorted(paths) if (match := _ELSEWHERE.search(path.read_text("utf-8")))]
    assert told == []


def test_no_docstring_only_sends_elsewhere(docstrings: list[str]) -> None:
    """One that names the interface says what is different here, or what is done."""
    hollow = re.compile(r"(?:(?:See|As) )?`[\w.]+`\.?|From asyncio\.|.*\blikewise\.")
    assert [doc for doc in docstrings if hollow.fullmatch(doc)] == []
