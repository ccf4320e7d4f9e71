"""Plugins written in Python for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm import PluginStartError
from asgi_wasm.host.signatures import HOSTCALLS, hostcalls
from asgi_wasm.testing import (
    AbiVersion,
    Action,
    Guest,
    GuestTrap,
    HostcallRefusedError,
    Hostcalls,
    MapType,
    ProxyStatus,
    SyncWasmHost,
    SyncWasmPlugin,
)
from tests.cli.running import ROOT
from tests.plugins.conftest import PLUGINS

Make = Callable[..., SyncWasmPlugin]


def test_each_hostcall_is_a_method() -> None:
    """Those of the spec."""
    names = {row.name.removeprefix("proxy_") for row in HOSTCALLS if row.name.startswith("proxy_")}
    assert {name for name in names if name in vars(Hostcalls)} == names


def test_a_callback_as_an_argument(sync_wasm_plugin: Make) -> None:
    def block(host: Hostcalls, context_id: int, num_headers: int, end_of_stream: int) -> int:
        if host.get_header_map_value(MapType.HTTP_REQUEST_HEADERS, b":path") == b"/admin":
            host.send_local_response(403, b"no", [(b"x-by", b"guest")])
            return Action.PAUSE
        return Action.CONTINUE

    plugin = sync_wasm_plugin(Guest(on_request_headers=block))
    blocked = plugin.get("/admin")
    assert (blocked.status, blocked.body, blocked.headers["x-by"], blocked.app) == (403, b"no", "guest", None)
    assert plugin.get("/").status == 200
    assert blocked.calls.names == ["get_header_map_value", "send_local_response"]
    assert plugin.name == "guest"


def test_callbacks_as_methods(sync_wasm_plugin: Make) -> None:
    class Counting(Guest):
        confs: list[bytes]

        def on_configure(self, host: Hostcalls, root: int, size: int) -> bool:
            self.confs = [host.get_buffer_bytes(7)]
            self.requests = host.define_metric(0, b"requests")
            return True

        def on_request_headers(self, host: Hostcalls, *_: int) -> int:
            host.increment_metric(self.requests, 2)
            return Action.CONTINUE

    guest = Counting()
    plugin = sync_wasm_plugin(guest, {"a": 1}, name="counting")
    plugin.get("/")
    assert guest.confs == [b'{"a":1}']
    assert plugin.metrics == {"requests": 2}
    assert plugin.callbacks.names == ["on_configure", "on_request_headers"]


def test_a_mistake_in_a_callback_is_the_tests_own(sync_wasm_plugin: Make) -> None:
    def fails(*_: object) -> int:
        raise ZeroDivisionError("here")

    plugin = sync_wasm_plugin(Guest(on_request_headers=fails))
    with pytest.raises(ZeroDivisionError, match="here"):
        plugin.get("/")


def test_a_trap_is_the_plugins(sync_wasm_plugin: Make) -> None:
    def traps(*_: object) -> int:
        raise GuestTrap("on purpose")

    plugin = sync_wasm_plugin(Guest(on_request_headers=traps))
    assert plugin.get("/").status == 503
    assert any("on purpose" in line.text for line in plugin.logs)
    assert len(plugin.traps) == 1 and "on purpose" in plugin.traps[0]


def test_a_number_that_is_no_action(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(Guest(on_request_headers=lambda *_: 77))
    pending = plugin.begin("GET", "/")
    assert not pending.done
    assert "= 77, which is no action: it pauses" in plugin.trace
    plugin.advance(plugin.middleware.spec.pause_timeout)
    assert pending.result().status == 504


def test_a_refused_hostcall(sync_wasm_plugin: Make) -> None:
    """Its status is told by `call`; a method traps, unless it is caught."""
    seen: list[object] = []

    def asks(host: Hostcalls, *_: int) -> int:
        seen.append(host.call("get_header_map_value", 99, b"x"))
        with pytest.raises(HostcallRefusedError) as caught:
            host.get_header_map_value(99, b"x")
        seen.append(caught.value.status)
        host.get_header_map_value(99, b"x")
        return Action.CONTINUE

    assert sync_wasm_plugin(Guest(on_request_headers=asks)).get("/").status == 503
    assert seen == [(ProxyStatus.BAD_ARGUMENT,), ProxyStatus.BAD_ARGUMENT]


def test_a_guest_that_refuses_to_start(sync_wasm_plugin: Make) -> None:
    with pytest.raises(PluginStartError, match="on_configure answered false"):
        sync_wasm_plugin(Guest(on_configure=lambda *_: False)).get("/")


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(TypeError, match=r"ABI 0\.2\.1 has no callback 'on_request'"):
        Guest(on_request=lambda *_: 0)


@pytest.mark.parametrize("given", [(), (b"0", b"x"), (0, b"x", 1), (0, 1)])
def test_hostcalls_with_arguments_that_do_not_fit(sync_wasm_plugin: Make, given: tuple[bytes | int, ...]) -> None:
    plugin = sync_wasm_plugin(Guest(on_request_headers=lambda host, *_: host.call("get_header_map_value", *given)))
    with pytest.raises(TypeError, match="proxy_get_header_map_value"):
        plugin.get("/")


@pytest.mark.parametrize("version", AbiVersion)
def test_versions_of_the_abi(sync_wasm_plugin: Make, version: AbiVersion) -> None:
    guest = Guest(version, on_request_headers=lambda *_: Action.CONTINUE)
    plugin = sync_wasm_plugin(guest)
    (call,) = plugin.get("/").callbacks.named("on_request_headers")
    assert len(call.arguments) == (2 if version is AbiVersion.V0_1_0 else 3)
    assert len(guest.imports) == len(list(hostcalls(version)))


def test_beside_a_compiled_plugin(sync_wasm_host: Callable[..., SyncWasmHost]) -> None:
    """The guest, which is first, sees the request before the plugin does, and the response after it."""
    seen: list[bytes | None] = []

    def on_request(host: Hostcalls, *_: int) -> int:
        host.add_header_map_value(MapType.HTTP_REQUEST_HEADERS, b"x-secret", b"1")
        return Action.CONTINUE

    def on_response(host: Hostcalls, *_: int) -> int:
        seen.append(host.get_header_map_value(MapType.HTTP_RESPONSE_HEADERS, b"x-tenant"))
        return Action.CONTINUE

    conf = '{"request": {"remove": ["x-secret"]}, "response": {"set": {"x-tenant": "acme"}}}'
    host = sync_wasm_host(
        {
            "plugins": {
                "first": {"file": Guest(on_request_headers=on_request, on_response_headers=on_response), "priority": 9},
                "headers": {"file": str(PLUGINS / "headers" / "rust.wasm"), "conf": conf},
            }
        }
    )
    for _ in range(2):
        exchange = host.get("/")
        assert exchange.app is not None and "x-secret" not in exchange.app.headers
    assert seen == [b"acme"] * 2
    assert host["first"].calls.names == ["add_header_map_value", "get_header_map_value"] * 2


def test_the_example_of_the_paper(sync_wasm_plugin: Make) -> None:
    paper = (ROOT / "asgi_wasm" / "testing" / "README.md").read_text(encoding="utf-8")
    code = paper.partition("## Guests")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    test(sync_wasm_plugin)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a compiled plugin"])
def test_a_guest_comes_from_the_cache_as_any_plugin(
    sync_wasm_host: Callable[..., SyncWasmHost], caplog: pytest.LogCaptureFixture, beside: bool
) -> None:
    others = {"headers": {"file": str(PLUGINS / "headers" / "rust.wasm")}} if beside else {}
    for status in (401, 402):
        answer = Guest(on_request_headers=lambda host, *_, status=status: host.send_local_response(status))
        assert sync_wasm_host({"plugins": {"g": {"file": answer}, **others}}).get("/").status == status
    assert "compiled again" not in caplog.text
