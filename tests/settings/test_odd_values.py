"""Whatever stands in a setting, it is a start or a sentence: no trace, and nothing of it printed raw."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import Limits, Metrics, Plugin, PluginLimits, Route, Settings, TagRule, Upstream, load

LONG = "x" * 100_000
TEXTS = ["", " ", "\n", "\0", "\x1b[31m", "\ud800", "é", "*", "-1", "0", "nan", "yes", "true", "null", "=", LONG]
NUMBERS = [True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.0, -0.5, 1e308, float("nan"), float("inf")]
OBJECTS = [
    None,
    b"\xff",
    (),
    [],
    {},
    [[]],
    {"": None},
    {1: 2},
    {None: 1},
    {("a",): 1},
    {"\n": "\n"},
    object(),
    Path("x"),
]
DEEP: Any = []
for _ in range(5000):
    DEEP = [DEEP]
ODD = [*TEXTS, *NUMBERS, *OBJECTS, {1, 2}, datetime.date(2026, 1, 1), DEEP, Settings, ["a", 1, None], {"a": {"b": {}}}]

PLUGIN = {"name": "p", "file": "p.wasm"}
ROUTE = {"uri": "/a", "plugins": {"p": {}}}
# Where a value may stand: how settings are made of it.
PLACES: dict[str, Any] = {
    **{f"{name}": lambda value, name=name: {name: value} for name in Settings.model_fields},
    **{f"plugins.{name}": lambda v, name=name: {"plugins": [{**PLUGIN, name: v}]} for name in Plugin.model_fields},
    **{f"routes.{n}": lambda v, n=n: {"plugins": [PLUGIN], "routes": [{**ROUTE, n: v}]} for n in Route.model_fields},
    **{f"upstreams.{n}": lambda v, n=n: {"upstreams": {"a": {"url": "http://a", n: v}}} for n in Upstream.model_fields},
    **{f"limits.{name}": lambda value, name=name: {"limits": {name: value}} for name in Limits.model_fields},
    **{
        f"plugins.limits.{name}": lambda value, name=name: {"plugins": [{**PLUGIN, "limits": {name: value}}]}
        for name in PluginLimits.model_fields
    },
    **{f"metrics.{name}": lambda value, name=name: {"metrics": {name: value}} for name in Metrics.model_fields},
    **{f"rules.{n}": lambda v, n=n: {"metrics": {"rules": [{"tag": "t", n: v}]}} for n in TagRule.model_fields},
    "fail_open": lambda value: {"plugins": [{**PLUGIN, "fail_open": value}]},
    "env.name": lambda value: {"plugins": [{**PLUGIN, "env": {value: "x"}}]},
    "env.value": lambda value: {"plugins": [{**PLUGIN, "env": {"X": value}}]},
    "headers.name": lambda value: {"upstreams": {"a": {"url": "http://a", "headers": {value: "x"}}}},
    "headers.value": lambda value: {"upstreams": {"a": {"url": "http://a", "headers": {"x": value}}}},
    "capability": lambda value: {"plugins": [{**PLUGIN, "allowed_capabilities": [value]}]},
    "host": lambda value: {"plugins": [PLUGIN], "routes": [{**ROUTE, "hosts": [value]}]},
    "method": lambda value: {"plugins": [PLUGIN], "routes": [{**ROUTE, "methods": [value]}]},
    "route default": lambda value: {"routes": {"default": value}},
    "route plugin": lambda value: {"plugins": [PLUGIN], "routes": [{**ROUTE, "plugins": {value: {}}}]},
    "key": lambda value: {value: 1},
    "plugin": lambda value: {"plugins": {value: {"file": "p.wasm"}}},
    "upstream": lambda value: {"upstreams": {value: "http://a"}},
}


def load_or_sentence(data: Any) -> str | None:
    """The sentence, if there is one. Any other exception is a fault, and so is text that is not plain."""
    try:
        load(data)
    except SettingsError as error:
        text = str(error)
        assert text
        for line in text.split("\n"):
            assert line.isprintable(), ascii(line)
            assert len(line) < 2000
            # The place, then what is wrong there.
            assert ": " in line
        return text
    return None


def hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("place", PLACES)
def test_a_start_or_a_sentence(place: str) -> None:
    for value in ODD:
        try:
            data = PLACES[place](value)
        except TypeError:
            assert not hashable(value)
            continue
        load_or_sentence(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(PLACES)), JSON)
def test_anything_is_a_start_or_a_sentence(place: str, value: Any) -> None:
    if hashable(value) or place not in ("env.name", "headers.name", "route plugin", "key", "plugin", "upstream"):
        load_or_sentence(PLACES[place](value))


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("plugins.priority", True, "plugins.p.priority: must be a number, not true or false"),
        ("limits.request_body", False, "limits.request_body: must be a number, not true or false"),
        ("pause_timeout", True, "pause_timeout: must be a number, not true or false"),
        ("pause_timeout", float("inf"), "pause_timeout: input should be a finite number"),
        ("fail_open", "maybe", "plugins.p: 'fail_open' must be true or false"),
        ("env.name", "A=B", "plugins.p.env: 'A=B' is no name of a variable"),
        ("env.value", "a\0b", "plugins.p.env: the value of 'X' has a NUL"),
        ("capability", "proxy_lgo", "'proxy_lgo' is no capability; did you mean 'proxy_log'?"),
        ("capability", "x", "'x' is no capability; they are named as hostcalls"),
        ("plugins.file", "", "plugins.p.file: is no path"),
        ("route default", "maybe", "routes.default: what no route names has the default 'allow' or 'deny'"),
        ("plugins.file", "~nobody-of-this-name/x", "begins with '~', and nobody of that name has a home here"),
        ("limits.header_count", 0, "limits.header_count: input should be greater than 0"),
    ],
)
def test_what_can_only_be_a_mistake(place: str, value: Any, problem: str) -> None:
    text = load_or_sentence(PLACES[place](value))
    assert text is not None
    assert problem in text


@pytest.mark.parametrize(("word", "policy"), [("yes", "fail_open"), (True, "fail_open"), ("off", "fail_closed")])
def test_words_for_true_and_false(word: Any, policy: str) -> None:
    (plugin,) = load(PLACES["fail_open"](word)).plugins
    assert plugin.failure_policy.value == policy


def test_limits_of_all_plugins_and_of_one() -> None:
    spec = load(
        {
            "plugins": [PLUGIN, {"name": "q", "file": "q.wasm", "limits": {"header_count": 7, "memory": 65536}}],
            "limits": {"header_count": 9, "tick_ms": 3, "queue_length": 5, "request_body": 1, "call_response": 2},
        }
    )
    first, second = (plugin.limits for plugin in spec.plugins)
    assert (first.header_count, first.tick_ms) == (9, 3)
    assert (second.header_count, second.tick_ms, second.memory) == (7, 3, 65536)
    assert (spec.store.limits.queue_length, spec.limits.request_body, spec.call_response_limit) == (5, 1, 2)
    assert spec.limits.response_body == 1024 * 1024


@pytest.mark.parametrize("routes", [{"default": "deny"}, [{"default": "deny"}], {"default": "deny", "a": ROUTE}])
def test_what_no_route_names_may_be_refused(routes: Any) -> None:
    spec = load({"plugins": [PLUGIN], "routes": routes})
    assert spec.deny_unrouted
    assert not load({"plugins": [PLUGIN], "routes": {"default": "allow", "a": ROUTE}}).deny_unrouted
