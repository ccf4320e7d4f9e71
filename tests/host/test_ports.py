"""Ports that cannot answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from asgi_wasm.engines.base import GuestFunction, Import
from asgi_wasm.engines.null import NullEngine, NullHost
from asgi_wasm.host.abi import AbiVersion, MetricType, ProxyStatus
from asgi_wasm.host.plugin import Code, Plugin, VmPool
from asgi_wasm.host.signatures import hostcalls
from asgi_wasm.services.stores.store import open_store
from asgi_wasm.settings.store_url import parse_store_url
from asgi_wasm.specs import PluginSpec
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

    def guest(host: NullHost) -> Mapping[str, GuestFunction]:
        def proxy_on_configure(context: int, size: int) -> int:
            host.call("env", "proxy_define_metric", MetricType.COUNTER, 0, 1, 16)
            statuses.update({name: host.call("env", name, *arguments) for name, arguments in CALLS.items()})
            return 1

        return {"proxy_on_configure": proxy_on_configure, "proxy_on_memory_allocate": host.allocate}

    rows = [row for row in hostcalls(AbiVersion.V0_2_1) if row.name in (*CALLS, "proxy_define_metric")]
    engine = NullEngine({"guest": guest}, [Import("env", row.name, "func", row.type) for row in rows])
    if LMDB_MISSING:
        pytest.skip(LMDB_MISSING)
    # It is not open.
    store = open_store(parse_store_url(f"lmdb://{tmp_path}/state"))
    code = Code(engine.compile(b"null:guest"), AbiVersion.V0_2_1, "")
    Plugin(PluginSpec("guest", Path("guest")), code, VmPool(ports_over(store))).root(b"")
    assert statuses == dict.fromkeys(CALLS, ProxyStatus.INTERNAL_FAILURE)
    assert caplog.records == []
