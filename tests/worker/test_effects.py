"""Whatever a plugin can ask for is carried out by somebody: no effect is without its row."""

from __future__ import annotations

import pytest

from asgi_wasm.host import effects
from asgi_wasm.host.effects import GrpcEffect, RootEffect, StreamEffect
from asgi_wasm.host.ports import Effect
from asgi_wasm.host.streams.filter_chain import APPLIED_BY
from asgi_wasm.services.callouts.grpc.calls import STARTED_BY
from asgi_wasm.specs import HostSpec
from asgi_wasm.worker.shared import Shared
from asgi_wasm.worker.worker import Worker
from tests.driving import answering


def kinds(base: type[Effect]) -> set[type[Effect]]:
    """The effects of this kind: what is derived from by others is none itself."""
    found = {each for each in vars(effects).values() if isinstance(each, type) and issubclass(each, base)}
    return {each for each in found if not any(other is not each and issubclass(other, each) for other in found)}


def test_a_chain_and_grpc_calls_carry_out_all_that_is_theirs() -> None:
    assert kinds(StreamEffect) == set(APPLIED_BY)
    assert kinds(GrpcEffect) == set(STARTED_BY)


async def test_a_worker_carries_out_whatever_a_root_context_asks_for() -> None:
    worker = Worker(answering(), HostSpec(), {}, Shared())
    try:
        assert kinds(RootEffect) == set(worker._carriers)
    finally:
        await worker.stop()


def test_an_effect_says_where_it_goes() -> None:
    with pytest.raises(NotImplementedError):
        Effect().perform()
    assert all("perform" in vars(base) for base in (StreamEffect, RootEffect, effects.DeleteRoot))
