"""Says once that a store cannot answer, and once that it can again."""

from __future__ import annotations

import time

from asgi_wasm.logs import get_logger

logger = get_logger("asgi_wasm.host")


class Outage:
    """Whether a store is out of order, and the two log lines about it.

    ``quiet_seconds`` must have passed since the last failure before a success counts as the end: a store that now
    answers and now fails would fill the log otherwise.
    """

    def __init__(self, label: str, quiet_seconds: float = 0.0) -> None:
        self._label = label
        self._quiet_seconds = quiet_seconds
        self._failed_at: float | None = None

    @property
    def lasts(self) -> bool:
        """Whether it has begun and not ended. From any thread."""
        return self._failed_at is not None

    def begin(self, reason: object) -> None:
        """To be called at each failure."""
        if self._failed_at is None:
            text = " ".join(str(reason).split()) or type(reason).__name__
            logger.error("shared_data %s does not answer (%s): hostcalls get INTERNAL_FAILURE", self._label, text)
        self._failed_at = time.monotonic()

    def end(self) -> None:
        """To be called at each success."""
        if self._failed_at is not None and time.monotonic() - self._failed_at >= self._quiet_seconds:
            self._failed_at = None
            logger.warning("shared_data %s answers again", self._label)
