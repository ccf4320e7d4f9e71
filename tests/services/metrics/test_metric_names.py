"""Names of metrics, which are free text, as Prometheus's names and labels."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.services.metrics.names import MAX_NAMES, Admission, legal_name, series_of
from asgi_wasm.specs import TagRule

# As Istio configures Envoy (its bootstrap), shortened.
ISTIO = [
    TagRule(tag, re.compile(rf"({tag}=\.=(.*?);\.;)"))
    for tag in ("reporter", "source_workload", "destination_service", "response_code", "response_flags")
]
# As Coraza's documentation configures Envoy, but for the phase, whose letters would take "_identifier" along.
CORAZA = [
    TagRule("phase", re.compile("(_phase=(http_(?:request|response)_(?:headers|body)))")),
    TagRule("rule_id", re.compile("(_ruleid=([0-9]+))")),
    TagRule("identifier", re.compile("(_identifier=([0-9a-z.:]+))")),
]


def exported(name: str, rules: list[TagRule], *, counter: bool = False) -> tuple[str, dict[str, str]]:
    series = series_of("p", name, rules)
    return legal_name(series.name, counter=counter), dict(series.labels)


def test_istio() -> None:
    name = (
        "reporter=.=destination;.;source_workload=.=web-v1;.;destination_service=.=reviews.default.svc:9080;.;"
        "response_code=.=200;.;response_flags=.=-;.;istio_requests_total"
    )
    assert exported(name, ISTIO, counter=True) == (
        "istio_requests",
        {
            "plugin": "p",
            "reporter": "destination",
            "source_workload": "web-v1",
            "destination_service": "reviews.default.svc:9080",
            "response_code": "200",
            "response_flags": "-",
        },
    )


def test_coraza() -> None:
    name = "waf_filter.tx.interruptions_ruleid=949110_phase=http_request_headers_identifier=global.1"
    assert exported(name, CORAZA) == (
        "waf_filter_tx_interruptions",
        {"plugin": "p", "phase": "http_request_headers", "rule_id": "949110", "identifier": "global.1"},
    )
    assert exported("waf_filter.tx.total", CORAZA) == ("waf_filter_tx_total", {"plugin": "p"})


@pytest.mark.parametrize(
    ("pattern", "name", "expected", "label"),
    [
        (r"^wasmcustom\.((.*?)\.)", "eu.hits", "hits", "eu"),
        (r"(\.x)", "a.x.b", "a_b", ".x"),
        (r"code(=\d+)", "a.code=5.b", "a_code_b", "=5"),
        (r"a(\.x)?", "a.b", "a_b", None),
        (r"(\.(x)?y)", "a.y", "a", ""),
        (r"(_r=(.*))", "hits_r=", "hits", ""),
        (r"(.*)", "anything", "_", "wasmcustom.anything"),
    ],
    ids=[
        "sees-envoys-prefix",
        "one-group",
        "more-than-the-group",
        "group-not-there",
        "value-not-there",
        "empty-value",
        "all-removed",
    ],
)
def test_groups(pattern: str, name: str, expected: str, label: str | None) -> None:
    found, labels = exported(name, [TagRule("tag", re.compile(pattern))])
    assert (found, labels.get("tag")) == (expected, label)


def test_first_rule_that_matches_wins_and_rules_see_the_whole_name() -> None:
    rules = [
        TagRule("tag", re.compile(r"(\.z)")),
        TagRule("tag", re.compile(r"(\.x)")),
        TagRule("tag", re.compile(r"(\.y)")),
        TagRule("other", re.compile(r"(\.x\.y)")),
    ]
    assert exported("a.x.y.b", rules) == ("a_b", {"plugin": "p", "tag": ".x", "other": ".x.y"})


def test_fixed_value() -> None:
    assert exported("a", [TagRule("zone", value="eu")]) == ("a", {"plugin": "p", "zone": "eu"})


@pytest.mark.parametrize(
    ("name", "legal"),
    [("", "_"), ("9lives", "_9lives"), ("a.b-c:d é", "a_b_c_d__"), ("_total", "_total"), ("a_total", "a_total")],
)
def test_legal_gauge_names(name: str, legal: str) -> None:
    assert legal_name(name, counter=False) == legal


@pytest.mark.parametrize(("name", "legal"), [("_total", "_"), ("a_total", "a"), ("a_total_total", "a")])
def test_legal_counter_names(name: str, legal: str) -> None:
    assert legal_name(name, counter=True) == legal


@given(st.binary(), st.booleans())
def test_any_bytes_make_a_legal_name(name: bytes, counter: bool) -> None:
    found, labels = exported(name.decode("utf-8", "replace"), [*ISTIO, *CORAZA], counter=counter)
    assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", found)
    assert not (counter and found.endswith("_total"))
    assert labels["plugin"] == "p"


def test_each_plugin_has_so_many_names(caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission()
    names = [f"n{number}" for number in range(MAX_NAMES + 5)]
    assert [admission.admits("hostile", name) for name in names] == [True] * MAX_NAMES + [False] * 5
    assert admission.admits("other", names[-1])
    # What was admitted is so still, for whoever asks next.
    assert admission.admits("hostile", names[0])
    assert not admission.admits("other", "n" * 1025)
    assert len(caplog.messages) == 2
