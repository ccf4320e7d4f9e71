"""Envoy's own foreign functions. The expected answers are those that the real Envoy gave to the same plugin."""

from __future__ import annotations

import logging
import sys
import zlib
from collections.abc import Iterable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from asgi_wasm.asgi.types import Receive, Scope, Send
from asgi_wasm.foreign import envoy
from asgi_wasm.host.codecs.protobuf import encode
from tests.driving import answering, request
from tests.foreign.calling import BAD_ARGUMENT, NOT_FOUND, OK, SERIALIZATION_FAILURE, configured, results
from tests.plugins.callouts import conf, foreign, get, plugged, put


async def test_compress_and_uncompress(caplog: pytest.LogCaptureFixture) -> None:
    packed = zlib.compress(b"hello" * 100)
    got = await configured(
        caplog,
        foreign("compress", b"hello" * 100),
        foreign("compress"),
        foreign("uncompress", packed),
        foreign("uncompress", packed + b"tail"),
        foreign("uncompress", zlib.compress(b"")),
        foreign("uncompress"),
        foreign("uncompress", b"junk"),
        foreign("uncompress", packed[:-4]),
        foreign("uncompress", packed[:10]),
    )
    assert [status for status, _ in got] == [OK] * 5 + [SERIALIZATION_FAILURE] * 4
    assert zlib.decompress(got[0][1]) == b"hello" * 100
    assert got[1:5] == [(OK, zlib.compress(b"")), (OK, b"hello" * 100), (OK, b"hello" * 100), (OK, b"")]


async def test_uncompress_is_bounded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "MAX_UNCOMPRESSED_BYTES", 1000)
    fits, bomb = zlib.compress(bytes(1000)), zlib.compress(bytes(1001))
    got = await configured(caplog, foreign("uncompress", fits), foreign("uncompress", bomb))
    assert got == [(OK, bytes(1000)), (SERIALIZATION_FAILURE, b"")]


async def test_route_cache(caplog: pytest.LogCaptureFixture) -> None:
    assert await configured(caplog, foreign("clear_route_cache"), foreign("clear_route_cache", b"x")) == [(OK, b"")] * 2


def declaration(name: bytes, *, read_only: bool = False, kind: int = 0, span: int = 0) -> str:
    return foreign("declare_property", encode([(1, name), (2, int(read_only)), (3, kind), (4, b"schema"), (5, span)]))


async def during_a_request(
    caplog: pytest.LogCaptureFixture, request_steps: Iterable[str], configure_steps: Iterable[str] = (), **steps: Any
) -> tuple[list[tuple[int, bytes]], dict[str, bytes]]:
    """What the steps of `on_request_headers` give, and the properties that the app sees."""
    seen: list[dict[str, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["asgi_wasm"]))
        await answering()(scope, receive, send)

    script = conf(configure=list(configure_steps), request_headers=list(request_steps), **steps)
    async with plugged(script, app=app) as middleware:
        await request(middleware)
    return results(caplog, "request_headers"), seen[0]


async def test_declared_properties(caplog: pytest.LogCaptureFixture) -> None:
    declared = [
        declaration(b"once", read_only=True),
        declaration(b"once"),
        *(declaration(b"kind%d" % kind, kind=kind, span=kind) for kind in (1, 2, 3, 9)),
        foreign("declare_property", b"\xff"),
        foreign("declare_property", encode([(1, b"\xff\xfe")])),
        foreign("declare_property", encode([(1, 7)])),
        foreign("declare_property", encode([(1, b"odd"), (2, b"true")])),
        foreign("declare_property"),
    ]
    set_and_get = [
        put(b"once", b"1"),
        put(b"once", b"2"),
        get(b"once"),
        put(b"kind3", b"1"),
        put(b"kind3", b"2"),
        get(b"kind3"),
    ]
    got, seen = await during_a_request(caplog, [get(b"once"), *set_and_get], declared)
    assert [status for status, _ in results(caplog)] == [OK, BAD_ARGUMENT, OK, OK, OK, OK, *[BAD_ARGUMENT] * 4, OK]
    assert got == [
        (NOT_FOUND, b""),
        (OK, b""),
        (BAD_ARGUMENT, b""),
        (OK, b"1"),
        (OK, b""),
        (OK, b""),
        (OK, b"2"),
    ]
    assert seen == {"once": b"1", "kind3": b"2"}


async def test_property_declared_by_a_stream_is_not_read_only(caplog: pytest.LogCaptureFixture) -> None:
    """Envoy keeps the declaration at the stream's context, and looks for it at the root's."""
    steps = [declaration(b"p", read_only=True), declaration(b"p"), put(b"p", b"1"), put(b"p", b"2"), get(b"p")]
    got, _ = await during_a_request(caplog, steps)
    assert got == [(OK, b""), (BAD_ARGUMENT, b""), (OK, b""), (OK, b""), (OK, b"2")]


async def test_property_declared_after_it_was_set_stays_writable(caplog: pytest.LogCaptureFixture) -> None:
    """What was declared when it was first set counts, for each stream anew."""
    steps = [put(b"p", b"1"), put(b"p", b"2")]

    script = conf(
        request_headers=[*steps, "period 5", "pause"],
        tick=[declaration(b"p", read_only=True), "stream", *steps, "resume 0", "period 0"],
    )
    async with plugged(script) as middleware:
        await request(middleware)
        await request(middleware)
    assert [status for status, _ in results(caplog, "request_headers")] == [OK, OK, OK, BAD_ARGUMENT]
    assert [status for status, _ in results(caplog, "tick")] == [OK, OK, OK, *[BAD_ARGUMENT] * 3]


def filter_state(key: bytes, value: bytes) -> str:
    return foreign("set_envoy_filter_state", encode([(1, key), (2, value), (3, 1)]))


async def test_filter_state(caplog: pytest.LogCaptureFixture) -> None:
    steps = [
        filter_state(b"envoy.string", b"v"),
        get(b"filter_state\0envoy.string"),
        filter_state(b"unknown", b"v"),
        filter_state(b"envoy.string", b"\xff"),
        foreign("set_envoy_filter_state", b"\xff"),
    ]
    got, _ = await during_a_request(
        caplog, steps, [filter_state(b"envoy.string", b"v")], log=[filter_state(b"envoy.string", b"")]
    )
    assert got == [(OK, b""), (OK, b"v"), (NOT_FOUND, b""), (BAD_ARGUMENT, b""), (BAD_ARGUMENT, b"")]
    assert results(caplog) == [(NOT_FOUND, b"")]  # no stream
    assert results(caplog, "log") == [(OK, b"")]


RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM


def private(key: Any, encoding: Any = DER, form: Any = serialization.PrivateFormat.PKCS8) -> bytes:
    data: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return data


def public(key: Any, encoding: Any = DER) -> bytes:
    data: bytes = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def sign(name: bytes, text: bytes, der: bytes = b"", pem: bytes = b"") -> str:
    return foreign("sign", encode([(1, name), (2, der), (3, text), (4, pem)]))


def verify(name: bytes, signature: bytes, text: bytes, der: bytes = b"", pem: bytes = b"") -> str:
    return foreign("verify_signature", encode([(1, name), (2, der), (3, signature), (4, text), (5, pem)]))


def signed(name: str, text: bytes) -> tuple[int, bytes]:
    return OK, encode([(1, 1), (2, RSA_KEY.sign(text, padding.PKCS1v15(), getattr(hashes, name)()))])


def refused(field: int, words: bytes) -> tuple[int, bytes]:
    return OK, encode([(field, words)])


NO_KEY = b"Invalid key type: private key required for signing operation."
ENCRYPTED = RSA_KEY.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw"))
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (sign(b"sha256", b"text", private(RSA_KEY)), signed("SHA256", b"text")),
        (sign(b"SHA512", b"", pem=private(RSA_KEY, PEM)), signed("SHA512", b"")),
        (sign(b"sha1", b"text", pem=private(RSA_KEY, PEM, TRADITIONAL)), signed("SHA1", b"text")),
        (sign(b"md5", b"text", private(RSA_KEY)), refused(3, b"md5 is not supported.")),
        (sign(b"md5", b"text", b"junk"), refused(3, b"md5 is not supported.")),
        (sign(b"sha256", b"text", b"junk"), refused(3, NO_KEY)),
        (sign(b"sha256", b"text", pem=b"junk"), refused(3, NO_KEY)),
        (sign(b"sha256", b"text", pem=ENCRYPTED), refused(3, NO_KEY)),
        (sign(b"sha256", b"text", public(RSA_KEY)), refused(3, NO_KEY)),
        (
            sign(b"sha256", b"text", private(ED_KEY)),
            refused(3, b"Invalid private key: key data is corrupted or malformed."),
        ),
        (sign(b"sha256", b"text"), (BAD_ARGUMENT, b"")),
        (sign(b"sha256", b"text", private(RSA_KEY), private(RSA_KEY, PEM)), (BAD_ARGUMENT, b"")),
        (sign(b"sha\xff256", b"text", private(RSA_KEY)), (BAD_ARGUMENT, b"")),
        (foreign("sign", b"\xff"), (BAD_ARGUMENT, b"")),
        (foreign("sign", encode([(2, 5)])), (BAD_ARGUMENT, b"")),
    ],
)
async def test_sign(caplog: pytest.LogCaptureFixture, step: str, answer: tuple[int, bytes]) -> None:
    assert await configured(caplog, step) == [answer]


RSA_SIGNATURE = RSA_KEY.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
EC_SIGNATURE = EC_KEY.sign(b"text", ec.ECDSA(hashes.SHA256()))
NO_DIGEST = b"Failed to initialize digest verify."
WRONG = b"Failed to verify digest. Error code: 0"


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(RSA_KEY)), (OK, b"\x08\x01")),
        (verify(b"sha256", RSA_SIGNATURE, b"text", pem=public(RSA_KEY, PEM)), (OK, b"\x08\x01")),
        (verify(b"sha256", EC_SIGNATURE, b"text", public(EC_KEY)), (OK, b"\x08\x01")),
        (verify(b"sha256", RSA_SIGNATURE, b"other", public(RSA_KEY)), refused(2, WRONG)),
        (verify(b"sha1", RSA_SIGNATURE, b"text", public(RSA_KEY)), refused(2, WRONG)),
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(EC_KEY)), refused(2, WRONG)),
        (verify(b"nope", RSA_SIGNATURE, b"text", public(RSA_KEY)), refused(2, b"nope is not supported.")),
        (verify(b"sha256", RSA_SIGNATURE, b"text", b"junk"), refused(2, NO_DIGEST)),
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(ED_KEY)), refused(2, NO_DIGEST)),
        (verify(b"sha256", RSA_SIGNATURE, b"text"), (BAD_ARGUMENT, b"")),
        (verify(b"sha256", RSA_SIGNATURE, b"text", public(RSA_KEY), public(RSA_KEY, PEM)), (BAD_ARGUMENT, b"")),
        (foreign("verify_signature", b"\xff"), (BAD_ARGUMENT, b"")),
    ],
)
async def test_verify_signature(caplog: pytest.LogCaptureFixture, step: str, answer: tuple[int, bytes]) -> None:
    assert await configured(caplog, step) == [answer]


async def test_signature_of_an_elliptic_curve(caplog: pytest.LogCaptureFixture) -> None:
    ((status, result),) = await configured(caplog, sign(b"sha384", b"text", private(EC_KEY)))
    assert (status, result[:3]) == (OK, b"\x08\x01\x12")
    EC_KEY.public_key().verify(result[4:], b"text", ec.ECDSA(hashes.SHA384()))


async def test_without_the_extra(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    step = verify(b"sha256", RSA_SIGNATURE, b"text", public(RSA_KEY))
    assert await configured(caplog, step, step, sign(b"sha256", b"", b"x")) == [(NOT_FOUND, b"")] * 3
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        "plugin 'callouts': calls sign or verify_signature, which need cryptography: pip install 'asgi-wasm[crypto]'"
    ]
