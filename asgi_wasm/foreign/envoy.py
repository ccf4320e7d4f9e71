"""Envoy's own foreign functions, but for those that need cryptography and its CEL expressions.

Followed: Envoy `source/extensions/common/wasm/foreign.cc`; the arguments' messages are those of its `ext/*.proto`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from asgi_wasm.host import limits
from asgi_wasm.host.abi import HostcallError, ProxyStatus
from asgi_wasm.host.codecs import protobuf
from asgi_wasm.host.hostcalls.system import acting_context
from asgi_wasm.host.vm.vm import ForeignFunction, WasmVM

# Envoy doubles its buffer until memory ends; a few kilobytes of zeros can fill it. What it bounds the answer of an
# HTTP call with is enough for a body too.
MAX_UNCOMPRESSED_BYTES = 32 * 1024 * 1024
# Envoy knows a key when it has a factory under that name; those are all called so.
_FILTER_STATE_PREFIX = b"envoy."


def message(arguments: bytes) -> protobuf.Message:
    """The arguments as a message. Raises `HostcallError` BAD_ARGUMENT, as every function here does for no message."""
    try:
        return protobuf.decode(arguments)
    except protobuf.ProtobufError:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT) from None


def data(arguments: protobuf.Message, field: int) -> bytes:
    """A ``bytes`` field. Raises `HostcallError` BAD_ARGUMENT for a number there."""
    try:
        return protobuf.text(arguments, field)
    except protobuf.ProtobufError:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT) from None


def text(arguments: protobuf.Message, field: int) -> bytes:
    """A ``string`` field, which must be UTF-8 or is no message (protobuf, "proto3"). Raises as `data` does."""
    value = data(arguments, field)
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT) from None
    return value


def compress(_vm: WasmVM, arguments: bytes) -> bytes:
    """The arguments in zlib's format."""
    return zlib.compress(arguments)


def uncompress(_vm: WasmVM, arguments: bytes) -> bytes:
    """The reverse. SERIALIZATION_FAILURE for other bytes, cut ones, and more than `MAX_UNCOMPRESSED_BYTES`."""
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(arguments, MAX_UNCOMPRESSED_BYTES)
    except zlib.error:
        raise HostcallError(ProxyStatus.SERIALIZATION_FAILURE) from None
    if not stream.eof:
        raise HostcallError(ProxyStatus.SERIALIZATION_FAILURE)
    return result


def declare_property(vm: WasmVM, arguments: bytes) -> None:
    """Say of a property that it is to be set once in a stream (``readonly``).

    It counts for the plugin when a callback of its root context declares it; from a stream's callback it is without
    consequence, as in Envoy. Type and schema change nothing, since every property is handed over as the bytes that were
    set; nor does the life span: there is no connection here that outlives a request. BAD_ARGUMENT for a name that the
    context has declared before.
    """
    fields = message(arguments)
    name = text(fields, 1)
    acting = vm.context
    # Whose callback runs; a stream that a kernel serves is made for it.
    context = vm.current or (None if acting is None else acting.stream)
    if context is None or name in context.declared_properties:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT)
    try:
        is_read_only = bool(protobuf.number(fields, 2))
    except protobuf.ProtobufError:
        raise HostcallError(ProxyStatus.BAD_ARGUMENT) from None
    limits.declare_property(vm, context, name, is_read_only=is_read_only)


def set_envoy_filter_state(vm: WasmVM, arguments: bytes) -> None:
    """Keep a value under one of Envoy's keys: readable as property ``filter_state.KEY``, and without other consequence.

    NOT_FOUND for a key that is not Envoy's, and without a stream. Envoy also checks the value by the key's own rules.
    """
    fields = message(arguments)
    key, value = text(fields, 1), text(fields, 2)
    stream = acting_context(vm).stream
    if stream is None or not key.startswith(_FILTER_STATE_PREFIX):
        raise HostcallError(ProxyStatus.NOT_FOUND)
    limits.keep_property(vm, stream.chain, b"filter_state\0" + key, value)


def clear_route_cache(_vm: WasmVM, _arguments: bytes) -> None:
    """OK. There is no route cache: the app routes after the plugins."""


ENVOY_FUNCTIONS: Mapping[str, ForeignFunction] = {
    "clear_route_cache": clear_route_cache,
    "compress": compress,
    "declare_property": declare_property,
    "set_envoy_filter_state": set_envoy_filter_state,
    "uncompress": uncompress,
}
