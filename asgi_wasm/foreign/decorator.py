"""Python for plugins: `foreign_function`, and what `WasmMiddleware` makes of such functions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from asgi_wasm.errors import SettingsError
from asgi_wasm.foreign.python import asynchronous, synchronous
from asgi_wasm.host.vm.vm import ForeignFunction

# Bytes in, bytes (or None for none) out, at once or awaited.
PythonFunction = Callable[..., "bytes | Awaitable[bytes | None] | None"]
PythonFunctions = Mapping[str, PythonFunction] | Iterable[PythonFunction]

_MARK = "_asgi_wasm_name"
_Function = TypeVar("_Function", bound=PythonFunction)


def foreign_function(name: str) -> Callable[[_Function], _Function]:
    """Name a Python function that plugins may call by `proxy_call_foreign_function`; it stays usable as it is.

    It gets the argument bytes. A plain function answers at once, and holds everything while it runs. An ``async def``
    runs as a task: the plugin gets a function id (four bytes, little endian), and later the answer by
    `proxy_on_foreign_function`, if it has that callback. `ForeignFunctionError` answers another status than OK; any
    other exception is INTERNAL_FAILURE and a line in the log. Hand it to ``WasmMiddleware(foreign_functions=[…])``.
    """
    if not isinstance(name, str):
        raise TypeError('give the name that plugins call: @foreign_function("name")')

    def mark(function: _Function) -> _Function:
        setattr(function, _MARK, name)
        return function

    return mark


def collect(functions: PythonFunctions) -> dict[str, ForeignFunction]:
    """By name, from decorated functions or from a mapping. Raises `SettingsError`."""
    if isinstance(functions, Mapping):
        named: list[tuple[Any, Any]] = list(functions.items())
    else:
        named = [(getattr(function, _MARK, None), function) for function in functions]
    found: dict[str, ForeignFunction] = {}
    for index, (name, function) in enumerate(named):
        if not callable(function):
            raise SettingsError(f"argument foreign_functions: {function!r} is no function")
        if not isinstance(name, str):
            raise SettingsError(
                f"argument foreign_functions[{index}]: {function!r} has no name: "
                'decorate it with @foreign_function("name"), or give a mapping of names'
            )
        if name in found:
            raise SettingsError(f"argument foreign_functions: {name!r} is there twice: give each a name of its own")
        found[name] = asynchronous(name, function) if _is_async(function) else synchronous(name, function)
    return found


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
