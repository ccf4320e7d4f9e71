"""The calls that callbacks of one VM ask for: the numbers under which they are answered, and how many they are."""

from __future__ import annotations

from asgi_wasm.host.abi import CalloutType


class Calls:
    """``count`` and ``size`` (bytes) are those of the callback that runs, which limits bound (`host.limits`)."""

    __slots__ = ("_last_function_id", "_last_tokens", "count", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._last_tokens: dict[CalloutType, int] = {kind: int(kind) for kind in CalloutType}
        self._last_function_id = 0

    def next_token(self, kind: CalloutType) -> int:
        """4, 8, … for HTTP calls, 5, 9, … and 6, 10, … for gRPC's: the low two bits are the kind."""
        self._last_tokens[kind] += 4
        return self._last_tokens[kind]

    def next_function_id(self) -> int:
        """Under which an asynchronous foreign function will answer; a number that this VM has not used before."""
        self._last_function_id += 1
        return self._last_function_id

    def clear(self) -> None:
        """The callback is over."""
        self.count = self.size = 0
