"""Plugins written in Python for a test: what each callback does, without a compiler.

    def block(host: Hostcalls, context_id: int, num_headers: int, end_of_stream: int) -> int:
        host.send_local_response(403, b"no")
        return Action.PAUSE

    plugin = wasm_plugin(Guest(on_request_headers=block))

They run by `engines.null`, through the same host as any plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from asgi_wasm.engines.base import GuestFunction, Import
from asgi_wasm.engines.null import GuestTrap, NullHost, NullModule, declare
from asgi_wasm.host.abi import MARKERS, AbiVersion
from asgi_wasm.host.signatures import Signature, callbacks, hostcalls
from asgi_wasm.testing.guests.hostcalls import Hostcalls

# Gets the guest's hostcalls, and then what the ABI gives.
Callback = Callable[..., Any]


class Action(IntEnum):
    """`proxy_action_t`: what callbacks of a stream return."""

    CONTINUE = 0
    PAUSE = 1


class Guest:
    """A plugin: its callbacks, each by its name without ``proxy_``, as arguments or as methods of a subclass.

    A callback gets the `Hostcalls` of its VM, then the arguments of the ABI. What it gives back is what the ABI says:
    an `Action`, and True of one that starts or ends something; nothing is 0. It exports no callback but these.

    What a callback raises traps; `GuestTrap` is for a trap that the test wants, and anything else is kept in
    ``errors``: the fixtures raise it in the test. One guest may be several plugins, and several VMs.
    """

    def __init__(self, abi_version: AbiVersion = AbiVersion.V0_2_1, /, **given: Callback) -> None:
        """Raises TypeError for a callback that this version of the ABI has not."""
        self.abi_version = abi_version
        self._rows = {name.removeprefix("proxy_"): row for name, row in callbacks(abi_version).items()}
        unknown = given.keys() - self._rows.keys()
        if unknown:
            raise TypeError(f"ABI {abi_version} has no callback {min(unknown)!r}: it has {', '.join(self._rows)}")
        own = {name: getattr(self, name) for name in self._rows if hasattr(self, name)}
        self.callbacks: dict[str, Callback] = {**own, **given}
        self.errors: list[Exception] = []

    # --- what an engine sees

    @property
    def imports(self) -> Sequence[Import]:
        """Every hostcall of its version."""
        return [Import("env", row.name, "func", row.type) for row in hostcalls(self.abi_version)]

    def module(self, name: str = "guest") -> NullModule:
        """As an engine compiles it; for tests of a VM without a middleware."""
        return NullModule(name, self, self.imports)

    def hostcalls(self, host: NullHost) -> Hostcalls:
        """What the callbacks of one VM get. A subclass may give more."""
        return Hostcalls(host)

    def __call__(self, host: NullHost) -> Mapping[str, GuestFunction]:
        """A VM's exports: a `asgi_wasm.engines.null.GuestFactory`."""
        calls = self.hostcalls(host)
        marker = next(name for name, version in MARKERS.items() if version is self.abi_version)
        exports: dict[str, GuestFunction] = {marker: declare([])(_never)}
        for name, callback in self.callbacks.items():
            exports[self._rows[name].name] = self.export(self._rows[name], callback, calls)
        if not {"malloc", "proxy_on_memory_allocate"} & exports.keys():
            exports["malloc"] = host.allocate
        return exports

    def export(self, row: Signature, callback: Callback, calls: Hostcalls) -> GuestFunction:
        """A callback as the host calls it."""

        @declare(row.type.params, row.type.results)
        def exported(*arguments: int) -> int:
            try:
                return int(callback(calls, *arguments) or 0)
            except GuestTrap:
                raise
            except Exception as error:
                self.errors.append(error)
                raise

        return exported


def _never() -> None:
    """Declares the ABI version; never called."""
