"""`asgi-wasm bench`: figures that hang together; none is compared with a fixed time."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.running import PLUGINS, run, run_alone


def test_what_it_measures(tmp_path: Path) -> None:
    arguments = ("-d", "body", "-H", "x-a: 1", "--conf", '{"http_status": 418}', "--json")
    costs = json.loads(run_alone("bench", "asgi_wasm:fault_injection", "/x", *arguments, cwd=tmp_path).out)
    assert costs["status"] == 418
    assert costs["with_plugin_microseconds"] > costs["bare_microseconds"] > 0
    assert costs["compile_milliseconds"] > 0 and costs["start_milliseconds"] > 0
    assert costs["memory_after"] >= costs["memory_at_start"] > 0
    counts = {call["name"]: call["per_request"] for call in costs["calls"]}
    assert counts["on_request_headers"] == counts["send_local_response"] == counts["on_log"] == 1


def test_for_people(tmp_path: Path) -> None:
    done = run("bench", PLUGINS / "headers" / "c.wasm", cwd=tmp_path)
    assert done.status == 0
    assert "more than the bare app's" in done.out
    assert "  get_header_map_value" in done.out


def test_a_plugin_that_does_not_start(tmp_path: Path) -> None:
    done = run("bench", "asgi_wasm:fault_injection", "--conf", "x", cwd=tmp_path)
    assert done.status == 1
    assert "conf is not JSON" in done.err and done.err.count("\n") == 1
    assert "is no plugin of this package" in run("bench", "asgi_wasm:other", cwd=tmp_path).err
