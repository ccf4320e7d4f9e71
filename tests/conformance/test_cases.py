"""Every case on both hosts, and the tables about them in `asgi_wasm/host/ENVOY.md`."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.conformance import test_plugins
from tests.conformance.cases import Case
from tests.conformance.cases_plugins import CASES, CHAINS, sdk
from tests.conformance.comparing import Compared, differences
from tests.conformance.differences import DIFFERENCES, covering, unexplained
from tests.conformance.runner import Runner
from tests.papers.blocks import ENVOY, check_block, table


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_both_hosts_are_alike(case: Case, runner: Runner) -> None:
    compared = runner.compared(case)
    assert not unexplained(case.id, compared), "\n" + differences(compared)


def test_metrics_are_alike(runner: Runner) -> None:
    # Those of the chain whose requests are all alike.
    envoy, here = runner.metrics(["counting.requests", "counting.in_flight", "counting.path_length"])
    assert here == envoy


def test_every_listed_difference_is_of_some_case() -> None:
    patterns = [pattern for item in DIFFERENCES for cover in item.covers for pattern in cover.cases.split()]
    used = {pattern for case in CASES for cover in covering(case.id) for pattern in cover.cases.split()}
    assert set(patterns) == used
    assert all(hasattr(test_plugins, item.test) for item in DIFFERENCES if not item.covers)


def test_a_difference_that_is_gone_or_new_is_told() -> None:
    same = {"client.status": [404], "app.method": []}
    other = {"client.status": [200], "app.method": ["OPTIONS"]}
    listed = "body/options-star"
    assert unexplained(listed, Compared({"client.status": [404]}, {"client.status": [200]})) == []
    assert unexplained(listed, Compared(same, same)) == ["client.status", "app.method"]
    assert unexplained("body/get", Compared(same, other)) == ["client.status", "app.method"]
    # A listed difference may say what the other value is.
    envoy = {"app.headers": [[("content-length", "0")]]}
    assert unexplained("body/options", Compared(envoy, {"app.headers": [[]]})) == []
    assert unexplained("body/options", Compared(envoy, {"app.headers": [[("content-length", "1")]]})) == ["app.headers"]


def test_table_of_differences() -> None:
    rows = [[item.what, item.envoy, item.here, item.why] for item in DIFFERENCES]
    check_block(ENVOY, "differences", table(["what", "Envoy", "asgi-wasm", "why"], rows))


def test_table_of_sdks(runner: Runner) -> None:
    if not all(runner.ran(case) for case in CASES):
        pytest.skip("the table is made from all cases, and only some were selected")
    sdks = {chain.name: {sdk(plugin) for plugin in chain.plugins} - {""} for chain in CHAINS}
    cells: defaultdict[str, dict[str, bool]] = defaultdict(dict)
    for case in CASES:
        fine = not unexplained(case.id, runner.compared(case))
        for name in sdks[case.chain]:
            cells[name][case.shows] = cells[name].get(case.shows, True) and fine
    columns = list(dict.fromkeys(case.shows for case in CASES))
    marks = {True: "✓", False: "✗", None: ""}
    rows = [[name, *(marks[cells[name].get(column)] for column in columns)] for name in sorted(cells)]
    check_block(ENVOY, "plugins", table(["made with", *columns], rows))
