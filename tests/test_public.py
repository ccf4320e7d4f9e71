"""What `import asgi_wasm` offers."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import asgi_wasm


def test_all_is_sorted_and_documented() -> None:
    assert asgi_wasm.__all__ == sorted(asgi_wasm.__all__)
    for name in asgi_wasm.__all__:
        assert getattr(asgi_wasm, name).__doc__, name


def test_nothing_public_is_left_out() -> None:
    public = {
        name
        for name, value in vars(asgi_wasm).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(asgi_wasm.__all__)


def test_import_starts_nothing() -> None:
    """No engine is loaded and no setting read before the first worker starts."""
    script = "import sys, asgi_wasm; asgi_wasm.WasmMiddleware(None); print({'wasmtime', 'wasmer'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "set()"
