from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.engines.base import FuncType, Import
from asgi_wasm.errors import PluginLoadError, PluginStartError
from asgi_wasm.host.abi import AbiVersion, LogLevel, ProxyStatus
from asgi_wasm.host.signatures import HOSTCALLS
from asgi_wasm.specs import FailurePolicy
from asgi_wasm.testing.guests.guests import Callback
from tests.host.fed import Exchange
from tests.host.guest import (
    INTERNAL_FAILURE,
    OK,
    V010,
    V020,
    V021,
    Calls,
    env_imports,
    in_phase,
    live,
    plugin,
    start,
    vm_of,
)
from tests.host.world import World

I32 = FuncType(("i32",), ("i32",))


# --- unknown imports


@pytest.mark.parametrize(
    ("module", "name", "version"),
    [
        ("env", "proxy_redis_init", V021),
        ("env", "proxy_get_log_level", V020),
        ("env", "proxy_get_configuration", V021),
        ("env", "proxy_continue_stream", V010),
        ("vendor", "proxy_log", V021),
    ],
)
def test_an_unknown_import_is_a_stub_and_one_warning(module: str, name: str, version: AbiVersion) -> None:
    world, answers = World(), list[int]()

    def configure(calls: Calls, *_: int) -> int:
        answers.extend(calls.host.call(module, name, 1) for _ in range(3))
        return 1

    imports = [Import(module, name, "func", I32)]
    start(world, {"proxy_on_configure": configure}, imports=imports, version=version, name="vendors")
    assert answers == [ProxyStatus.UNIMPLEMENTED] * 3
    ((who, level, line),) = world.log.hosts
    assert (who, level) == ("vendors", LogLevel.WARN)
    assert line.startswith(f"imports {module}.{name} (i32) -> (i32), which ABI {version} does not have")


@pytest.mark.parametrize(("results", "answer"), [((), 0), (("i64",), 12), (("f64",), 0)])
def test_a_stub_has_the_type_that_is_asked_for(results: tuple[str, ...], answer: int) -> None:
    answers: list[int] = []

    def configure(calls: Calls, *_: int) -> int:
        answers.append(calls.host.call("env", "vendor"))
        return 1

    imports = [Import("env", "vendor", "func", FuncType((), results))]
    start(World(), {"proxy_on_configure": configure}, imports=imports)
    assert answers == [answer]


# --- types


@pytest.mark.parametrize("row", HOSTCALLS, ids=lambda row: row.name)
def test_a_hostcall_of_another_type_is_refused(row: Any) -> None:
    wrong = FuncType((*row.type.params, "i32"), row.type.results)
    made = plugin(World(), {}, imports=[Import("env", row.name, "func", wrong)], version=row.until)
    with pytest.raises(PluginLoadError) as caught:
        made.root(b"")
    message = f"it imports {row.name} with type {wrong}, but ABI {row.until} has {row.type}"
    assert str(caught.value) == f"plugin 'guest' (guest.wasm): {message}"


@pytest.mark.parametrize(("name", "count"), [("proxy_grpc_call", 10), ("proxy_grpc_stream", 7)])
def test_the_short_grpc_types_of_the_old_assemblyscript_sdk(name: str, count: int) -> None:
    answers: list[int] = []

    def configure(calls: Calls, *_: int) -> int:
        answers.append(calls.raw(name, *calls.host.store(b"nobody"), *[0] * (count - 2)))
        return 1

    imports = [Import("env", name, "func", FuncType(("i32",) * count, ("i32",)))]
    start(World(), {"proxy_on_configure": configure}, imports=imports)
    assert answers == [ProxyStatus.PARSE_FAILURE]


@pytest.mark.parametrize("kind", ["memory", "table", "global"])
def test_only_functions_can_be_imported(kind: str) -> None:
    made = plugin(World(), {}, imports=[Import("env", "thing", kind)])
    with pytest.raises(PluginLoadError, match=f"import env.thing is a {kind}, but only functions can be given"):
        made.root(b"")


@pytest.mark.parametrize("kind", ["memory", "func"])
def test_what_a_module_names_is_quoted_in_short(kind: str) -> None:
    type_ = FuncType((), ("i32", "i32")) if kind == "func" else None
    made = plugin(World(), {}, imports=[Import("env", "n" * 90_000, kind, type_)])
    with pytest.raises(PluginLoadError, match=r"import env\.nnnn") as caught:
        made.root(b"")
    assert len(str(caught.value)) < 2100


# --- capabilities

CALLBACKS = (
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_http_call_response",
    *(f"proxy_on_{way}_{part}" for way in ("request", "response") for part in ("headers", "body", "trailers")),
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
)


def recording(heard: list[str], name: str) -> Any:
    def callback(_calls: Calls, *_: int) -> int:
        heard.append(name)
        return int(name in ("proxy_on_vm_start", "proxy_on_configure", "proxy_on_done"))

    return callback


@pytest.mark.parametrize("denied", CALLBACKS)
def test_a_denied_callback_is_not_called(denied: str) -> None:
    heard: list[str] = []
    world = World()
    allowed = frozenset(CALLBACKS) - {denied}
    given = {name: recording(heard, name) for name in CALLBACKS}
    exchange = live(world, plugin(world, given, allowed_capabilities=allowed))
    assert set(heard) == allowed
    assert (exchange.app.body, exchange.client.body) == (b"request body", b"response body")


def test_without_a_restriction_all_are_called() -> None:
    heard: list[str] = []
    world = World()
    live(world, plugin(world, {name: recording(heard, name) for name in CALLBACKS}))
    assert set(heard) == set(CALLBACKS)


def test_a_denied_hostcall_fails_and_does_nothing() -> None:
    def act(calls: Calls) -> Any:
        before = bytes(calls.memory.data)
        statuses = {
            row.name: calls.raw(row.name, *[0] * len(row.params))
            for row in HOSTCALLS
            if row.known_to(V021) and row.name not in ("proxy_log", "pthread_equal", "emscripten_notify_memory_growth")
        }
        assert bytes(calls.memory.data) == before
        return statuses, calls("proxy_log", 2, b"allowed")

    world = World()
    statuses, allowed = in_phase(
        "proxy_on_tick", act, world=world, allowed_capabilities=frozenset({"proxy_on_tick", "proxy_log"})
    )
    assert set(statuses.values()) == {INTERNAL_FAILURE}
    assert allowed == (OK,)
    assert world.effects == []


def test_the_allocator_and_the_entry_point_are_never_denied() -> None:
    answers: list[Any] = []

    def configure(calls: Calls, *_: int) -> int:
        answers.append(calls("proxy_get_property", b"plugin_name"))
        return 1

    world = World()
    allowed = frozenset({"proxy_on_configure", "proxy_get_property"})
    given: dict[str, Callback] = {
        "_initialize": lambda _calls: answers.append("started"),
        "proxy_on_configure": configure,
    }
    start(world, given, allowed_capabilities=allowed)
    assert answers == ["started", (OK, b"guest")]


# --- env.abort


def aborting(*numbers: int) -> str:
    """Why the VM failed that was aborted with these numbers."""

    def begin(calls: Calls) -> None:
        for offset, encoded in ((64, "no ü"), (128, "a.ts")):
            data = encoded.encode("utf-16-le")
            calls.memory.write(offset - 4, len(data).to_bytes(4, "little") + data)
        calls.host.call("env", "abort", *numbers)
        raise AssertionError("abort came back")

    imports = [Import("env", "abort", "func", FuncType(("i32",) * len(numbers)))]
    with pytest.raises(PluginStartError) as caught:
        plugin(World(), {"_start": begin}, imports=imports).root(b"")
    return str(caught.value)


def test_abort_is_a_trap_with_assemblyscripts_reason() -> None:
    assert "abort: no ü at a.ts:7:9" in aborting(64, 128, 7, 9)
    assert "abort: unknown at unknown:7:9" in aborting(0, 3, 7, 9)
    assert aborting(0xFFFF_0000, 128, 7, 9).endswith("GuestAbortError: abort")
    assert "abort: unknown at unknown:0:0" in aborting()


def test_abort_shows_no_more_than_some_text() -> None:
    # The marker bytes before address 1000 are a size of gigabytes.
    assert len(aborting(1000, 0, 1, 1)) < 2300


# --- failures inside hostcalls


def test_an_allocator_that_fails_is_invalid_memory() -> None:
    def act(calls: Calls) -> Any:
        return calls.raw("proxy_get_property", *calls.host.store(b"plugin_name"), 64, 68)

    for malloc in (lambda _calls, _size: 0, lambda _calls, _size: 0xFFFF_FFF0):
        assert in_phase("proxy_on_tick", act, others={"malloc": malloc}) == ProxyStatus.INVALID_MEMORY_ACCESS


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_an_allocator_that_traps_ends_the_whole_call(policy: str) -> None:
    reached: list[str] = []

    def malloc(calls: Calls, size: int) -> int:
        raise MemoryError("no more")

    def headers(calls: Calls, *_: int) -> int:
        calls.raw("proxy_get_property", *calls.host.store(b"plugin_name"), 64, 68)
        reached.append("after the hostcall")
        return 0

    world = World()
    given: dict[str, Callback] = {"malloc": malloc, "proxy_on_request_headers": headers}
    made = plugin(world, given, failure_policy=FailurePolicy(policy))
    exchange = Exchange(world, made)
    exchange.request()
    assert reached == []
    assert (exchange.client.status == b"503") is (policy == "fail_closed")
    assert (exchange.app.events != []) is (policy == "fail_open")
    assert "MemoryError: no more" in world.log.hosts[0][2]


@pytest.mark.parametrize("first", ["malloc", "proxy_on_memory_allocate"])
def test_malloc_is_preferred(first: str) -> None:
    used: list[tuple[str, int]] = []

    def allocator(name: str) -> Any:
        def allocate(calls: Calls, size: int) -> int:
            used.append((name, size))
            return calls.host.allocate(size)

        return allocate

    names = {"malloc", "proxy_on_memory_allocate"} if first == "malloc" else {first}
    in_phase(
        "proxy_on_tick",
        lambda calls: calls("proxy_get_property", b"plugin_name"),
        others={name: allocator(name) for name in names},
    )
    # Once, and of exactly the value's size: the Rust SDK frees it as such.
    assert used == [(first, len(b"guest"))]


def test_a_port_that_raises_is_an_internal_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def broken(*_: object) -> bool:
        raise OSError("disk full")

    monkeypatch.setattr(world.ports.shared_data, "set", broken)
    answer = in_phase("proxy_on_tick", lambda calls: calls("proxy_set_shared_data", b"k", b"v", 0), world=world)
    assert answer == (INTERNAL_FAILURE,)
    assert world.log.hosts == [("guest", LogLevel.ERROR, "proxy_set_shared_data failed: OSError: disk full")]


def test_every_version_links_all_that_it_knows() -> None:
    for version in AbiVersion:
        world = World()
        vm_of(plugin(world, {}, version=version, imports=env_imports(version)))
        assert world.log.hosts == []
