"""Chains of guests, for tests."""

from __future__ import annotations

from asgi_wasm.testing.guests.guests import Callback
from tests.host.guest import STREAM_PHASES, Calls

WAYS = ("request", "response")
IN_STREAM = tuple(phase for phase in STREAM_PHASES if phase != "proxy_on_log")


def noting(heard: list[str], name: str, *phases: str, **answers: int) -> dict[str, Callback]:
    """Callbacks that write "name phase", and answer 0 or what ``answers`` says."""

    def note(phase: str) -> Callback:
        def callback(_calls: Calls, *_: int) -> int:
            heard.append(f"{name} {phase}")
            return answers.get(phase, 0)

        return callback

    return {f"proxy_on_{phase}": note(phase) for phase in phases}


PARTS = [f"{way}_{part}" for way in WAYS for part in ("headers", "body", "trailers")]
