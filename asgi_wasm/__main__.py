"""``python -m asgi_wasm compile [SETTINGS]``: fill the cache of compiled code, as when an image is built."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from asgi_wasm import settings
from asgi_wasm.errors import AsgiWasmError
from asgi_wasm.logs import escape
from asgi_wasm.worker.loading import compile_all


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 1 if some plugin is not in the cache afterwards."""
    parser = argparse.ArgumentParser(prog="python -m asgi_wasm")
    commands = parser.add_subparsers(dest="command", required=True)
    compile_ = commands.add_parser("compile", help="compile every plugin of the settings into cache_dir")
    compile_.add_argument("settings", nargs="?", help="a settings file; else they are found as the middleware does")
    chosen = parser.parse_args(arguments)
    try:
        reports = compile_all(settings.load(chosen.settings))
    except AsgiWasmError as error:
        print(escape(str(error)), file=sys.stderr)
        return 1
    for report in reports:
        print(report.sentence, file=sys.stdout if report.kept else sys.stderr)
    return 0 if all(report.kept for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
