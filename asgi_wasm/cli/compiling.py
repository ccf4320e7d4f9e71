"""``asgi-wasm compile``: fill the cache of compiled code, as when an image is built."""

from __future__ import annotations

import sys
from pathlib import Path

from asgi_wasm import settings
from asgi_wasm.worker.loading import compile_all


def compile_settings(path: str | Path | None) -> int:
    """Compile every plugin of the settings; 1 if some plugin is not in the cache afterwards. Raises `SettingsError`."""
    reports = compile_all(settings.load(path))
    for report in reports:
        print(report.sentence, file=sys.stdout if report.kept else sys.stderr)
    return 0 if all(report.kept for report in reports) else 1
