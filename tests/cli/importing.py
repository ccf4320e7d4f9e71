"""The command `asgi-wasm import`, whose output is read by the settings again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from asgi_wasm.settings import load
from tests.cli.running import run


def imported(folder: Path, text: str) -> tuple[dict[str, Any], str]:
    (folder / "given.yaml").write_text(text)
    done = run("import", "given.yaml", cwd=folder)
    assert done.status == 0, done.err
    settings = yaml.safe_load(done.out)
    # They are settings: nothing of them is refused.
    load(settings)
    return settings, done.err
