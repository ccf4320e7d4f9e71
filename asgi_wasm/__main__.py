"""``python -m asgi_wasm``: the command ``asgi-wasm``."""

from __future__ import annotations

import sys

from asgi_wasm.cli import main

if __name__ == "__main__":
    sys.exit(main())
