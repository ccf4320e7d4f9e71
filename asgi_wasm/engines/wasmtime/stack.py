"""The native stack that a guest may use, and whether the thread that enters it has that much.

Wasmtime counts from where the outermost guest was entered, and looks at no thread: on a smaller stack than that, a
guest's recursion ends the process.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from ctypes import byref, c_size_t, c_void_p

from asgi_wasm.errors import LinkError

# Bytes. Of the host, below the deepest guest (a hostcall with all that it calls) and above the first.
RESERVE = 256 * 1024
# `pthread_attr_t` is 56 bytes on glibc and less on musl.
_ATTRIBUTES = 256
# Of each thread, which has one stack all its life.
_known = threading.local()


def check_stack(limit: int) -> None:
    """Raise `LinkError` unless this thread's stack has room for a guest that may use ``limit`` bytes of it."""
    if not hasattr(_known, "size"):
        # Linux has to look the first thread's up among all that is mapped.
        _known.size = stack_size()
    size: int | None = _known.size
    if size is not None and size < limit + RESERVE:
        raise LinkError(
            f"this thread's stack has {size} bytes, and a plugin needs {limit + RESERVE}: give threads of event loops"
            " more (threading.stack_size, ulimit -s), or lower limits.stack"
        )


def stack_size() -> int | None:
    """Bytes of this thread's stack; None where the system does not tell."""
    try:
        if sys.platform == "linux":
            return _linux()
        if sys.platform == "darwin":
            library = ctypes.CDLL(None)
            library.pthread_self.restype = c_void_p
            library.pthread_get_stacksize_np.restype = c_size_t
            return int(library.pthread_get_stacksize_np(c_void_p(library.pthread_self())))
    except (AttributeError, OSError):
        pass
    return None


def _linux() -> int | None:
    library = ctypes.CDLL(None)
    library.pthread_self.restype = c_void_p
    attributes = ctypes.create_string_buffer(_ATTRIBUTES)
    if library.pthread_getattr_np(c_void_p(library.pthread_self()), attributes):
        return None
    address, size = c_void_p(), c_size_t()
    failed = library.pthread_attr_getstack(attributes, byref(address), byref(size))
    library.pthread_attr_destroy(attributes)
    return None if failed else size.value
