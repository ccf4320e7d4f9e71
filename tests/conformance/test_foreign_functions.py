"""Envoy's foreign functions: what they answer to the plugin `callouts` in both hosts."""

from __future__ import annotations

import zlib

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from asgi_wasm.host.codecs.protobuf import encode
from tests.conformance.chains import Chain, PluginEntry
from tests.conformance.hosts import both, settle
from tests.plugins.callouts import conf, foreign, get, put


def _signatures() -> list[str]:
    key, other = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()
    der, pem = serialization.Encoding.DER, serialization.Encoding.PEM
    pkcs8, spki = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
    plain = serialization.NoEncryption()
    private, public = key.private_bytes(der, pkcs8, plain), key.public_key().public_bytes(der, spki)
    private_pem, public_pem = key.private_bytes(pem, pkcs8, plain), key.public_key().public_bytes(pem, spki)
    signature = key.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
    signs = [
        [(1, b"sha256"), (2, private), (3, b"text")],
        [(1, b"SHA512"), (4, private_pem), (3, b"")],
        [(1, b"md5"), (2, private)],
        [(1, b"md5"), (2, b"junk")],
        [(1, b"md5")],
        [(1, b"sha256"), (2, b"junk")],
        [(1, b"sha256"), (4, b"junk")],
        [(1, b"sha256"), (2, public)],
        [(1, b"sha256"), (2, private), (4, private_pem)],
        [(1, b"sha256"), (2, other.private_bytes(der, pkcs8, plain))],
        [(1, b"sha\xff256"), (2, private)],
    ]
    verifies = [
        [(1, b"sha256"), (2, public), (3, signature), (4, b"text")],
        [(1, b"sha256"), (5, public_pem), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, public), (3, signature), (4, b"other")],
        [(1, b"sha1"), (2, public), (3, signature), (4, b"text")],
        [(1, b"sha3"), (2, public), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, b"junk"), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, other.public_key().public_bytes(der, spki)), (3, signature), (4, b"text")],
        [(1, b"sha256"), (2, public), (5, public_pem)],
        [(1, b"sha256"), (3, signature)],
    ]
    return [
        *(foreign("sign", encode(fields)) for fields in signs),
        *(foreign("verify_signature", encode(fields)) for fields in verifies),
        foreign("sign", b"\xff"),
        foreign("verify_signature", b"\xff"),
    ]


def _declare(name: bytes, read_only: int = 0, kind: int = 0, span: int = 0) -> str:
    return foreign("declare_property", encode([(1, name), (2, read_only), (3, kind), (4, b"schema"), (5, span)]))


def _filter_state(key: bytes, value: bytes) -> str:
    return foreign("set_envoy_filter_state", encode([(1, key), (2, value)]))


def _configuring() -> list[str]:
    return [
        _declare(b"once", 1),
        _declare(b"once"),
        *(_declare(b"kind%d" % kind, 0, kind, kind % 3) for kind in (1, 2, 3, 9)),
        foreign("declare_property", b"\xff"),
        foreign("declare_property", encode([(1, b"\xff")])),
        foreign("declare_property"),
        _filter_state(b"envoy.string", b"v"),
        foreign("clear_route_cache"),
        put(b"p", b"v"),
    ]


def _asking() -> list[str]:
    packed = zlib.compress(b"hello" * 100)
    return [
        *(foreign("uncompress", data) for data in (packed, packed + b"tail", packed[:-4], packed[:9], b"junk", b"")),
        foreign("compress"),
        foreign("nobody"),
        *(get(b"once"), put(b"once", b"1"), put(b"once", b"2"), get(b"once")),
        *(step for kind in (1, 2, 3, 9) for step in (put(b"kind%d" % kind, b"v"), get(b"kind%d" % kind))),
        *(_declare(b"late", 1), _declare(b"late", 1), put(b"late", b"1"), put(b"late", b"2"), get(b"late")),
        _filter_state(b"envoy.string", b"v"),
        get(b"filter_state\0envoy.string"),
        _filter_state(b"unknown", b"v"),
        _filter_state(b"envoy.string", b"\xff"),
        foreign("set_envoy_filter_state", b"\xff"),
        foreign("clear_route_cache", b"x"),
        *_signatures(),
    ]


def test_foreign_functions_answer_alike() -> None:
    log = [_filter_state(b"envoy.string", b"late"), get(b"filter_state\0envoy.string")]
    script = conf(configure=_configuring(), request_headers=_asking(), log=log)
    with both([Chain("functions", (PluginEntry("callouts", "callouts/c", conf=script),))]) as hosts:
        logged = []
        for host in (hosts.envoy, hosts.asgi_wasm):
            httpx.get(f"http://127.0.0.1:{host.ports['functions']}/")
            logged.append([line.text for line in settle(host)])
    # Envoy configures each plugin several times: on the main thread, and for each worker.
    count = sum(line.startswith("configure") for line in logged[1])
    theirs = [line for line in logged[0] if line.startswith("configure")]
    assert theirs == [line for line in logged[1] if line.startswith("configure")] * (len(theirs) // count)
    assert [line for line in logged[0] if not line.startswith("configure")] == logged[1][count:]
