"""Plugins that live, and what they were told."""

from __future__ import annotations

from asgi_wasm.testing.guests.guests import Callback
from tests.host.guest import Calls


def diary(heard: list[str], *names: str, answer: int = 1) -> dict[str, Callback]:
    """Callbacks that write down their name and arguments."""

    def note(name: str) -> Callback:
        def callback(_calls: Calls, *numbers: int) -> int:
            heard.append(f"{name}{numbers}")
            return answer

        return callback

    return {f"proxy_{name}": note(name) for name in names}
