"""The setting ``metrics``: from every source, in Envoy's spelling, and its mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi_wasm import Settings, SettingsError
from asgi_wasm.settings import load
from asgi_wasm.specs import DEFAULT_BUCKETS, MetricsSpec

RULE = {"tag": "code", "regex": r"(\.code=(\d+))"}


def rules(spec: MetricsSpec) -> list[tuple[str, str | None, str | None]]:
    return [(rule.tag, rule.regex and rule.regex.pattern, rule.value) for rule in spec.rules]


def test_off_by_default() -> None:
    assert load().metrics == MetricsSpec(enabled=False, rules=(), buckets=DEFAULT_BUCKETS)


@pytest.mark.parametrize(
    ("given", "enabled"),
    [(True, True), ("true", True), ("0", False), ({}, True), ({"enabled": False, "rules": [RULE]}, False)],
)
def test_enabled(given: Any, enabled: bool) -> None:
    assert load(metrics=given).metrics.enabled is enabled
    assert load({"metrics": given}).metrics.enabled is enabled


def test_arguments_win() -> None:
    assert load({"metrics": True}, metrics=False).metrics.enabled is False


def test_settings_object() -> None:
    spec = load(Settings.model_validate({"metrics": {"rules": [RULE]}})).metrics
    assert (spec.enabled, rules(spec)) == (True, [("code", RULE["regex"], None)])
    assert load(Settings()).metrics.enabled is False


@pytest.mark.parametrize("name", ["ASGI_WASM_METRICS", "ASGI_WASM_METRICS__ENABLED"])
def test_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "true")
    assert load().metrics.enabled


def test_yaml_in_envoys_spelling(folder: Path) -> None:
    (folder / "asgi-wasm.yaml").write_text(
        """
metrics:
  stats_tags:
    - {tag_name: envoy.response-code, regex: '(\\.code=(\\d+))'}
    - {tag_name: zone, fixed_value: eu}
  buckets: [0.5, 2]
"""
    )
    spec = load().metrics
    assert rules(spec) == [("envoy_response_code", r"(\.code=(\d+))", None), ("zone", None, "eu")]
    assert (spec.enabled, spec.buckets) == (True, (0.5, 2.0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("often", "metrics.enabled: must be true or false"),
        ({"rulez": []}, "metrics: unknown key 'rulez'; did you mean 'rules'?"),
        ({"rules": [RULE], "stats_tags": []}, "metrics: 'rules' and 'stats_tags' mean the same: keep one of them"),
        ({"rules": [{"regex": "(a)"}]}, "metrics.rules.0.tag: is missing"),
        ({"rules": [{"tag": "a b", "regex": "(a)"}]}, "metrics.rules.0.tag: 'a b' is no label: use letters, digits"),
        ({"rules": [{"tag": "__a", "regex": "(a)"}]}, "metrics.rules.0.tag: '__a' is no label: use letters, digits"),
        ({"rules": [{"tag": "le", "regex": "(a)"}]}, "metrics.rules.0.tag: the label 'le' is taken: choose another"),
        ({"rules": [{"tag": "plugin", "value": "x"}]}, "metrics.rules.0.tag: the label 'plugin' is taken"),
        ({"rules": [RULE | {"regex": "(a"}]}, "metrics.rules.0.regex: '(a' is no regular expression of Python: "),
        ({"rules": [RULE | {"regex": "a"}]}, "metrics.rules.0.regex: 'a' has no group: put what is to leave the name"),
        ({"rules": [{"tag": "a"}]}, "metrics.rules.0: needs a regex, or a fixed value, and not both"),
        ({"rules": [RULE | {"value": "x"}]}, "metrics.rules.0: needs a regex, or a fixed value, and not both"),
        ({"buckets": []}, "metrics.buckets: must be finite numbers, each greater than the one before it"),
        ({"buckets": [2, 1]}, "metrics.buckets: must be finite numbers, each greater than the one before it"),
        ({"buckets": [1, float("inf")]}, "metrics.buckets: must be finite numbers, each greater than the one before"),
    ],
)
def test_mistakes(given: Any, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(metrics=given)
    assert str(caught.value).startswith(f"the arguments: {expected}")
