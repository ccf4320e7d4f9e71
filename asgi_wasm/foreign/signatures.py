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
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from asgi_wasm.host.vm.vm import WasmVM

# An RSA key of 8192 bits signs in some 50 ms; one of 20,000 takes a minute. In PEM it has 6.5 kB.
MAX_KEY_BITS, MAX_KEY_BYTES = 8192, 8192
_HASHES = (b"sha1", b"sha224", b"sha256", b"sha384", b"sha512")
_NO_PRIVATE_KEY = b"Invalid key type: private key required for signing operation."
_NO_SIGNING_KEY = b"Invalid private key: key data is corrupted or malformed."
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
        """By name."""
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
                vm.ports.log.host(vm.plugin_name(), LogLevel.WARN, line)
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


def _private_key(der: bytes, pem: bytes) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        # Not read at all when it is too long: to check a private key's numbers takes longer than to sign.
        if len(der or pem) > MAX_KEY_BYTES:
            raise _RefusedError(_NO_PRIVATE_KEY)
        key = serialization.load_pem_private_key(pem, None) if pem else serialization.load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _RefusedError(_NO_PRIVATE_KEY) from None
    return _bounded(key, _NO_PRIVATE_KEY)


def _public_key(der: bytes, pem: bytes) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        if len(der or pem) > MAX_KEY_BYTES:
            raise _RefusedError(_NO_PUBLIC_KEY)
        key = serialization.load_pem_public_key(pem) if pem else serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise _RefusedError(_NO_PUBLIC_KEY) from None
    return _bounded(key, _NO_PUBLIC_KEY)


def _sign(algorithm: HashAlgorithm, key: Any, signed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(signed, ec.ECDSA(algorithm))
    raise _RefusedError(_NO_SIGNING_KEY)


def _verify(algorithm: HashAlgorithm, key: Any, signature: bytes, signed: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            raise _RefusedError(_NO_PUBLIC_KEY)
    except InvalidSignature:
        raise _RefusedError(_WRONG) from None
