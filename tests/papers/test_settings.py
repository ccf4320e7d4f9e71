"""The settings' paper and JSON Schema are as the models are, and the schema takes what a start takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml

from tests.papers.blocks import SETTINGS, check_block, check_file
from tests.papers.markdown import papers, read
from tests.papers.settings import SCHEMA, TABLES, docs, own_fields, schema_text, settings_table
from tests.papers.test_code import OURS
from tests.serving import ROOT


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_told(name: str) -> None:
    for _, model in TABLES[name]:
        assert [key for key in own_fields(model) if key not in docs(model)] == [], f"say below it in {model.__name__}"


@pytest.mark.parametrize("name", TABLES)
def test_table_is_current(name: str) -> None:
    check_block(SETTINGS, name, settings_table(name), make="make papers")


def test_schema_is_current() -> None:
    check_file(SCHEMA, schema_text())


Schema = Callable[[Any], str]


@pytest.fixture(scope="module")
def schema() -> Schema:
    """What the schema says against settings, "" for nothing."""
    validate = fastjsonschema.compile(json.loads(SCHEMA.read_text("utf-8")))

    def problem(data: Any) -> str:
        try:
            validate(data)
        except fastjsonschema.JsonSchemaValueException as error:
            return str(error)
        return ""

    return problem


def _settings() -> list[Any]:
    """Those of the samples and of every paper."""
    found = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in ROOT.glob("sample_apps/*/asgi-wasm.yaml")}
    for path in papers():
        for block in read(path).blocks:
            data = yaml.safe_load(block.text) if block.language == "yaml" else None
            if isinstance(data, dict) and OURS.intersection(data):
                found[f"{path.relative_to(ROOT)}:{block.line}"] = block.text
    return [pytest.param(text, id=name) for name, text in found.items()]


@pytest.mark.parametrize("text", _settings())
def test_schema_takes_what_is_right(schema: Schema, text: str) -> None:
    assert schema(yaml.safe_load(text)) == ""


@pytest.mark.parametrize(
    "data",
    [
        {"plugin": []},
        {"plugins": [{"name": "a", "file": "a.wasm", "prority": 1}]},
        {"plugins": {"a": {"file": "a.wasm", "priority": "high"}}},
        {"plugins": [{"name": "a", "file": "a.wasm", "failure_policy": "open"}]},
        {"limits": {"memory": 0}},
        {"limits": {"stack": 1}},
        {"routes": [{"uri": 5, "plugins": {}}]},
        {"routes": {"default": "refuse"}},
        {"upstreams": {"auth": {"url": "http://a", "retries": 3}}},
        {"metrics": {"rule": []}},
        {"drain_timeout": -1},
    ],
)
def test_schema_refuses_what_is_wrong(schema: Schema, data: Any) -> None:
    assert schema(data) != ""


def test_out_of_the_wheel() -> None:
    """Papers are for the checkout; the package's code reads none of them."""
    project = Path(ROOT / "pyproject.toml").read_text("utf-8")
    wheel = project.partition("[tool.hatch.build.targets.wheel]")[2].partition("\n[")[0]
    assert 'exclude = ["*.md", "asgi_wasm/settings/schema.json"]' in wheel
