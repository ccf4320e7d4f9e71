"""Starting, sharing and ending VMs and contexts: `host.vm.vm`, `host.vm.lifecycle`, `host.plugin`."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.engines.base import Export, FuncType, Module
from asgi_wasm.engines.null import NullEngine, declare
from asgi_wasm.errors import EngineError, PluginError, PluginLoadError, PluginStartError
from asgi_wasm.host.abi import MARKERS, AbiVersion, ProxyStatus
from asgi_wasm.host.effects import SetTickPeriod
from asgi_wasm.host.plugin import BrokenPlugin, Code, Filter, Plugin, VmPool, abi_version
from asgi_wasm.host.vm import delivery
from asgi_wasm.host.vm.contexts import VmFailedError
from asgi_wasm.limits import PluginLimits
from asgi_wasm.specs import FailurePolicy
from tests.host.guest import V010, V020, V021, Callback, Calls, Exchange, World, live, plugin, spec, vm_of

PAGE = 65536


def diary(heard: list[str], *names: str, answer: int = 1) -> dict[str, Callback]:
    """Callbacks that write down their name and arguments."""

    def note(name: str) -> Callback:
        def callback(_calls: Calls, *numbers: int) -> int:
            heard.append(f"{name}{numbers}")
            return answer

        return callback

    return {f"proxy_{name}": note(name) for name in names}


# --- versions


@pytest.mark.parametrize(("marker", "version"), MARKERS.items())
def test_the_marker_says_the_version(marker: str, version: AbiVersion) -> None:
    assert abi_version(_exporting(marker)) is version


def _exporting(*names: str) -> Module:
    return NullEngine({"g": lambda _host: {name: declare([])(lambda: None) for name in names}}).compile(b"null:g")


def test_several_markers_and_none() -> None:
    assert abi_version(_exporting("proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0")) is V020
    with pytest.raises(
        EngineError, match=r"it exports no proxy_abi_version_\* function; this host runs ABI 0.1.0, 0.2.0, 0.2.1"
    ):
        abi_version(_exporting("malloc"))
    with pytest.raises(
        EngineError, match=r"it declares proxy_abi_version_0_9_9; this host runs ABI 0.1.0, 0.2.0, 0.2.1$"
    ):
        abi_version(_exporting("proxy_abi_version_0_9_9"))


@pytest.mark.parametrize(("version", "numbers"), [(V010, (2, 7)), (V020, (2, 7, 1)), (V021, (2, 7, 1))])
def test_headers_callbacks_have_end_of_stream_since_0_2_0(version: AbiVersion, numbers: tuple[int, ...]) -> None:
    heard: list[str] = []
    world = World()
    Exchange(world, plugin(world, diary(heard, "on_request_headers"), version=version)).request()
    assert heard == [f"on_request_headers{numbers}"]


# --- entry points


def entries(*names: str) -> list[str]:
    heard: list[str] = []

    def entry(name: str, count: int) -> Callback:
        def call(_calls: Calls, *numbers: int) -> int:
            assert len(numbers) == count
            heard.append(f"{name}{numbers}")
            return 0

        return call

    def factory(host: Any) -> Any:
        calls = Calls(host)
        types = {"main": (["i32", "i32"], ["i32"]), "__main_void": ([], ["i32"])}
        exports = {}
        for name in names:
            params, results = types.get(name, ([], []))
            callback = entry(name, len(params))
            exports[name] = declare(params, results)(lambda *numbers, callback=callback: callback(calls, *numbers))
        return {**exports, "malloc": host.allocate, "proxy_abi_version_0_2_1": declare([])(lambda: None)}

    module = NullEngine({"g": factory}).compile(b"null:g")
    world = World()
    Plugin(spec(), Code(module, V021, ""), VmPool(world.ports)).root(b"")
    return heard


def test_entry_points() -> None:
    assert entries("_initialize") == ["_initialize()"]
    assert entries("_start") == ["_start()"]
    assert entries("_initialize", "_start") == ["_initialize()"]
    assert entries("_initialize", "main", "__main_void") == ["_initialize()", "main(0, 0)"]
    assert entries("_initialize", "__main_void") == ["_initialize()", "__main_void()"]
    assert entries("main") == []
    assert entries() == []


def refused(*exports: tuple[str, Any]) -> str:
    """Why a module with these exports (name, function) cannot be linked."""

    def factory(host: Any) -> Any:
        return {"malloc": host.allocate, **dict(exports)}

    module = NullEngine({"g": factory}).compile(b"null:g")
    with pytest.raises(PluginLoadError) as caught:
        Plugin(spec("p"), Code(module, V021, ""), VmPool(World().ports)).root(b"")
    return caught.value.problem


def test_exports_of_another_type() -> None:
    two = declare(["i32", "i32"])(lambda *_: None)
    assert refused(("_start", two)) == "its callback _start has type (i32, i32) -> (), but ABI 0.2.1 wants () -> ()"
    assert refused(("_initialize", lambda: None), ("_start", two)).startswith("its callback _initialize has type")
    initialize = ("_initialize", declare([])(lambda: None))
    assert "its callback main has type () -> ()" in refused(initialize, ("main", declare([])(lambda: None)))
    for name in ("proxy_on_log", "proxy_on_request_headers", "malloc"):
        assert f"its callback {name} has type (i32, i32) -> ()" in refused((name, two))


def test_an_export_that_is_no_function() -> None:
    made = plugin(World(), {})
    exports = dict(made.code.module.exports)
    exports["proxy_on_log"] = Export("proxy_on_log", "global")
    made.code.module.__dict__["exports"] = exports
    with pytest.raises(
        PluginLoadError, match=r"its export proxy_on_log is a global, but ABI 0.2.1 has a function there"
    ):
        made.root(b"")


def test_a_module_without_an_allocator() -> None:
    module = NullEngine({"g": lambda _host: {}}).compile(b"null:g")
    with pytest.raises(PluginLoadError, match="it exports neither malloc nor proxy_on_memory_allocate"):
        Plugin(spec(), Code(module, V021, ""), VmPool(World().ports)).root(b"")


def test_too_little_memory() -> None:
    with pytest.raises(PluginLoadError, match="needs 65536 bytes of memory and may have 1"):
        plugin(World(), {}, limits=PluginLimits(memory=1)).root(b"")


# --- starting a root context


def test_the_order_of_a_start_and_an_end() -> None:
    heard: list[str] = []
    names = ("on_context_create", "on_vm_start", "on_configure", "on_done", "on_delete")
    made = plugin(World(), diary(heard, *names), vm_conf=b"vm")
    made.root(b"conf")
    made.root(b"conf")
    assert heard == ["on_context_create(1, 0)", "on_vm_start(1, 2)", "on_configure(1, 4)"]
    # Another configuration is another root context of the same VM: on_vm_start is called for each.
    made.root(b"other")
    assert heard[3:] == ["on_context_create(2, 0)", "on_vm_start(2, 2)", "on_configure(2, 5)"]
    made.stop()
    made.stop()
    assert heard[6:] == ["on_done(1,)", "on_delete(1,)", "on_done(2,)", "on_delete(2,)"]


@pytest.mark.parametrize("phase", ["on_vm_start", "on_configure"])
def test_a_plugin_that_refuses(phase: str) -> None:
    def refuse(calls: Calls, *_: int) -> int:
        calls("proxy_set_tick_period_milliseconds", 5)
        for number in range(7):
            calls("proxy_log", 4, b"because %d" % number)
        return 0

    world, heard = World(), list[str]()
    pool = VmPool(world.ports)
    made = plugin(world, {f"proxy_{phase}": refuse, **diary(heard, "on_tick")}, pool=pool)
    with pytest.raises(PluginStartError) as caught:
        made.root(b"")
    words = " | ".join(f"because {number}" for number in range(2, 7))
    assert str(caught.value) == f"plugin 'guest' (guest.wasm): {phase} answered false; its last words: {words}"
    assert (caught.value.plugin, caught.value.file) == ("guest", "guest.wasm")
    # The VM lives on, for others; what was asked for on behalf of this root is forgotten.
    vm = pool.vm(made.spec, made.code)
    assert vm.failure is None
    vm.perform()
    assert world.effects == []
    assert vm.contexts == {}


@pytest.mark.parametrize(
    "phase", ["_initialize", "_start", "proxy_on_context_create", "proxy_on_vm_start", "proxy_on_configure"]
)
def test_a_plugin_that_traps_while_it_starts(phase: str) -> None:
    attempts: list[int] = []

    def trap(_calls: Calls, *_: int) -> int:
        attempts.append(1)
        raise ZeroDivisionError("at start")

    made = plugin(World(), {phase: trap})
    for _ in range(2):
        with pytest.raises(PluginStartError, match="ZeroDivisionError: at start"):
            made.root(b"")
    # The second attempt had a VM of its own.
    assert len(attempts) == 2


def test_a_module_whose_start_section_traps() -> None:
    def factory(host: Any) -> Any:
        if host._functions:
            host.memory.read(1 << 40, 1)
        return {"malloc": host.allocate}

    engine = NullEngine({"g": factory}, plugin(World(), {}).code.module.imports)
    module = engine.compile(b"null:g")
    made = Plugin(spec(), Code(module, V021, ""), VmPool(World().ports))
    # The null engine's exports are found by running the factory without host functions.
    assert "malloc" in module.exports
    with pytest.raises(PluginLoadError, match="guest trap"):
        made.root(b"")


def test_the_tick_period_is_set_after_the_start() -> None:
    def configure(calls: Calls, *_: int) -> int:
        calls("proxy_set_tick_period_milliseconds", 7)
        return 1

    world = World()
    root = plugin(world, {"proxy_on_configure": configure}).root(b"")
    assert world.effects == [SetTickPeriod(root, 7)]


# --- notifications


def test_a_trap_in_a_notification_fails_the_vm_and_says_so() -> None:
    def tick(_calls: Calls, _root: int) -> None:
        raise KeyError("tick")

    world = World()
    made = plugin(world, {"proxy_on_tick": tick})
    root = made.root(b"")
    root.notify("proxy_on_tick")
    assert root.vm.failure == "guest trap: KeyError: 'tick'"
    assert world.log.hosts[0][2] == "its VM failed in proxy_on_tick: guest trap: KeyError: 'tick'"
    root.notify("proxy_on_tick")
    assert len(world.log.hosts) == 1
    with pytest.raises(VmFailedError):
        root.vm.call(root, lambda: 0)


def test_a_notification_that_nobody_takes() -> None:
    heard: list[str] = []
    made = plugin(World(), diary(heard, "on_tick"))
    root = made.root(b"")
    root.notify("proxy_on_queue_ready", 1)
    made.stop()
    root.notify("proxy_on_tick")
    assert heard == []


def test_callout_answers_are_readable_only_then() -> None:
    heard: list[str] = []
    root = plugin(World(), diary(heard, "on_http_call_response")).root(b"")
    delivery.deliver_http_failure(root, 4)
    assert heard == ["on_http_call_response(1, 4, 0, 0, 0)"]
    assert (root.maps, root.buffers) == ({}, {})


# --- streams


def test_the_life_of_a_stream() -> None:
    heard: list[str] = []
    names = ("on_context_create", "on_request_headers", "on_log", "on_done", "on_delete")
    world = World()
    made = plugin(world, diary(heard, *names, answer=0))
    exchange = Exchange(world, made, conf=b"")
    exchange.request()
    exchange.chain.finish()
    exchange.chain.finish()
    # Envoy's order; the answer of on_done is not looked at.
    assert heard[1:] == [
        *["on_context_create(2, 1)", "on_request_headers(2, 7, 1)"],
        *["on_log(2,)", "on_done(2,)", "on_delete(2,)"],
    ]


def test_ids_are_never_used_again() -> None:
    created: list[int] = []
    world = World()
    made = plugin(world, {"proxy_on_context_create": lambda _calls, context, _parent: created.append(context)})
    for _ in range(20):
        exchange = Exchange(world, made)
        exchange.request()
        exchange.chain.finish()
    made.root(b"another")
    assert created == list(range(1, 23))


@pytest.mark.parametrize("phase", ["proxy_on_log", "proxy_on_done", "proxy_on_delete", "proxy_on_context_create"])
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_a_trap_at_one_stream_ends_the_pause_of_another(phase: str, policy: str) -> None:
    def trap(_calls: Calls, context: int, *_: int) -> int:
        if context == 3:
            raise RuntimeError("third context")
        return 1

    world = World()
    given: dict[str, Callback] = {
        "proxy_on_request_headers": lambda _calls, context, *_: int(context == 2),
        phase: trap,
    }
    made = plugin(world, given, failure_policy=FailurePolicy(policy))
    paused, other = Exchange(world, made), Exchange(world, made)
    paused.request()
    assert paused.app.events == []
    other.request()
    other.respond()
    other.chain.finish()
    assert made.code.version is V021 and "third context" in str(world.log.hosts)
    if policy == "fail_closed":
        assert paused.client.status == b"503"
    else:
        assert [event[0] for event in paused.app.events] == ["headers"]


def test_a_trap_while_another_root_starts_ends_pauses_too() -> None:
    def configure(_calls: Calls, root: int, *_: int) -> int:
        if root == 3:
            raise RuntimeError("second root")
        return 1

    world = World()
    made = plugin(world, {"proxy_on_configure": configure, "proxy_on_request_headers": lambda *_: 1})
    paused = Exchange(world, made)
    paused.request()
    with pytest.raises(PluginStartError):
        made.root(b"second")
    assert paused.client.status == b"503"


def test_a_trap_while_a_root_is_stopped() -> None:
    def done(_calls: Calls, _context: int) -> int:
        raise RuntimeError("at the end")

    world, heard = World(), list[str]()
    made = plugin(world, {"proxy_on_done": done, **diary(heard, "on_delete")})
    made.root(b"")
    made.stop()
    made.stop()
    assert heard == []
    level, line = world.log.hosts[0][1:]
    assert (level, line.startswith("its VM failed while it was stopped, which touches no request: ")) == (3, True)


# --- VMs


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
