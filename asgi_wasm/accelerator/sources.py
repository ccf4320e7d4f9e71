"""By what a build of the accelerator is known to be of these sources: a number that is compiled into it.

What C and Python ask of each other is in no signature that either could check, so one of other sources would fail in
the middle of a request. The build (`.ci/build_accelerator.py`) runs this file by its path, without the package.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from zlib import crc32

FILES = (
    *(
        "awaiting.c",
        "heads.c",
        "kernel.c",
        "kernel_type.c",
        "fields.c",
        "course.c",
        "course_type.c",
        "stream.c",
        "stream_end.c",
        "stream_type.c",
        "serve.c",
        "send.c",
        "sending.c",
        "hearing.c",
        "receive.c",
        "door.c",
        "ticker.c",
        "module.c",
    ),
    "accelerator.h",
    "parts.h",
)
_FOLDER = Path(__file__).parent
_LAYOUT = _FOLDER.parent / "host" / "resident" / "layout.h"


@cache
def number() -> int | None:
    """Of the sources as they lay here when it was first asked, 31 bits; None where an installation has not all of them.

    Not as they lie here now: a process that an upgrade finds at work goes on with what it has loaded.
    """
    found = 0
    try:
        for file in [*(_FOLDER / name for name in FILES), _LAYOUT]:
            # Windows may check them out with other ends of lines.
            found = crc32(file.read_bytes().replace(b"\r\n", b"\n"), found)
    except OSError:
        return None
    return found & 0x7FFFFFFF
