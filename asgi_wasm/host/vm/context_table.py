"""The contexts of one VM: their ids, the requests that are lent to its kernel, and whom a hostcall acts for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.ports import LimitReachedError
from asgi_wasm.host.resident.layout import LAST_ID

if TYPE_CHECKING:
    from asgi_wasm.host.ports import Ports
    from asgi_wasm.host.resident.lent import Lent
    from asgi_wasm.host.resident.resident import Resident
    from asgi_wasm.host.vm.contexts import Context, RootContext
    from asgi_wasm.specs import PluginSpec


class ContextTable:
    """What a VM is to hostcalls and to its kernel.

    It is the VM's base and not an object that the VM has: every callback goes through it.
    """

    def __init__(self, spec: PluginSpec, ports: Ports) -> None:
        self.spec = spec
        self.ports = ports
        self.contexts: dict[int, Context] = {}
        # What stands beside the instance, and the requests whose headers it is lent, by their stream contexts' ids.
        self.resident: Resident | None = None
        self.lent: dict[int, Lent] = {}
        # `layout.RESTRICTED`: only logging, clocks and WASI answer while the module starts or allocates.
        # `layout.LAST_ID`: of a context. A list of these, or the kernel's own window, so that there is one of each.
        self.flags: list[int] = [0, 0]
        # Whose callback runs, and whom the plugin has its hostcalls act for instead.
        self.current: Context | None = None
        self._effective: Context | None = None

    @property
    def context(self) -> Context | None:
        """Whom a hostcall acts for: the effective context while it lives, else the one whose callback runs."""
        if self._effective is not None:
            return self._effective
        if self.current is not None or self.resident is None:
            return self.current
        return self.resident.acting()

    def find_context(self, context_id: int) -> Context | None:
        """The context of this id; one that is lent is taken back."""
        if context_id in self.lent:
            if self.resident is not None:
                # Of the callback that runs, too: there is no other way to whom it acts for from here on.
                self.resident.recall()
            if context_id in self.lent:
                self.lent[context_id].recall()
        return self.contexts.get(context_id)

    def set_effective_context(self, context: Context | None) -> None:
        """Let the later hostcalls of this callback act for another context, or (None) for its own again."""
        if self.resident is not None:
            self.resident.recall()
        self._effective = context

    def leave(self) -> None:
        """A callback that the kernel called is over, and had been taken back."""
        self.current = self._effective = None

    def plugin_name(self) -> str:
        """Whom a hostcall acts for, as the log names it."""
        context = self.context
        return self.spec.name if context is None else context.root.spec.name

    def caller(self) -> str:
        """The plugin whose callback runs, whomever its hostcalls act for."""
        return (self.spec if self.current is None else self.current.root.spec).name

    def new_stream_id(self, plugin: str) -> int:
        """The id of one more stream context, of this plugin. Raises `LimitReachedError`."""
        if len(self.contexts) + len(self.lent) >= self.spec.limits.contexts:
            self.ports.host_metrics.limit_reached(plugin, "contexts")
            raise LimitReachedError("contexts", self.spec.limits.contexts)
        return self.next_context_id()

    def next_context_id(self) -> int:
        """A number that this VM has not used before (the Rust SDK panics on a repeated one)."""
        flags = self.flags
        flags[LAST_ID] = last = flags[LAST_ID] + 1
        return last

    def roots(self) -> list[RootContext]:
        """Its root contexts, oldest first."""
        return [context for context in self.contexts.values() if context.root is context]

    def recall_lent(self) -> None:
        """Let requests that kernels serve go on in Python: nothing of this VM may be entered by them any more."""
        for lent in list(self.lent.values()):
            lent.recall()
