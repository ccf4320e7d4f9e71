"""The pytest plugin: fixtures for one plugin and for several, each with its twin, and their trace in a failed test.

    async def test_blocks(wasm_plugin):
        plugin = wasm_plugin("waf.wasm", conf={"block": ["/admin"]})
        assert (await plugin.get("/admin")).status == 403

Nothing of the host is imported before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from asgi_wasm.testing.plugin import SyncWasmHost, SyncWasmPlugin, WasmHost, WasmPlugin

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
    # One for the whole session: a Go plugin takes seconds to compile.
    defaults = {"engine": request.config.getoption("--wasm-engine"), "cache_dir": temporary.getbasetemp() / "compiled"}

    def make(*given: Any, **options: Any) -> Any:
        plugin = kind(*given, **{**defaults, **options})
        plugins.append(plugin)
        return plugin

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what each plugin did beside what the test says."""
    report = yield
    if report.failed and report.when == "call":
        for plugin in item.stash.get(_PLUGINS, []):
            report.sections.append((plugin.title, plugin.trace or "it was not started"))
    return report
