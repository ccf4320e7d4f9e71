"""Leaves out the files whose packages this Python does not have, and says so at the end of the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import websockets
import websockets.sync.client
from hypothesis import HealthCheck, settings

from asgi_wasm.engines.base import TimeLimit
from asgi_wasm.host.ports import LogOrigin, Ports
from asgi_wasm.host.vm.slowness import time_limit
from asgi_wasm.limits import DEFAULT_CALLBACK_MS, DEFAULT_SLOW_CALLBACK_MS, PluginLimits
from tests.extras import why_not
from tests.serving import let_ports_go
from tests.waiting import SECONDS

# On hypothesis' own profile, which is another under CI: a busy machine says nothing of an example by being slow.
settings.register_profile("steady", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
# For `make test-quick`; a test that says how many it wants gets them.
settings.register_profile("quick", settings(), max_examples=10)

pytest_plugins = ["asgi_wasm.testing.pytest_plugin"]

# Files that import a package of an extra, which has no wheel for every Python.
_NEED = {
    "cryptography": (
        "conformance",
        "services/metrics/test_host_metrics.py",
        "foreign/test_envoy.py",
        "foreign/test_python.py",
        "foreign/test_python_async.py",
        "plugins/test_grpc_auth.py",
        "plugins/test_grpc_probe.py",
        "plugins/test_grpc_tls.py",
        "plugins/test_http_auth.py",
        "plugins/test_http_call_answers.py",
        "plugins/test_http_call_connections.py",
        "plugins/test_http_calls.py",
    ),
    "cel_expr_python": (
        "test_cel.py",
        "foreign/test_expressions.py",
        "worker/test_conditions.py",
        "conformance/test_probe.py",
    ),
    "grpc": (
        "conformance",
        "plugins/test_grpc_auth.py",
        "plugins/test_grpc_probe.py",
        "plugins/test_grpc_tls.py",
        "services/callouts/test_grpc_calls.py",
    ),
}

_left_out = {file: reason for module, files in _NEED.items() if (reason := why_not(module)) for file in files}
collect_ignore = list(_left_out)

# What a callback may take in a test that names no limit. Those of the settings are of a clock that goes on while a busy
# machine runs other processes: a plugin that was not slow would be told of, or stopped.
_PATIENT_MS = 20_000


@pytest.fixture(scope="session", autouse=True)
def _a_busy_machine_makes_no_plugin_slow() -> Iterator[None]:
    def patient(
        limits: PluginLimits, ports: Ports, plugin_name: Callable[[], str], origin: Callable[[], LogOrigin]
    ) -> TimeLimit:
        if limits.slow_callback_ms == DEFAULT_SLOW_CALLBACK_MS:
            limits = replace(limits, slow_callback_ms=0)
        if limits.callback_ms == DEFAULT_CALLBACK_MS:
            limits = replace(limits, callback_ms=_PATIENT_MS)
        return time_limit(limits, ports, plugin_name, origin)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asgi_wasm.host.vm.instantiation.time_limit", patient)
        yield


@pytest.fixture(scope="session", autouse=True)
def _a_busy_machine_makes_no_client_give_up() -> Iterator[None]:
    """What a test that names no time waits for an answer: httpx and websockets have some seconds each."""
    times = {"timeout": httpx.Timeout(SECONDS), "open_timeout": SECONDS, "ping_timeout": SECONDS}
    asking: list[Any] = [
        getattr(httpx, name) for name in ("request", "get", "post", "put", "head", "options", "delete")
    ]
    asking += [inspect.unwrap(httpx.stream), httpx.Client.__init__, httpx.AsyncClient.__init__]
    asking += [websockets.sync.client.connect, websockets.connect.__init__]
    with pytest.MonkeyPatch.context() as patch:
        for function in asking:
            for name in times.keys() & function.__kwdefaults__.keys():
                patch.setitem(function.__kwdefaults__, name, times[name])
        yield


@pytest.fixture(scope="session", autouse=True)
def _a_busy_machine_makes_no_store_one_that_is_away() -> Iterator[None]:
    """What a start waits for Redis before it goes on without, and a writer of LMDB for another."""
    with pytest.MonkeyPatch.context() as patch:
        if not why_not("redis"):
            patch.setattr("asgi_wasm.services.stores.redis.connections._START_SECONDS", SECONDS)
        patch.setattr("asgi_wasm.services.stores.lmdb.writer.PATIENCE_SECONDS", SECONDS)
        yield


@pytest.fixture
def anyio_backend() -> str:
    """What a test that is a coroutine runs on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _ports_are_held_for_a_test() -> Iterator[None]:
    yield
    let_ports_go()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was left out, and why."""
    for file, reason in _left_out.items():
        terminalreporter.write_line(f"NOT RUN tests/{file}: {reason}")
