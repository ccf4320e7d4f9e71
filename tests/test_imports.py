"""Which room may import which: the arrows of the architecture go one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "asgi_wasm"

# Room -> what it may import of ours; itself is always allowed. A room is a folder or a file of the package.
ARROWS = {
    "bundled": (),
    "errors": (),
    "http_syntax": (),
    "interpreter": (),
    "logs": (),
    "specs": (),
    "engines": ("errors", "logs"),
    "host": ("engines.base", "errors", "http_syntax", "specs"),
    "accelerator": ("errors", "host.resident"),
    "asgi": ("host", "http_syntax", "errors", "logs", "specs"),
    "services": ("host", "http_syntax", "errors", "logs", "specs"),
    "settings": ("bundled", "engines.ENGINES", "host.abi", "host.wasi", "http_syntax", "errors", "specs"),
    "foreign": ("host", "errors", "services.tasks"),
    "worker": ("accelerator", "asgi", "engines", "foreign", "host", "services", "errors", "logs", "specs"),
    "middleware": ("asgi", "foreign", "host.ports", "settings", "specs", "worker"),
    "cli": (
        *("asgi.types", "bundled", "engines", "errors", "host", "logs", "middleware", "services"),
        *("settings", "specs", "testing", "worker"),
    ),
    "status": ("errors", "logs", "specs", "worker.status"),
    "testing": (
        *("asgi.types", "engines", "errors", "foreign", "host", "logs", "middleware", "services", "specs"),
        *("worker.loading", "worker.services"),
    ),
    "__main__": ("cli",),
    "__init__": (
        "asgi.properties",
        "errors",
        "foreign",
        "host.abi",
        "interpreter",
        "middleware",
        "settings",
        "status",
        "worker.status",
        "worker.telemetry",
    ),
}
# No I/O, clock, chance, log or event loop in the host: they are handed in.
FORBIDDEN = {
    "host": {
        "asyncio",
        "cryptography",
        "grpc",
        "httpx",
        "logging",
        "os",
        "prometheus_client",
        "pydantic",
        "random",
        "socket",
        "starlette",
        "threading",
        "time",
        "yaml",
    },
    "asgi": {"grpc", "httpx", "prometheus_client", "pydantic", "wasmer", "wasmtime", "yaml"},
    "engines": {"asyncio", "grpc", "httpx", "pydantic", "starlette"},
    "foreign": {"grpc", "httpx", "pydantic", "starlette"},
    "services": {"pydantic", "wasmer", "wasmtime"},
    "settings": {"asyncio", "grpc", "httpx", "starlette", "wasmer", "wasmtime"},
}


def imported(source: str) -> set[str]:
    """Dotted names of everything that the source imports, wherever the statement stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def violations(room: str, source: str) -> list[str]:
    """What the source of this room imports and must not."""
    allowed = (room, *ARROWS[room])
    found = []
    for name in imported(source):
        top, _, ours = name.partition(".")
        if top == "asgi_wasm":
            if ours and not any(f"{ours}.".startswith(f"{place}.") for place in allowed):
                found.append(name)
        elif top in FORBIDDEN.get(room, ()):
            found.append(name)
    return found


def files() -> list[tuple[str, Path]]:
    return [(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize(("room", "path"), files(), ids=lambda value: getattr(value, "name", str(value)))
def test_arrows(room: str, path: Path) -> None:
    assert violations(room, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("host", "import asyncio"),
        ("host", "from asgi_wasm.engines.wasmtime import WasmtimeEngine"),
        ("host", "if True:\n    from asgi_wasm.asgi import exchange"),
        ("asgi", "def f():\n    from asgi_wasm import settings"),
        ("engines", "import asgi_wasm.host.abi"),
    ],
)
def test_checker_notices(room: str, source: str) -> None:
    assert violations(room, source) != []


def test_engines_base_is_no_concrete_engine() -> None:
    assert violations("host", "from asgi_wasm.engines.base import Memory") == []


@pytest.mark.parametrize(("room", "path"), files(), ids=lambda value: getattr(value, "name", str(value)))
def test_loggers_come_from_where_they_escape(room: str, path: Path) -> None:
    """One log call that quotes a plugin, a client or an upstream as it is, and a line can be forged."""
    assert room == "logs" or "getLogger" not in path.read_text(encoding="utf-8")
