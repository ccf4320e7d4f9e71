"""Ports that cannot answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_wasm.host.abi import MetricType, ProxyStatus
from asgi_wasm.host.plugin import Code, Plugin, VmPool
from asgi_wasm.services.stores.store import open_store
from asgi_wasm.settings.store_url import parse_store_url
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing import Guest, Hostcalls
from tests.extras import LMDB_MISSING
from tests.services.stores.listening import ports_over

CALLS = {
    "proxy_get_shared_data": (0, 0, 16, 16, 16),
    "proxy_set_shared_data": (0, 0, 0, 0, 0),
    "proxy_register_shared_queue": (0, 0, 16),
    "proxy_resolve_shared_queue": (0, 0, 0, 0, 16),
    "proxy_enqueue_shared_queue": (1, 0, 0),
    "proxy_dequeue_shared_queue": (1, 16, 16),
    "proxy_record_metric": (4, 1),
}


def test_a_hostcall_whose_port_cannot_answer_fails_and_logs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    statuses: dict[str, int] = {}

    def on_configure(host: Hostcalls, *_: int) -> bool:
        host.raw("define_metric", MetricType.COUNTER, 0, 1, 16)
        statuses.update({name: host.raw(name, *arguments) for name, arguments in CALLS.items()})
        return True

    guest = Guest(on_configure=on_configure)
    if LMDB_MISSING:
        pytest.skip(LMDB_MISSING)
    # It is not open.
    store = open_store(parse_store_url(f"lmdb://{tmp_path}/state"))
    code = Code(guest.module(), guest.abi_version, "")
    Plugin(PluginSpec("guest", Path("guest")), code, VmPool(ports_over(store))).root(b"")
    assert statuses == dict.fromkeys(CALLS, ProxyStatus.INTERNAL_FAILURE)
    assert caplog.records == []
