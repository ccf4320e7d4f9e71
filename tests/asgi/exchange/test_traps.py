"""Traps in each phase."""

from __future__ import annotations

import pytest

from asgi_wasm.engines.null import GuestTrap
from tests.driving import answering, request, run
from tests.guests import (
    CONTINUE,
    Api,
    Guest,
    Serve,
)


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body", "log"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_trap_in_each_phase(serve_guests: Serve, phase: str, policy: str) -> None:
    def trap(api: Api, *_: int) -> int:
        if armed:
            armed.pop()
            raise GuestTrap("on purpose")
        return CONTINUE

    armed = [True]

    async def main() -> None:
        app = answering(b"app", headers=[(b"content-length", b"3")])
        guest = Guest(**{f"on_{phase}": trap})
        async with serve_guests(app, guest, traps=True, entries=[{"failure_policy": policy}]) as middleware:
            response = await request(middleware, "POST", body=[b"abc"])
            served = policy == "fail_open" or phase == "log"
            assert (response.status, response.body) == ((200, b"app") if served else (503, b""))
            # The next request gets a fresh VM.
            assert (await request(middleware, "POST", body=[b"abc"])).body == b"app"

    run(main)
