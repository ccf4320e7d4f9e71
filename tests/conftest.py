"""Leaves out the files whose packages this Python does not have, and says so at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.extras import why_not
from tests.serving import let_ports_go

# For `make test-quick`; a test that says how many it wants gets them.
settings.register_profile("quick", max_examples=10)

pytest_plugins = ["asgi_wasm.testing.pytest_plugin"]

# Files that import a package of an extra, which has no wheel for every Python.
_NEED = {
    "cryptography": (
        "conformance",
        "services/metrics/test_host_metrics.py",
        "foreign/test_foreign_functions.py",
        "plugins/test_grpc_auth.py",
        "plugins/test_grpc_probe.py",
        "plugins/test_grpc_tls.py",
        "plugins/test_http_auth.py",
        "plugins/test_http_calls.py",
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


@pytest.fixture(autouse=True)
def _ports_are_held_for_a_test() -> Iterator[None]:
    yield
    let_ports_go()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was left out, and why."""
    for file, reason in _left_out.items():
        terminalreporter.write_line(f"NOT RUN tests/{file}: {reason}")
