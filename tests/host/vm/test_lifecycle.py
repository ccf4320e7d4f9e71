"""Starting and ending root contexts, and what they are told: `host.vm.lifecycle`, `host.plugin`."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.engines.base import Export, Module
from asgi_wasm.engines.null import NullEngine, declare
from asgi_wasm.errors import EngineError, PluginLoadError, PluginStartError, TrapError
from asgi_wasm.host.abi import MARKERS, AbiVersion
from asgi_wasm.host.effects import SetTickPeriod
from asgi_wasm.host.plugin import Code, Plugin, VmPool, abi_version
from asgi_wasm.host.vm import delivery
from asgi_wasm.host.vm.contexts import VmFailedError
from asgi_wasm.limits import PluginLimits
from asgi_wasm.testing.guests.guests import Callback
from tests.host.fed import Exchange
from tests.host.guest import V010, V020, V021, Calls, plugin, spec
from tests.host.vm.living import diary
from tests.host.world import World

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


def test_a_program_is_told_what_to_be_built_as() -> None:
    def fails(_: Calls) -> None:
        raise TrapError("unreachable")

    with pytest.raises(PluginStartError, match="it is built as a program, whose _start ends: build a library"):
        plugin(World(), {"_start": fails}).root(b"")
    with pytest.raises(PluginStartError, match=r"its entry point failed: [^;]*$"):
        plugin(World(), {"_initialize": fails}).root(b"")


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
    key = {"on_vm_start": "vm_conf", "on_configure": "conf"}[phase]
    refused = f"it refused to start without a {key} ({phase} answered false)"
    assert str(caught.value) == f"plugin 'guest' (guest.wasm): {refused}; its last words: {words}"
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
