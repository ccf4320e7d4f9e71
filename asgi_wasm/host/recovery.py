"""When a plugin whose VM failed may be started again.

Followed for `fail_reload`: Envoy `source/extensions/common/wasm/wasm.cc` (`maybeReloadHandleIfNeeded`) and
`JitteredLowerBoundBackOffStrategy`: not before the last start is one interval ago, and up to half of one more. There,
plugins of other policies never start again; here they do, at once as long as that helps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.errors import PluginAwayError
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.host.ports import LogOrigin
from asgi_wasm.specs import FailurePolicy

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Ports
    from asgi_wasm.specs import PluginSpec

_SECOND = 1_000_000_000
# Starts in a row that come at once: what failed by chance does not fail again.
_AT_ONCE = 3
# Nanoseconds. The longest time between two starts, and how long a VM must have lived for its failures to be forgotten.
_LONGEST = 60 * _SECOND
# Instead, where a store had refused one of its hostcalls less than so long ago: the fault is not the plugin's, and the
# store is asked again as often.
_LONGEST_REFUSED = 5 * _SECOND
_REFUSED = _SECOND


class Recovery:
    """The failures and starts of one root context and of those that take its place."""

    def __init__(self, spec: PluginSpec, ports: Ports) -> None:
        self._spec = spec
        self._ports = ports
        self._interval = int(spec.reload_interval * _SECOND)
        self._started = 0
        # Those that count for the back-off.
        self._in_a_row = 0
        # The present failure is known, and when it may end.
        self._failed = False
        self._next_try = 0
        self._away = False
        self._told_refused = False
        # All of them, and why the last one came.
        self.failures = 0
        self.last_failure = ""

    def starts(self) -> None:
        """It is started now, whatever comes of that."""
        self._started = self._ports.clock.monotonic()
        self._failed = False
        self._set_away(False)

    def failed(self, reason: str, refused_at: int = 0) -> None:
        """It failed just now; a port refused it something at ``refused_at``. Nothing more until it `starts` again."""
        if self._failed:
            return
        now = self._ports.clock.monotonic()
        self._failed = True
        self.failures += 1
        self.last_failure = reason
        if now - self._started > _LONGEST:
            self._told_refused = False
        was_refused = refused_at and now - refused_at < _REFUSED
        self._next_try = self._when(now, _LONGEST_REFUSED if was_refused else _LONGEST)
        if now < self._next_try:
            self._set_away(True)
            # While a store is away that may be every few seconds for hours, and the store says so itself.
            if not (was_refused and self._told_refused):
                told, origin = self._told((self._next_try - now) / _SECOND), LogOrigin(self._spec.vm_id)
                self._ports.log.host(self._spec.name, LogLevel.WARN, told, origin)
            self._told_refused = bool(was_refused)

    def seconds_left(self) -> float:
        """Until it may be started again; 0 when it may be now."""
        return max(0.0, (self._next_try - self._ports.clock.monotonic()) / _SECOND) if self._failed else 0.0

    def check(self) -> None:
        """To be called before a new start. Raises `PluginAwayError` when that would be too early."""
        seconds = self.seconds_left()
        if seconds:
            raise PluginAwayError(
                self._spec.name, self._spec.shown_file, f"it failed, and is started again in {seconds:.1f} s"
            )

    def _told(self, seconds: float) -> str:
        again = f"it is started again in {seconds:.1f} s"
        if self._spec.service:
            return again
        return f"{again} at the earliest; until then its requests get {self._spec.failure_policy.value}"

    def _when(self, now: int, longest: int) -> int:
        if self._spec.failure_policy is FailurePolicy.FAIL_RELOAD:
            return self._started + self._jittered(self._interval)
        if now - self._started > _LONGEST:
            self._in_a_row = 0
        self._in_a_row += 1
        doubled = self._in_a_row - _AT_ONCE - 1
        if doubled < 0:
            return now
        return now + min(self._jittered(self._interval << min(doubled, 32)), longest)

    def _jittered(self, interval: int) -> int:
        return interval + int.from_bytes(self._ports.random(8), "big") % max(interval // 2, 1)

    def _set_away(self, away: bool) -> None:
        if away is not self._away:
            self._away = away
            self._ports.host_metrics.plugin_away(self._spec.name, away)
