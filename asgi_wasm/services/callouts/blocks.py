"""Large answers give their memory back to the system, where glibc would keep it."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from functools import cache

# From `malloc.h`.
_M_MMAP_THRESHOLD = -3
#: Bytes; glibc's own bound is 128 KiB, until it raises it.
LARGE = 1 << 20


@cache
def map_large_blocks() -> None:
    """Let glibc map a block of 1 MiB or more, and unmap it when it is freed; of the whole process. Never raises.

    Once such a block was freed, glibc takes those up to 32 MiB from its heap: fifteen answers of 31 MiB would stay
    there for as long as anything small lies behind them. ``MALLOC_MMAP_THRESHOLD_`` means the same. It is said once, at
    the first answer of that size: a process without them keeps glibc's way.
    """
    if platform.libc_ver()[0] == "glibc":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
