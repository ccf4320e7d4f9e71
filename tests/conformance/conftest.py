"""Both hosts, once for all cases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cases import Case
from tests.conformance.cases_plugins import CHAINS
from tests.conformance.differences import unexplained
from tests.conformance.hosts import both
from tests.conformance.runner import Runner
from tests.conformance.upstream import upstream


@pytest.fixture(scope="session")
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Runs the cases that were selected, beside each other, while the tests wait for theirs."""
    selected = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    # Nothing listens on port 1.
    with upstream() as port, both(CHAINS, {"auth": port, "nowhere": 1}) as hosts:
        cases = [case for case in selected if isinstance(case, Case)]
        running = Runner(hosts, cases, lambda case_id, compared: not unexplained(case_id, compared))
        yield running
        running.close()
