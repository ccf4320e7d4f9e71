"""Names and serialized `GrpcService` messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.host.abi import HostcallError, ProxyStatus
from asgi_wasm.host.codecs.grpc_service import GrpcService, find_service
from asgi_wasm.host.codecs.protobuf import encode

ENVOY_GRPC, GOOGLE_GRPC, TIMEOUT, METADATA = 1, 2, 3, 5
AUTH = encode([(ENVOY_GRPC, encode([(1, b"auth"), (2, b"authority")]))])


def find(data: bytes) -> GrpcService:
    return find_service(data, {"auth", "127.0.0.1:50051", "a12345678"}.__contains__)


@pytest.mark.parametrize(
    ("data", "upstream"),
    [
        (b"auth", "auth"),
        (AUTH, "auth"),
        (encode([(GOOGLE_GRPC, encode([(1, b"127.0.0.1:50051"), (4, b"stats")]))]), "127.0.0.1:50051"),
        # As protobuf: a fixed64 of an unknown field.
        (b"a12345678", "a12345678"),
    ],
    ids=["name", "envoy_grpc", "google_grpc", "a-name-that-is-protobuf"],
)
def test_target(data: bytes, upstream: str) -> None:
    assert find(data) == GrpcService(upstream)


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [
        ([(1, 2)], 2000),
        ([(2, 1_500_000)], 2),
        ([(1, 1), (2, 500_000_000)], 1500),
        ([], 0),
        ([(1, -1)], 0),
        ([(2, -1)], 0),
    ],
)
def test_timeout(duration: list[tuple[int, int | bytes]], milliseconds: int) -> None:
    assert find(AUTH + encode([(TIMEOUT, encode(duration))])).timeout_milliseconds == milliseconds


def test_metadata_in_order() -> None:
    headers = [encode([(1, b"x-a"), (2, b"1")]), encode([(1, b"x-b-bin"), (3, b"\xff")]), encode([(1, b"x-a")])]
    found = find(AUTH + encode([(METADATA, header) for header in headers]))
    assert found.metadata == [(b"x-a", b"1"), (b"x-b-bin", b"\xff"), (b"x-a", b"")]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"other", ProxyStatus.PARSE_FAILURE),
        (AUTH[:-1], ProxyStatus.PARSE_FAILURE),
        (encode([(ENVOY_GRPC, 1)]), ProxyStatus.PARSE_FAILURE),
        (encode([(ENVOY_GRPC, b"\xff")]), ProxyStatus.PARSE_FAILURE),
        (AUTH + encode([(METADATA, 1)]), ProxyStatus.PARSE_FAILURE),
        (AUTH + encode([(TIMEOUT, encode([(1, b"x")]))]), ProxyStatus.PARSE_FAILURE),
        (b"", ProxyStatus.BAD_ARGUMENT),
        (encode([(ENVOY_GRPC, b"")]), ProxyStatus.BAD_ARGUMENT),
        (encode([(ENVOY_GRPC, encode([(1, b"other")]))]), ProxyStatus.INTERNAL_FAILURE),
        (encode([(GOOGLE_GRPC, encode([(1, b"10.0.0.1:1")]))]), ProxyStatus.INTERNAL_FAILURE),
    ],
)
def test_refused(data: bytes, status: ProxyStatus) -> None:
    with pytest.raises(HostcallError) as caught:
        find(data)
    assert caught.value.status == status


@given(st.binary())
def test_any_bytes_get_a_status(data: bytes) -> None:
    try:
        assert find(data).upstream in ("auth", "127.0.0.1:50051", "a12345678")
    except HostcallError as error:
        assert error.status in (ProxyStatus.PARSE_FAILURE, ProxyStatus.BAD_ARGUMENT, ProxyStatus.INTERNAL_FAILURE)
