"""The command ``asgi-wasm``, which is also ``python -m asgi_wasm``.

`compile` needs nothing but asgi-wasm itself, so that an image can fill its cache; everything else needs the extra
``cli`` (typer and rich), and says so in a sentence where it is not installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from asgi_wasm.errors import AsgiWasmError
from asgi_wasm.logs import escape

__all__ = ["main"]

_EXTRA = "asgi-wasm: the command needs typer and rich: pip install 'asgi-wasm[cli]' ('asgi-wasm compile' does without)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for what it found wrong, 2 for a wrong command line."""
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    try:
        if find_spec("typer") is None or find_spec("rich") is None:
            return _without_extra(given)
        from asgi_wasm.cli.app import run_command

        return run_command(given)
    except AsgiWasmError as error:
        if "--json" in given:
            # A program reads standard output, and is to find JSON there whatever happened.
            print(json.dumps({"error": str(error)}, indent=2, ensure_ascii=False))
        for line in str(error).splitlines():
            print(escape(line), file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has what it wanted.
        sys.stderr.close()
        return 1


def _without_extra(given: Sequence[str]) -> int:
    if given[:1] == ["compile"] and len(given) <= 2 and "--help" not in given:
        from asgi_wasm.cli.compiling import compile_settings

        return compile_settings(given[1] if len(given) == 2 else None)
    print(_EXTRA, file=sys.stderr)
    return 1
