"""The system's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """The clocks of the machine (`host.ports.Clock`)."""

    # Nanoseconds since the Unix epoch. The builtin itself: some ask at every request.
    realtime = staticmethod(time.time_ns)

    def monotonic(self) -> int:
        """Nanoseconds; never zero."""
        return time.monotonic_ns() or 1
