"""Where the host counts what it does itself, as a port: what plugins count is `host.ports.Metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asgi_wasm.engines.base import Instance
    from asgi_wasm.specs import PluginSpec


class RunningVm(Protocol):
    """A VM as whoever counts sees it."""

    spec: PluginSpec
    failure: str | None
    instance: Instance


class HostMetrics(Protocol):
    """Where the host counts what it does itself; times are in seconds. No method may raise."""

    @property
    def enabled(self) -> bool:
        """False when nobody counts: then callbacks are not watched at all."""
        ...

    def timer(self, plugin: str, callback: str) -> Callable[[float], object]:
        """What is to be called with the seconds that each run of this callback took. To be kept: asking is slow."""
        ...

    def decision(self, plugin: str, callback: str, action: str) -> Callable[[], object]:
        """What is to be called each time that the plugin decides this (of `host.vm.watching.ACTIONS`). To be kept."""
        ...

    def request_ended(self, answered_by: str) -> None:
        """A request has passed its plugins; it was answered by the "app", a "plugin", the "host" or "nobody"."""
        ...

    def plugin_started(self, plugin: str, sha256: str) -> None:
        """A plugin runs, made from the file with this digest, until all of this ends."""
        ...

    def reload_ended(self, outcome: str) -> None:
        """A reload of the settings is over: "done", or "refused", and all is as it was."""
        ...

    def vm_started(self, vm: RunningVm) -> None:
        """A VM is ready. It may be kept weakly, to ask it for the size of its memory."""
        ...

    def trapped(self, plugin: str) -> None:
        """A VM failed while it acted for this plugin."""
        ...

    def policy_applied(self, plugin: str, policy: str) -> None:
        """A request met a failed plugin and got this failure policy."""
        ...

    def observed(self, plugin: str, verdict: str) -> None:
        """A plugin in `mode: observe` would have done this to a request (`host.streams.observed`)."""
        ...

    def limit_reached(self, plugin: str, limit: str) -> None:
        """Something that a plugin asked for was refused or cut, because of this limit of its own."""
        ...

    def plugin_away(self, plugin: str, away: bool) -> None:
        """A root context of this plugin failed and waits for its next start, or waits no more."""
        ...

    def callout_ended(self, plugin: str, upstream: str, outcome: str, seconds: float) -> None:
        """A call is over after so many ``seconds``: "response", "timeout", "connection_failure" or "failure"."""
        ...


def _ignore(*_: float) -> None:
    """Count nothing."""


class NoHostMetrics:
    """`HostMetrics` that counts nothing."""

    enabled = False

    def timer(self, plugin: str, callback: str) -> Callable[[float], object]:
        """Nothing; not asked for, since callbacks are not watched."""
        return _ignore

    def decision(self, plugin: str, callback: str, action: str) -> Callable[[], object]:
        """Nothing; not asked for either."""
        return _ignore

    def request_ended(self, answered_by: str) -> None:
        """Nothing."""

    def plugin_started(self, plugin: str, sha256: str) -> None:
        """Nothing."""

    def reload_ended(self, outcome: str) -> None:
        """Nothing."""

    def vm_started(self, vm: RunningVm) -> None:
        """Nothing."""

    def trapped(self, plugin: str) -> None:
        """Nothing."""

    def policy_applied(self, plugin: str, policy: str) -> None:
        """Nothing."""

    def observed(self, plugin: str, verdict: str) -> None:
        """Nothing."""

    def limit_reached(self, plugin: str, limit: str) -> None:
        """Nothing."""

    def plugin_away(self, plugin: str, away: bool) -> None:
        """Nothing."""

    def callout_ended(self, plugin: str, upstream: str, outcome: str, seconds: float) -> None:
        """Nothing."""


NO_HOST_METRICS: HostMetrics = NoHostMetrics()
