"""The system's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """`host.ports.Clock`."""

    def realtime(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic(self) -> int:
        """Nanoseconds; never zero."""
        return time.monotonic_ns() or 1
