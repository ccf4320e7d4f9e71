"""Envoy's foreign functions `sign` and `verify_signature`, by the package cryptography (extra ``crypto``).

Followed: Envoy `source/extensions/common/wasm/foreign.cc` and `source/common/crypto/utility_impl.cc`, whose words the
errors in a result are. RSA signatures are PKCS #1 v1.5, those of elliptic curves are ECDSA; as in Envoy no other kind
of key can sign. Keys in a few older encodings are taken here and not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asgi_wasm.foreign.envoy import data, message, text
from asgi_wasm.host.abi import HostcallError, LogLevel, ProxyStatus
from asgi_wasm.host.codecs import protobuf
from asgi_wasm.host.vm.vm import ForeignFunction

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateNumbers
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from asgi_wasm.host.vm.vm import WasmVM

# An RSA key of 8192 bits signs in some 50 ms; one of 20,000 takes a minute.
MAX_KEY_BITS = 8192
# Of such a key, in DER and in PEM: of a longer one of another kind, to read it takes a second.
MAX_PRIVATE_KEY_BYTES, MAX_PUBLIC_KEY_BYTES = (4800, 6600), (1200, 1700)
# Of the public exponent: BoringSSL's bound.
_MAX_EXPONENT_BITS = 33
_HASHES = (b"sha1", b"sha224", b"sha256", b"sha384", b"sha512")
_NO_PRIVATE_KEY = b"Invalid key type: private key required for signing operation."
_NO_SIGNING_KEY = b"Invalid private key: key data is corrupted or malformed."
_NO_SIGNATURE = b"Failed to create signature."
_NO_PUBLIC_KEY = b"Failed to initialize digest verify."
_WRONG = b"Failed to verify digest. Error code: 0"


class _RefusedError(Exception):
    """Raised with the words that go into the result's ``error``."""

    def __init__(self, words: bytes) -> None:
        super().__init__(words)
        self.words = words


class Signatures:
    """The two functions of one worker. Without the extra they are answered as unknown, and the log says so once."""

    def __init__(self) -> None:
        self._told = False

    @property
    def functions(self) -> Mapping[str, ForeignFunction]:
        """The foreign functions `sign` and `verify_signature`, by name."""
        return {"sign": self.sign, "verify_signature": self.verify_signature}

    def sign(self, vm: WasmVM, arguments: bytes) -> bytes:
        """SignArguments to SignResult. BAD_ARGUMENT for no message, and unless exactly one key is given."""
        self._need(vm)
        fields = message(arguments)
        name, key, pem = text(fields, 1), data(fields, 2), text(fields, 4)
        _need_one_of(key, pem)
        try:
            signature = _sign(_hash(name), _private_key(key, pem), data(fields, 3))
        except _RefusedError as error:
            return protobuf.encode([(3, error.words)])
        return protobuf.encode([(1, 1), (2, signature)])

    def verify_signature(self, vm: WasmVM, arguments: bytes) -> bytes:
        """VerifySignatureArguments to VerifySignatureResult. BAD_ARGUMENT as for `sign`."""
        self._need(vm)
        fields = message(arguments)
        name, key, pem = text(fields, 1), data(fields, 2), text(fields, 5)
        _need_one_of(key, pem)
        try:
            _verify(_hash(name), _public_key(key, pem), data(fields, 3), data(fields, 4))
        except _RefusedError as error:
            return protobuf.encode([(2, error.words)])
        return protobuf.encode([(1, 1)])

    def _need(self, vm: WasmVM) -> None:
        try:
            import cryptography  # noqa: F401
        except ImportError:
            if not self._told:
                self._told = True
                line = "calls sign or verify_signature, which need cryptography: pip install 'asgi-wasm[crypto]'"
                vm.log_lines.host(LogLevel.WARN, line)
            raise HostcallError(ProxyStatus.NOT_FOUND) from None


def _hash(name: bytes) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    if name.lower() not in _HASHES:
        raise _RefusedError(name + b" is not supported.")
    algorithm: HashAlgorithm = getattr(hashes, name.decode().upper())()
    return algorithm


def _need_one_of(der: bytes, pem: bytes) -> None:
    if bool(der) == bool(pem):
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)


def _bounded(key: Any, words: bytes) -> Any:
    """The key, unless it is one that would hold the event loop: the time of an RSA key grows with its size's cube."""
    if getattr(key, "key_size", 0) > MAX_KEY_BITS:
        raise _RefusedError(words)
    return key


def _check_length(der: bytes, pem: bytes, most: tuple[int, int], words: bytes) -> None:
    """A longer key is not read at all."""
    if len(der) > most[0] or len(pem) > most[1]:
        raise _RefusedError(words)


def _private_key(der: bytes, pem: bytes) -> Any:
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    _check_length(der, pem, MAX_PRIVATE_KEY_BYTES, _NO_PRIVATE_KEY)
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    try:
        # Its own validation searches for factors of the primes, which holds the event loop for up to half a minute.
        key = load(pem or der, None, unsafe_skip_rsa_key_validation=True)
        _bounded(key, _NO_PRIVATE_KEY)
        is_sound = not isinstance(key, rsa.RSAPrivateKey) or _fits_together(key.private_numbers())
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise _RefusedError(_NO_PRIVATE_KEY) from None
    if not is_sound:
        raise _RefusedError(_NO_PRIVATE_KEY)
    return key


def _fits_together(numbers: RSAPrivateNumbers) -> bool:
    """Whether the numbers are a key's, unless what should be primes is none: then its signatures are wrong.

    Follows: BoringSSL's `RSA_check_key`, which Envoy's keys pass.
    """
    p, q, d = numbers.p, numbers.q, numbers.d
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    if not (p > 2 and q > 2 and p & q & e & 1 and 2 <= e.bit_length() <= _MAX_EXPONENT_BITS and 0 < d < n):
        return False
    return (
        p * q == n
        and d * e % (p - 1) == d * e % (q - 1) == 1
        and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
        and numbers.iqmp < p
        and numbers.iqmp * q % p == 1
    )


def _public_key(der: bytes, pem: bytes) -> Any:
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    _check_length(der, pem, MAX_PUBLIC_KEY_BYTES, _NO_PUBLIC_KEY)
    try:
        key = serialization.load_pem_public_key(pem) if pem else serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm, InternalError):
        raise _RefusedError(_NO_PUBLIC_KEY) from None
    return _bounded(key, _NO_PUBLIC_KEY)


def _sign(algorithm: HashAlgorithm, key: Any, signed: bytes) -> bytes:
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    try:
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(signed, padding.PKCS1v15(), algorithm)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(signed, ec.ECDSA(algorithm))
    except (ValueError, UnsupportedAlgorithm, InternalError):
        # A key that is too short for the digest, say.
        raise _RefusedError(_NO_SIGNATURE) from None
    raise _RefusedError(_NO_SIGNING_KEY)


def _verify(algorithm: HashAlgorithm, key: Any, signature: bytes, signed: bytes) -> None:
    from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            raise _RefusedError(_NO_PUBLIC_KEY)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm, InternalError):
        raise _RefusedError(_WRONG) from None
