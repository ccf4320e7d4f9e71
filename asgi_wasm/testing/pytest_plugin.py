"""The pytest plugin: fixtures for one plugin and for several, each with its twin, and their trace in a failed test.

    async def test_blocks(wasm_plugin):
        plugin = wasm_plugin("waf.wasm", conf={"block": ["/admin"]})
        assert (await plugin.get("/admin")).status == 403

Nothing of the host is imported before a test asks for a fixture.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from asgi_wasm.testing.plugin import SyncWasmHost, SyncWasmPlugin, WasmHost, WasmPlugin

# Errors whose sentence says it all, by the module that has them.
_TOLD = {
    "errors": "AsgiWasmError",
    "testing.driving": "NotAnsweredError",
    "testing.patience": "NotSettledError",
    "testing.unexpected": "UnexpectedCallError",
}
# Those of one test.
_PLUGINS = pytest.StashKey[list[Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--wasm-engine``: run every plugin of the session by this engine."""
    parser.getgroup("asgi-wasm").addoption("--wasm-engine", default="auto", help="wasmtime (what auto means) or wasmer")


@pytest.fixture
def wasm_plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., WasmPlugin]:
    """``wasm_plugin("path.wasm", conf=…)``: a plugin in process (`asgi_wasm.testing.WasmPlugin`), for tests that are
    coroutines. It ends with the test's event loop.
    """
    from asgi_wasm.testing.plugin import WasmPlugin

    return _maker(request, tmp_path_factory, WasmPlugin)


@pytest.fixture
def sync_wasm_plugin(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Callable[..., SyncWasmPlugin], None, None]:
    """``sync_wasm_plugin("path.wasm", conf=…)``: the same for tests without asyncio."""
    from asgi_wasm.testing.plugin import SyncWasmPlugin

    yield _maker(request, tmp_path_factory, SyncWasmPlugin)
    _close(request)


@pytest.fixture
def wasm_host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., WasmHost]:
    """``wasm_host(settings)``: all plugins of some settings, or of a settings file (`asgi_wasm.testing.WasmHost`)."""
    from asgi_wasm.testing.plugin import WasmHost

    return _maker(request, tmp_path_factory, WasmHost)


@pytest.fixture
def sync_wasm_host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Callable[..., SyncWasmHost], None, None]:
    """``sync_wasm_host(settings)``: the same for tests without asyncio."""
    from asgi_wasm.testing.plugin import SyncWasmHost

    yield _maker(request, tmp_path_factory, SyncWasmHost)
    _close(request)


def _close(request: pytest.FixtureRequest) -> None:
    from asgi_wasm.testing.plugin import SyncWasmHost

    for made in request.node.stash.get(_PLUGINS, []):
        if isinstance(made, SyncWasmHost):
            made.close()


def _maker(request: pytest.FixtureRequest, temporary: pytest.TempPathFactory, kind: type[Any]) -> Callable[..., Any]:
    plugins: list[Any] = request.node.stash.setdefault(_PLUGINS, [])
    defaults = {"engine": request.config.getoption("--wasm-engine"), "cache_dir": _compiled(request, temporary)}

    def make(*given: Any, **options: Any) -> Any:
        plugin = kind(*given, **{**defaults, **options})
        plugins.append(plugin)
        return plugin

    return make


def _compiled(request: pytest.FixtureRequest, temporary: pytest.TempPathFactory) -> Path:
    """Where compiled code is kept: a Go plugin takes seconds, and has not changed with every run of the tests."""
    cache = getattr(request.config, "cache", None)
    # Below: the folder itself is pytest's, and may be written to by more people than the host allows.
    folder: Path = temporary.getbasetemp() if cache is None else cache.mkdir("asgi-wasm")
    return folder / "compiled"


def _cut(item: pytest.Item, raised: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave the host's and the event loop's functions out of what a failed test shows: the sentence says it all."""
    modules = [sys.modules.get(f"asgi_wasm.{name}") for name in _TOLD]
    if item.config.getoption("fulltrace") or not any(
        module is not None and isinstance(raised.value, getattr(module, kind, ()))
        for module, kind in zip(modules, _TOLD.values(), strict=True)
    ):
        return
    # Here: pytest imports this file wherever the package is installed.
    import asyncio

    ours = (str(Path(__file__).parents[1]), str(Path(asyncio.__file__).parent))
    way: list[TracebackType] = []
    step: TracebackType | None = raised.tb
    while step is not None:
        if not step.tb_frame.f_code.co_filename.startswith(ours):
            way.append(step)
        step = step.tb_next
    for each in reversed(way):
        step = TracebackType(step, each.tb_frame, each.tb_lasti, each.tb_lineno)
    if step is not None:
        raised.traceback = type(raised.traceback)(step)
        raised.value.__cause__, raised.value.__suppress_context__ = None, True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what each plugin did beside what the test says."""
    if call.excinfo is not None:
        _cut(item, call.excinfo)
    report = yield
    if report.failed and report.when == "call":
        for plugin in item.stash.get(_PLUGINS, []):
            report.sections.append((plugin.title, plugin.trace or "it was not started"))
    return report
