"""What somebody is told who made a mistake."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm import SettingsError
from asgi_wasm.settings import load

WAF = {"name": "waf", "file": "waf.wasm"}


def mistake(**arguments: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**arguments)
    assert caught.value.__cause__ is None
    return str(caught.value)
