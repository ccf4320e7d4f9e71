"""The threads on which engines' libraries compile: made at the first compilation, and in no forked child.

A child that is forked later has the library's word that they are there, and would wait for them for ever: under
`gunicorn --preload` after a request in the parent, or in `multiprocessing` by fork.
"""

from __future__ import annotations

import os
from typing import ClassVar

from asgi_wasm.errors import EngineError


class CompilerThreads:
    """Which process has those of a library."""

    # As the libraries themselves have it: once for a process.
    _made_by: ClassVar[dict[str, int]] = {}

    @classmethod
    def are_here(cls, library: str) -> bool:
        """Whether this process may compile on them; from now on they are its own, if they were nobody's."""
        return cls._made_by.setdefault(library, os.getpid()) == os.getpid()

    @classmethod
    def require(cls, library: str) -> None:
        """Raise `EngineError` where a compilation would never end."""
        if not cls.are_here(library):
            raise EngineError(
                f"{library} has compiled in the process that this one was forked from, and cannot in a forked one:"
                " start the child anew (multiprocessing's spawn), or use another engine"
            )
