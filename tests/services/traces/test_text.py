"""Calls as text."""

from __future__ import annotations

import pytest

from asgi_wasm.host.vm.trace import Call, Value
from asgi_wasm.services.traces.text import arguments


def written(name: str, numbers: dict[str, int], **given: Value) -> str:
    return arguments(Call(name, False, "p", 2, None, 1, (*numbers.items(),), given))


@pytest.mark.parametrize(("offset", "shown"), [(1, "1"), (2**64 - 1, "-1"), (-1, "-1"), (2**63, str(-(2**63)))])
def test_what_a_counter_goes_down_by(offset: int, shown: str) -> None:
    assert written("proxy_increment_metric", {"metric_id": 4, "offset": offset}) == f"metric_id=4, offset={shown}"


@pytest.mark.parametrize(("status", "shown"), [(2**32 - 1, "-1"), (7, "7")])
def test_a_reply_without_grpc(status: int, shown: str) -> None:
    assert written("proxy_send_local_response", {"grpc_status": status}) == f"grpc_status={shown}"


def test_the_path_of_a_property_has_dots() -> None:
    numbers = {"path_data": 8, "path_size": 11}
    assert written("proxy_get_property", numbers, path=b"request\0url") == "path=request.url"
    # Of nothing else: that is a path of files.
    assert written("proxy_other", numbers, path=b"a\0b") == r"path=a\x00b"
