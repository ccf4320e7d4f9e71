"""Keys that plugins hand to `sign` and `verify_signature`: none holds the event loop, none raises."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="the extra crypto is not installed")

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

from asgi_wasm.foreign.signatures import Signatures
from asgi_wasm.host.codecs.protobuf import decode, encode

NO_PRIVATE_KEY = b"Invalid key type: private key required for signing operation."
NO_PUBLIC_KEY = b"Failed to initialize digest verify."
EXPONENT = 65537
# Mersenne's: there at once, and of any size.
PRIMES = {bits: 2**bits - 1 for bits in (521, 1279, 2281, 3217, 4253, 4423)}


def der(kind: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([kind]) + (bytes([0x80 | len(length)]) if size > 127 else b"") + length + content


def integer(number: int) -> bytes:
    return der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def sequence(*parts: bytes) -> bytes:
    return der(0x30, b"".join(parts))


def numbers(p: int, q: int, e: int = EXPONENT) -> dict[str, int]:
    """Those of an RSA key, in the order in which they are written."""
    d = pow(e, -1, (p - 1) * (q - 1))
    return {"n": p * q, "e": e, "d": d, "p": p, "q": q, "dp": d % (p - 1), "dq": d % (q - 1), "qi": pow(q, -1, p)}


def key_of(written: dict[str, int]) -> bytes:
    return sequence(integer(0), *map(integer, written.values()))


def signed(key: bytes, name: bytes = b"sha256", field: int = 2) -> tuple[bytes, bytes]:
    """Signature and error."""
    result = decode(Signatures().sign(Any, encode([(1, name), (field, key), (3, b"text")])))  # type: ignore[arg-type]
    return tuple(result.get(number, [b""])[0] for number in (2, 3))  # type: ignore[return-value]


def verified(key: bytes, signature: bytes) -> bytes:
    """The error."""
    arguments = encode([(1, b"sha256"), (2, key), (3, signature), (4, b"text")])
    result = decode(Signatures().verify_signature(Any, arguments))  # type: ignore[arg-type]
    return result.get(2, [b""])[0]  # type: ignore[return-value]


@pytest.mark.parametrize("sizes", [(1279, 521), (521, 1279), (4423, 3217)], ids=str)
def test_a_key_of_any_size_signs(sizes: tuple[int, int]) -> None:
    key = key_of(numbers(*(PRIMES[size] for size in sizes)))
    signature, error = signed(key)
    assert error == b""
    public = serialization.load_der_private_key(key, None, unsafe_skip_rsa_key_validation=True).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())


def test_no_factors_are_searched_for() -> None:
    """What a library that need not hurry does with this key takes a hundred times as long."""
    key = key_of(numbers(PRIMES[2281], PRIMES[1279]))

    def took(act: Callable[[], object]) -> float:
        began = time.process_time()
        act()
        return time.process_time() - began

    assert 5 * took(lambda: signed(key)) < took(lambda: serialization.load_der_private_key(key, None))


@pytest.mark.parametrize("name", ["n", "e", "d", "p", "q", "dp", "dq", "qi"])
@pytest.mark.parametrize("change", [1, 2, -2])
def test_numbers_that_do_not_fit_together(name: str, change: int) -> None:
    good = numbers(PRIMES[1279], PRIMES[521])
    assert signed(key_of({**good, name: good[name] + change})) == (b"", NO_PRIVATE_KEY)
    assert signed(key_of({**good, name: change & 1})) == (b"", NO_PRIVATE_KEY)


def test_an_exponent_has_its_bound() -> None:
    for e, answer in ((2**32 + 15, b""), (2**33 + 17, NO_PRIVATE_KEY)):
        assert signed(key_of(numbers(PRIMES[1279], PRIMES[521], e)))[1] == answer


def test_what_should_be_a_prime_and_is_none_gives_a_wrong_signature() -> None:
    good = numbers(PRIMES[1279], 3 * PRIMES[521])
    signature, error = signed(key_of(good))
    public = rsa.RSAPublicNumbers(EXPONENT, good["n"]).public_key()
    if not error:
        with pytest.raises(InvalidSignature):
            public.verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())


def test_a_key_that_is_too_short_for_its_digest() -> None:
    assert signed(key_of(numbers(PRIMES[521], 2**127 - 1)), b"sha512") == (b"", b"Failed to create signature.")


def test_what_is_too_long_is_not_read() -> None:
    """More than any key of 8192 bits has; of another kind it takes long to read."""
    huge = key_of(numbers(PRIMES[4423], PRIMES[4253]))
    assert signed(huge) == (b"", NO_PRIVATE_KEY)
    assert signed(huge + bytes(1000)) == (b"", NO_PRIVATE_KEY)
    assert signed(b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 7000, field=4) == (b"", NO_PRIVATE_KEY)
    bits = rsa.RSAPublicNumbers(EXPONENT, (1 << 9000) + 1).public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    assert verified(bits.public_bytes(serialization.Encoding.DER, spki), b"") == NO_PUBLIC_KEY


def a_dh_key() -> bytes:
    algorithm = sequence(bytes.fromhex("06092a864886f70d010301"), sequence(integer((1 << 2048) + 1), integer(2)))
    return sequence(integer(0), algorithm, der(4, integer(5)))


def some_keys() -> list[bytes]:
    written = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return [
        rsa.generate_private_key(EXPONENT, 1024).private_bytes(*written),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(*written),
        dsa.generate_private_key(1024).private_bytes(*written),
        key_of(numbers(PRIMES[1279], PRIMES[521])),
        a_dh_key(),
    ]


def test_no_bytes_raise() -> None:
    drawn = random.Random(1)
    for key in some_keys():
        for _ in range(300):
            changed = bytearray(key)
            for _ in range(drawn.randint(1, 4)):
                changed[drawn.randrange(len(changed))] = drawn.choice([0, 1, 0x7F, 0x80, 0xFF, drawn.randrange(256)])
            cut = bytes(changed[: drawn.choice([len(changed), drawn.randrange(1, len(changed))])])
            assert bool(signed(cut)[0]) != bool(signed(cut)[1])
            verified(cut, b"signature")
