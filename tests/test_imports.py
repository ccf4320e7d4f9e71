"""Which room may import which: the arrows of the architecture go one way, and no modules form a circle.

``python -m tests.test_imports`` (or this file under ``pytest -s``) prints the layers, the lowest first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "asgi_wasm"

# Room -> what it may import of ours; itself is always allowed. A room is a folder or a file of the package.
ARROWS = {
    "bundled": (),
    "cel": (),
    "errors": (),
    "http_syntax": (),
    "interpreter": (),
    "limits": (),
    "lazily": (),
    "logs": (),
    "specs": ("limits",),
    "engines": ("errors", "logs"),
    "host": ("engines.base", "engines.companion", "errors", "http_syntax", "limits", "specs"),
    "accelerator": ("errors", "host.resident"),
    "waits": (),
    "asgi": ("host", "http_syntax", "errors", "logs", "limits", "specs", "waits"),
    "services": ("host", "http_syntax", "errors", "logs", "limits", "specs", "waits"),
    "fetching": ("engines.cache", "engines.file_lock", "errors", "limits", "logs", "specs"),
    "settings": (
        *("bundled", "cel", "engines.ENGINES", "fetching.names", "host.signatures", "host.wasi", "http_syntax"),
        *("errors", "limits", "specs"),
    ),
    "foreign": ("cel", "host", "errors", "services.tasks"),
    "worker": (
        *("accelerator", "asgi", "bundled", "cel", "engines", "errors", "fetching", "foreign", "host", "limits"),
        *("logs", "services", "specs", "waits"),
    ),
    "middleware": (
        *("accelerator", "asgi", "foreign", "host.vm.vm", "services.traces.requests", "settings", "specs", "worker"),
    ),
    "cli": (
        *(
            "accelerator",
            "asgi.types",
            "bundled",
            "engines",
            "errors",
            "fetching",
            "host",
            "http_syntax",
            "logs",
            "middleware",
            "services",
        ),
        *("settings", "specs", "testing", "worker"),
    ),
    "status": ("engines.provenance", "errors", "logs", "services.traces.requests", "specs", "worker.status"),
    "testing": (
        *("asgi.properties", "asgi.types", "engines", "errors", "foreign", "host", "logs", "middleware", "services"),
        *("lazily", "specs", "worker.loading", "worker.services"),
    ),
    "__main__": ("cli",),
    "__init__": (
        "asgi.properties",
        "errors",
        "foreign",
        "host.abi",
        "interpreter",
        "lazily",
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
    "fetching": {"grpc", "pydantic", "starlette", "wasmtime"},
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
        ("host", "if True:\n    from asgi_wasm.asgi.exchange import exchange"),
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


# --- circles


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    return {_dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> the modules that it imports, wherever the statement stands: for types, and in functions, too."""
    found = {}
    for name, source in sources.items():
        targets = {each if each in sources else each.rpartition(".")[0] for each in imported(source)}
        found[name] = {each for each in targets if each in sources and each != name}
    return found


def layers(arrows: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Modules that import only those of earlier layers. Raises `CycleError`, whose second argument is the circle."""
    sorter = TopologicalSorter(arrows)
    sorter.prepare()
    while sorter.is_active():
        layer = sorter.get_ready()
        sorter.done(*layer)
        yield sorted(layer)


def own_layers() -> list[list[str]]:
    """Those of the package."""
    return list(layers(graph({name: path.read_text(encoding="utf-8") for name, path in modules().items()})))


def drawn(found: list[list[str]]) -> str:
    """A line for each layer."""
    names = (", ".join(name.removeprefix("asgi_wasm.") for name in layer) for layer in found)
    return "\n".join(f"{number:3}  {line}" for number, line in enumerate(names))


def test_no_modules_form_a_circle() -> None:
    print("\n" + drawn(own_layers()))


def rooms(arrows: Mapping[str, set[str]], folder: str) -> dict[str, set[str]]:
    """The same between what stands in one folder, each with all that is below it."""
    found: dict[str, set[str]] = {}
    for name, targets in arrows.items():
        if name.startswith(f"{folder}."):
            room = _room(name, folder)
            there = {_room(each, folder) for each in targets if each.startswith(f"{folder}.")}
            found.setdefault(room, set()).update(there - {room})
    return found


def _room(name: str, folder: str) -> str:
    return name.removeprefix(f"{folder}.").partition(".")[0]


# In the host the modules do, and not yet its rooms: what a VM is made of stands in several.
_FOLDERS = sorted({path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"host"})


@pytest.mark.parametrize("folder", _FOLDERS)
def test_rooms_are_in_layers(folder: str) -> None:
    arrows = graph({name: path.read_text(encoding="utf-8") for name, path in modules().items()})
    found = list(layers(rooms(arrows, f"asgi_wasm.{folder}")))
    print("\n" + drawn(found))
    assert found


def test_a_circle_of_rooms_is_noticed() -> None:
    sources = {"p": "", "p.a": "", "p.a.x": "import p.b.y", "p.a.z": "", "p.b": "", "p.b.y": "import p.a.z"}
    assert len(list(layers(graph(sources)))) == 3
    with pytest.raises(CycleError, match="cycle"):
        list(layers(rooms(graph(sources), "p")))


@pytest.mark.parametrize(
    "back",
    [
        "import p.low",
        "from p import low",
        "from p.low import x",
        "def f():\n    import p.low",
        "if T:\n    from p import low",
    ],
)
def test_circles_are_noticed(back: str) -> None:
    with pytest.raises(CycleError, match="cycle"):
        list(layers(graph({"p": "", "p.high": back, "p.low": "from p.high import y"})))


def test_layers_go_from_low_to_high() -> None:
    sources = {"p": "", "p.low": "", "p.high": "from p.low import x", "p.top": "from p import high, low"}
    assert list(layers(graph(sources))) == [["p", "p.low"], ["p.high"], ["p.top"]]


if __name__ == "__main__":
    print(drawn(own_layers()))
