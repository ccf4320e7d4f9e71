"""Every exception that asgi-wasm raises, in one tree.

* AsgiWasmError
    * SettingsError             a mistake in the settings; names the source and the key
    * MissingExtraError         an optional dependency is not installed; names the extra
    * EventLoopError            too many event loops, or a plugin was called outside of its own
    * EngineError               blame: the Wasm engine, or what was asked of it
        * EngineUnavailableError    the chosen engine does not run on this Python
        * InvalidModuleError        the bytes are not a core module that the engine accepts
        * LinkError                 the module's imports cannot be satisfied
        * TrapError                 the guest trapped; ``__cause__`` is a host function's exception, if any
        * MemoryAccessError         an address range lies outside the guest's memory
    * FetchError                a plugin's file cannot be had from where its name says
    * ForeignFunctionError      raised by a foreign function, to answer another status than OK
    * PluginError               blame: one plugin; carries ``plugin`` and ``file``
        * PluginLoadError           the file cannot be made into a running VM
        * PluginStartError          ``on_vm_start`` or ``on_configure`` failed, or trapped
        * PluginAwayError           it failed a moment ago, and is not started again yet

Each message is one sentence for the person who can mend it: what was wrong, where it was set, what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Characters of a sentence that quotes a plugin or an upstream.
_MOST_SAID = 2000


def shorten(text: str) -> str:
    """A sentence that quotes names and reasons of whatever length, cut where nobody would read on."""
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}... ({len(text)} characters in all)"


class AsgiWasmError(Exception):
    """Raised, through a subclass, for everything that asgi-wasm reports itself."""


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with the settings. ``file`` is None for the environment, `.env` and arguments.

    ``key`` is empty, and ``line`` told if it is known, where the file cannot be parsed.
    """

    source: str
    key: str
    problem: str
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.source, self.key, self.problem)))


class SettingsError(AsgiWasmError):
    """Raised when a setting is wrong, before any plugin runs.

    ``mistakes`` are all that were found at once; it is empty where a source could not be read at all.
    """

    def __init__(self, message: str, mistakes: tuple[Mistake, ...] = ()) -> None:
        super().__init__(message)
        self.mistakes = mistakes


class MissingExtraError(AsgiWasmError):
    """Raised when a setting asks for something whose optional dependency is not installed."""


def one_line(error: Exception) -> str:
    """The message where only one line is shown: mistakes of the settings, one a line else, stand behind each other."""
    return "; ".join(str(error).splitlines())


class EventLoopError(AsgiWasmError):
    """Raised when a plugin would be entered outside of its event loop, or started for one too many, or for none."""


class EngineError(AsgiWasmError):
    """Raised, through a subclass, for everything that a Wasm engine refuses. Names in it are the module's own."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shorten(message))


class EngineUnavailableError(EngineError):
    """Raised when the chosen engine cannot run here."""


class InvalidModuleError(EngineError):
    """Raised when bytes are not a core WebAssembly module."""


class LinkError(EngineError):
    """Raised when a module cannot be instantiated with the host functions it was given."""


class TrapError(EngineError):
    """Raised when a guest call ends in a trap; the instance must not be called again."""


class MemoryAccessError(EngineError):
    """Raised when a read or write leaves the guest's linear memory."""


class FetchError(AsgiWasmError):
    """Raised when a plugin's file cannot be fetched, or is another one than was meant.

    The sentence's subject is the file; `PluginLoadError`, which it becomes, names it.
    """


class ForeignFunctionError(AsgiWasmError):
    """To be raised by a foreign function that wants to answer another status than OK.

    ``status`` is a `ProxyStatus`; what is none counts as INTERNAL_FAILURE. Plugins of the Rust SDK take NOT_FOUND,
    BAD_ARGUMENT, SERIALIZATION_FAILURE and INTERNAL_FAILURE, and abort on any other. ``message`` is for the plugin, and
    reaches it from an asynchronous function only.
    """

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or f"status {int(status)}")
        self.status = status
        self.message = message


class PluginError(AsgiWasmError):
    """Raised, through a subclass, when one plugin cannot do its work.

    ``plugin`` is the plugin's name in the settings and ``file`` its path, as configured.
    """

    def __init__(self, plugin: str, file: str, problem: str) -> None:
        super().__init__(f"plugin {plugin!r} ({file}): {problem}")
        self.plugin = plugin
        self.file = file
        self.problem = problem


class PluginLoadError(PluginError):
    """Raised when a plugin's file cannot be read, compiled, linked or instantiated."""


class PluginStartError(PluginError):
    """Raised when a plugin's VM came up but the plugin refused to start."""


class PluginAwayError(PluginError):
    """Raised when a plugin that failed is not to be started again yet."""
