"""Each limit: at it, one below and one above; what is refused is not done, is counted, and is said once a VM."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wasm.host.abi import MapType, MetricType, ProxyStatus
from asgi_wasm.host.codecs.wire import encode_pairs
from tests.host.fed import REQUEST_HEADERS
from tests.host.guest import NOT_FOUND, OK, OUTSIDE, Calls
from tests.host.limited import INTERNAL_FAILURE, INVALID_MEMORY_ACCESS, SIZE, acts

REQUEST = MapType.HTTP_REQUEST_HEADERS


# --- header maps


@pytest.mark.parametrize(("room", "status"), [(11, OK), (10, OK), (9, INTERNAL_FAILURE)])
@pytest.mark.parametrize("hostcall", ["add", "replace"])
def test_bytes_of_a_header_map(hostcall: str, room: int, status: ProxyStatus) -> None:
    def act(calls: Calls) -> Any:
        answer = calls(f"proxy_{hostcall}_header_map_value", REQUEST, b"x-new", b"12345")
        return answer, calls("proxy_get_header_map_size", REQUEST)

    (answer, size), reached, _ = acts("proxy_on_request_headers", act, header_bytes=SIZE + room)
    assert answer == (status,)
    assert size == (OK, SIZE + (10 if status is OK else 0))
    assert reached == ([] if status is OK else ["header_bytes"])


def test_a_header_map_that_is_full_may_shrink_and_change() -> None:
    def act(calls: Calls) -> Any:
        return [
            calls("proxy_replace_header_map_value", REQUEST, b"x-two", b"4"),
            calls("proxy_add_header_map_value", REQUEST, b"x-three", b""),
            calls("proxy_add_header_map_value", REQUEST, b"x-four", b""),
            calls("proxy_remove_header_map_value", REQUEST, b"x-one"),
            calls("proxy_add_header_map_value", REQUEST, b"x-four", b""),
        ]

    # `x-two` came twice, so replacing it leaves room for one more.
    answers, reached, _ = acts("proxy_on_request_headers", act, header_count=len(REQUEST_HEADERS))
    assert answers == [(OK,), (OK,), (INTERNAL_FAILURE,), (OK,), (OK,)]
    assert reached == ["header_count"]


@pytest.mark.parametrize(("count", "status"), [(2, OK), (3, OK), (4, INTERNAL_FAILURE)])
def test_all_headers_at_once(count: int, status: ProxyStatus) -> None:
    pairs = [(b"x-%d" % index, b"1") for index in range(count)]

    def act(calls: Calls) -> Any:
        answer = calls("proxy_set_header_map_pairs", REQUEST, encode_pairs(pairs))
        return answer, calls("proxy_get_header_map_size", REQUEST)

    for limits in ({"header_count": 3}, {"header_bytes": 12}):
        (answer, size), reached, _ = acts("proxy_on_request_headers", act, **limits)
        assert answer == (status,)
        assert size == (OK, 4 * count if status is OK else SIZE)
        assert reached == ([] if status is OK else [*limits])


def test_what_was_there_before_any_plugin_is_no_mistake_of_the_plugin() -> None:
    def act(calls: Calls) -> Any:
        return calls("proxy_replace_header_map_value", REQUEST, b"x-one", b"2")

    assert acts("proxy_on_request_headers", act, header_bytes=10, header_count=1)[:2] == ((OK,), [])


# --- properties


@pytest.mark.parametrize(("room", "status"), [(9, OK), (8, OK), (7, INTERNAL_FAILURE)])
def test_bytes_of_properties(room: int, status: ProxyStatus) -> None:
    def act(calls: Calls) -> Any:
        first = calls("proxy_set_property", b"one", b"1")
        again = calls("proxy_set_property", b"one", b"2")
        return first, again, calls("proxy_set_property", b"two", b"3"), calls("proxy_get_property", b"two")

    answers, reached, _ = acts("proxy_on_request_headers", act, property_bytes=room)
    assert answers == ((OK,), (OK,), (status,), (OK, b"3") if status is OK else (NOT_FOUND,))
    assert reached == ([] if status is OK else ["property_bytes"])


def test_a_value_over_the_limit_is_told_from_one_outside_memory() -> None:
    def act(calls: Calls) -> Any:
        path, size = calls.host.store(b"one")
        return [calls.raw("proxy_set_property", path, size, at, 9) for at in (path, OUTSIDE)]

    answers, reached, _ = acts("proxy_on_request_headers", act, property_bytes=8)
    assert answers == [INTERNAL_FAILURE, INVALID_MEMORY_ACCESS]
    assert reached == ["property_bytes"]


# --- metrics


@pytest.mark.parametrize(
    ("limits", "reached"), [({"metrics": 3}, "metrics"), ({"metric_bytes": 6}, "metric_bytes")], ids=["count", "bytes"]
)
def test_metrics(limits: dict[str, int], reached: str) -> None:
    def act(calls: Calls) -> Any:
        define = [calls("proxy_define_metric", MetricType.COUNTER, name) for name in (b"aa", b"bb", b"cc", b"dd")]
        # One that is known is known still, so that a plugin which defines its metrics in each request goes on.
        return *define, calls("proxy_define_metric", MetricType.COUNTER, b"bb")

    answers, refused, _ = acts("proxy_on_configure", act, **limits)
    assert answers == ((OK, 4), (OK, 8), (OK, 12), (INTERNAL_FAILURE,), (OK, 8))
    assert refused == [reached]


def test_a_metric_of_another_type_is_another_metric() -> None:
    def act(calls: Calls) -> Any:
        return [calls("proxy_define_metric", kind, b"a") for kind in (MetricType.COUNTER, MetricType.GAUGE)]

    assert acts("proxy_on_configure", act, metrics=1)[:2] == ([(OK, 4), (INTERNAL_FAILURE,)], ["metrics"])
