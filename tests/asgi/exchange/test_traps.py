"""Traps in each phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.testing import Hostcalls
from tests.driving import answering, request
from tests.guests import CONTINUE, Guest, Serve


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body", "log"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
async def test_trap_in_each_phase(serve_guests: Serve, phase: str, policy: str) -> None:
    def trap(api: Hostcalls, *_: int) -> int:
        if armed:
            armed.pop()
            raise GuestTrap("on purpose")
        return CONTINUE

    armed = [True]

    app = answering(b"app", headers=[(b"content-length", b"3")])
    guest = Guest(**{f"on_{phase}": trap})
    async with serve_guests(app, guest, traps=True, entries=[{"failure_policy": policy}]) as middleware:
        response = await request(middleware, "POST", body=[b"abc"])
        served = policy == "fail_open" or phase == "log"
        assert (response.status, response.body) == ((200, b"app") if served else (503, b""))
        # The next request gets a fresh VM.
        assert (await request(middleware, "POST", body=[b"abc"])).body == b"app"


@pytest.mark.parametrize("phase", ["on_request_headers", "on_response_headers", "on_log"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
async def test_no_fresh_vm_within_a_request(serve_guests: Serve, tmp_path: Path, phase: str, policy: str) -> None:
    """Two plugins in one VM: the first traps, and the second hears nothing more of that request, in whatever VM."""
    calls: list[str] = []

    def trapping(api: Hostcalls, context: int, *_: int) -> int:
        calls.append(phase)
        if calls.count(phase) == 1:
            raise GuestTrap("the first one")
        return CONTINUE

    def on_configure(api: Hostcalls, root: int, size: int) -> int:
        calls.append("start")
        return 1

    guest = Guest(on_configure=on_configure, **{phase: trapping})
    entries = [{"failure_policy": policy}, {"failure_policy": policy, "file": tmp_path / "g0.wasm"}]
    async with serve_guests(answering(b"app"), guest, entries=entries, traps=True) as middleware:
        response = await request(middleware)
        fails = policy == "fail_closed" and phase != "on_log"
        assert response.status == (503 if fails else 200)
        assert calls == ["start", "start", phase]
        # The next request has both again.
        assert (await request(middleware)).status == 200
        assert sorted(calls[3:]) == sorted(["start", phase] * 2)
