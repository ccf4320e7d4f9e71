"""Whatever happened in a stream, nothing of it waits for the garbage collector: a body may have been large."""

from __future__ import annotations

import gc
import platform
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from tests.streams.plans import Plan, plans
from tests.streams.test_streams import PLUGINS, Stage, stage

__all__ = ["stage"]


# What each VM has one of, and replaces.
_OF_VMS = Counter({"Asked": PLUGINS})


def ours() -> Counter[str]:
    """How many objects there are of each of our types."""
    found = Counter(map(type, gc.get_objects())).items()
    return Counter({kind.__qualname__: count for kind, count in found if str(kind.__module__).startswith("asgi_wasm.")})


@pytest.mark.skipif(platform.python_implementation() == "PyPy", reason="PyPy counts no references")
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=plans())
def test_a_stream_is_freed_by_reference_counts_alone(stage: Stage, plan: Plan) -> None:
    # What a first stream makes for all that follow.
    stage.play(plan)
    gc.disable()
    # What there is already is not looked through again and again.
    gc.freeze()
    try:
        before = ours()
        stage.play(plan)
        left = ours() - before - _OF_VMS
    finally:
        gc.unfreeze()
        gc.enable()
    assert left == Counter(), f"left: {dict(left)}"
