"""What `import asgi_wasm` offers."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import asgi_wasm
from asgi_wasm import testing


@pytest.mark.parametrize("package", [asgi_wasm, testing], ids=["asgi_wasm", "testing"])
def test_all_is_sorted_documented_and_found(package: ModuleType) -> None:
    assert package.__all__ == sorted(package.__all__)
    assert set(package._PLACES) == set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
        assert name in dir(package)
    with pytest.raises(AttributeError, match="has no attribute 'WasmMidleware'"):
        package.WasmMidleware  # noqa: B018  # a misspelling


@pytest.mark.parametrize("package", [asgi_wasm, testing], ids=["asgi_wasm", "testing"])
def test_nothing_public_is_left_out(package: ModuleType) -> None:
    """Nor does anything else that the package's own code needs look public."""
    public = {
        name for name, value in vars(package).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public <= set(package.__all__)


def test_pytest_waits_for_nothing_where_no_plugin_is_tested() -> None:
    """Its entry point is imported wherever the package is installed."""
    script = "import sys, asgi_wasm.testing.pytest_plugin; print({'asyncio', 'httpx', 'pydantic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "set()"


def test_import_starts_nothing() -> None:
    """No engine is loaded and no setting read before the first worker starts."""
    script = "import sys, asgi_wasm; asgi_wasm.WasmMiddleware(None); print({'wasmtime', 'wasmer'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "set()"
