"""VMs"""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.engines.base import FuncType
from asgi_wasm.errors import EngineError, PluginError, PluginLoadError
from asgi_wasm.host.abi import AbiVersion, ProxyStatus
from asgi_wasm.host.plugin import BrokenPlugin, Filter, VmPool
from asgi_wasm.limits import PluginLimits
from asgi_wasm.specs import FailurePolicy
from tests.host.fed import Exchange
from tests.host.guest import Calls, live, plugin, spec, vm_of
from tests.host.vm.living import diary
from tests.host.world import World

PAGE = 65536


def test_who_shares_a_vm() -> None:
    world = World()
    pool = VmPool(world.ports)

    def vm(digest: str = "same", **changes: Any) -> Any:
        return vm_of(plugin(world, {}, pool=pool, digest=digest, **changes))

    first = vm()
    assert vm() is first
    assert vm(name="other", priority=3, root_id="r", conf=b"own") is first
    others = [
        vm(digest="other"),
        vm(vm_id="v"),
        vm(vm_conf=b"c"),
        vm(env=(("A", "1"),)),
        vm(allowed_capabilities=frozenset({"proxy_log"})),
        vm(limits=PluginLimits(memory=2 * PAGE)),
    ]
    assert len({id(each) for each in [first, *others]}) == 7
    pool.close()
    pool.close()
    assert first.failure == "the VM is closed"
    with pytest.raises(PluginLoadError, match="plugins have been stopped"):
        vm()


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_a_stream_that_waits_when_plugins_are_stopped(policy: str) -> None:
    """It would wait for its pause's timeout; and what comes next in the chain must not start anew."""
    world = World()
    pool = VmPool(world.ports)
    paused = plugin(world, {"proxy_on_request_headers": lambda *_: 1}, pool=pool, failure_policy=FailurePolicy(policy))
    last = plugin(world, {}, pool=pool, digest="last", failure_policy=FailurePolicy(policy))
    exchange = Exchange(world, paused, last)
    exchange.request()
    assert exchange.app.events == []
    pool.close()
    if policy == "fail_closed":
        assert exchange.client.status == b"503"
    else:
        assert [event[0] for event in exchange.app.events] == ["headers"]


def test_two_plugins_in_one_vm_hear_of_their_own_contexts() -> None:
    heard: list[str] = []
    world = World()
    pool = VmPool(world.ports)
    names = ("on_context_create", "on_request_headers")
    one, two = (plugin(world, diary(heard, *names, answer=0), pool=pool, digest="same", name=name) for name in "ab")
    exchange = Exchange(world, one, two)
    exchange.request()
    assert heard == [
        *["on_context_create(1, 0)", "on_context_create(2, 1)", "on_request_headers(2, 7, 1)"],
        *["on_context_create(3, 0)", "on_context_create(4, 3)", "on_request_headers(4, 7, 1)"],
    ]
    assert [root.spec.name for root in vm_of(one, b"conf").roots()] == ["a", "b"]


def test_a_fresh_vm_after_a_trap() -> None:
    heard: list[str] = []

    def headers(_calls: Calls, context: int, *_: int) -> int:
        heard.append(f"headers {context}")
        if len(heard) == 2:
            raise RuntimeError("once")
        return 0

    world = World()
    made = plugin(world, {**diary(heard, "on_configure"), "proxy_on_request_headers": headers})
    statuses = []
    for _ in range(3):
        exchange = Exchange(world, made)
        exchange.request()
        exchange.respond()
        exchange.chain.finish()
        statuses.append(exchange.client.status)
    assert statuses == [b"503", b"200", b"200"]
    assert heard == ["on_configure(1, 4)", "headers 2", "on_configure(1, 4)", "headers 2", "headers 3"]


def test_a_vm_that_failed_is_freed_when_another_takes_its_place() -> None:
    """Not when the garbage collector finds it: each has gigabytes of addresses."""
    world = World()
    made = plugin(world, {"proxy_on_request_headers": lambda *_: 1 // 0})
    vms = []
    for _ in range(3):
        exchange = Exchange(world, made)
        exchange.request()
        exchange.chain.finish()
        vms.append(vm_of(made))
    assert [vm.instance.function("malloc") is None for vm in vms] == [True, True, False]


def test_after_a_failure_nothing_of_the_vm_is_called() -> None:
    heard: list[str] = []

    def headers(_calls: Calls, *_: int) -> int:
        raise RuntimeError("dead")

    names = ("on_response_headers", "on_log", "on_done", "on_delete")
    world = World()
    made = plugin(world, {"proxy_on_request_headers": headers, **diary(heard, *names)})
    live(world, made)
    assert heard == []


# --- broken plugins


def test_a_broken_plugin_raises_what_loading_it_raised() -> None:
    error = PluginError("p", "p.wasm", "it is broken")
    broken = BrokenPlugin(spec("p"), error)
    with pytest.raises(PluginError) as caught:
        Filter(broken, b"").root()
    assert caught.value is error
    broken.stop()


def test_deleting_twice_is_deleting_once() -> None:
    heard: list[str] = []
    root = plugin(World(), diary(heard, "on_delete")).root(b"")
    root.vm.delete(root)
    root.vm.delete(root)
    assert heard == ["on_delete(1,)"]
    assert root.vm.contexts == {}


def test_an_effective_context_that_is_forgotten_is_none() -> None:
    vm = vm_of(plugin(World(), {}))
    root = vm.roots()[0]
    vm.set_effective_context(root)
    assert vm.context is root
    vm.forget(root)
    assert vm.context is None


def test_the_first_failure_is_the_one_that_is_told() -> None:
    vm = vm_of(plugin(World(), {}))
    vm.fail(EngineError("first"))
    vm.fail(EngineError("second"))
    assert vm.failure == "first"
    silent = vm_of(plugin(World(), {}))
    silent.fail(EngineError())
    assert silent.failure == "EngineError"


def test_a_hostcall_without_a_context_is_an_internal_failure() -> None:
    answers: list[int] = []

    def call(calls: Calls) -> None:
        answers.append(calls.raw("proxy_set_tick_period_milliseconds", 1))

    made = plugin(World(), {"own": call})
    vm = vm_of(made)
    function = vm.instance.function("own")
    assert function is not None
    vm.call(None, function)
    assert answers == [ProxyStatus.INTERNAL_FAILURE]


def test_a_function_type_is_readable() -> None:
    assert str(FuncType(("i32", "i64"), ("i32",))) == "(i32, i64) -> (i32)"
    assert [str(version) for version in AbiVersion] == ["0.1.0", "0.2.0", "0.2.1"]
