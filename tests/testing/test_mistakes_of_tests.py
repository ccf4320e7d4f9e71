"""Mistakes in a plugin author's tests: each is said where it is made, and no test passes by one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from asgi_wasm.testing import Guest, SyncWasmPlugin
from tests.plugins.conftest import PLUGINS

Make = Callable[..., SyncWasmPlugin]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"headers": {"x-count": 3}}, "3 is neither text nor bytes, as names and values of headers are"),
        ({"body": {"a": 1}}, "{'a': 1} is no body: .*json= makes one of a value"),
        ({"body": [1]}, r"\[1\] is no body"),
        ({"header": {"a": "b"}}, "no argument 'header'"),
        ({"params": {"a": "b"}}, "no argument 'params'"),
    ],
)
def test_what_is_no_request(sync_wasm_plugin: Make, given: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        sync_wasm_plugin(Guest()).post(**given)


def test_a_value_as_body(sync_wasm_plugin: Make) -> None:
    exchange = sync_wasm_plugin(Guest()).post(json={"a": None})
    assert exchange.app is not None and exchange.app.json() == {"a": None}
    assert exchange.app.headers["content-type"] == "application/json"
    assert exchange.app.headers["content-length"] == str(len(exchange.app.body))
    exchange = sync_wasm_plugin(Guest()).post(json=None)
    assert exchange.app is not None and exchange.app.body == b"null"


def test_a_call_whose_name_is_mistyped(sync_wasm_plugin: Make) -> None:
    exchange = sync_wasm_plugin(Guest()).get()
    assert exchange.calls.named("send_local_response") == exchange.calls.named("own_import") == []
    with pytest.raises(ValueError, match="named 'send_local_respons'; did you mean 'send_local_response'"):
        exchange.calls.named("send_local_respons")
    with pytest.raises(ValueError, match="did you mean 'on_request_headers'"):
        exchange.callbacks.named("on_request_header")


def test_a_metric_that_is_not_there(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(PLUGINS / "counter" / "assemblyscript.wasm", "hits", root_id="counter")
    plugin.get()
    with pytest.raises(KeyError, match=r"there is no 'hits' \(there are: .*hits\.requests"):
        plugin.metrics["hits"]


def test_what_was_never_called(sync_wasm_plugin: Make) -> None:
    auth = sync_wasm_plugin(Guest()).upstream("auth")
    auth.on("POST", re.compile("/c.*"), {"a": "b"}, query={"q": "1"}, json=None).respond()
    words = "with POST /c.* headers={b'a': b'b'} query={'q': '1'} json=None"
    with pytest.raises(AssertionError, match=re.escape(words)):
        auth.check_all_called()
    other = sync_wasm_plugin(Guest()).upstream("other")
    other.respond()
    with pytest.raises(AssertionError, match="the upstream 'other' with anything"):
        other.check_all_called()


async def test_the_twin_in_a_test_that_is_a_coroutine(sync_wasm_plugin: Make) -> None:
    plugin = sync_wasm_plugin(Guest())
    with pytest.raises(RuntimeError, match="this test is a coroutine: it takes wasm_plugin"):
        plugin.get()
