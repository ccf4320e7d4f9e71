"""A plugin as an image: which of its layers is the plugin, and in which of three forms.

Followed: solo-io/wasm ``spec/spec.md`` (*oci*: a layer is the module) and ``spec-compat.md`` (*compat*: a layer is an
archive with ``plugin.wasm``), and what Istio's ``pkg/wasm/imagefetcher.go`` takes; the layers of CNCF's artifacts
(``application/wasm``) and those of OPA, Kubewarden and others are modules, too.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.layer import plugin_of

_PREFIX = "sha256:"
_MODULES = {
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/wasm",
}
# Whether each is compressed.
_ARCHIVES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": True,
    "application/vnd.oci.image.layer.v1.tar+gzip": True,
    "application/vnd.oci.image.layer.v1.tar": False,
}
# What an index is looked through for: plugins are the same on each platform, but who builds by docker names one.
_PLATFORMS = (("wasi", "wasm"), ("wasip1", "wasm"), ("linux", "amd64"))
# An index may name an index; nobody goes further.
_MOST_INDEXES = 2

# Content by its SHA-256 in hexadecimal; the second argument is the limit of its bytes.
Get = Callable[[str, int], Awaitable[bytes]]


@dataclass(frozen=True)
class _Descriptor:
    media_type: str
    digest: str
    size: int
    platform: tuple[str, str]


async def plugin_of_image(manifest: bytes, get_manifest: Get, get_blob: Get, limit: int) -> bytes:
    """The plugin of the image with this manifest or index, of at most ``limit`` bytes. Raises `FetchError`."""
    for _ in range(_MOST_INDEXES + 1):
        descriptors, is_index = _descriptors(manifest)
        if not is_index:
            break
        chosen = _of_platform(descriptors)
        manifest = await get_manifest(chosen.digest, chosen.size)
    else:
        raise FetchError("is no plugin: its index names nothing but indexes")
    layer = _layer(descriptors)
    if layer.size > limit:
        raise FetchError(f"is not taken: its layer is larger than {limit >> 20} MiB")
    content = await get_blob(layer.digest, layer.size)
    if layer.media_type in _MODULES:
        return content
    return plugin_of(content, gzipped=_ARCHIVES[layer.media_type], limit=limit)


def _descriptors(manifest: bytes) -> tuple[list[_Descriptor], bool]:
    """The layers of a manifest, or the manifests of an index, and which of both it is."""
    try:
        read = json.loads(manifest)
        if "fsLayers" in read:
            raise FetchError("is an image of Docker's schema 1, which nobody makes any more: push it anew")
        is_index = "manifests" in read
        return [_descriptor(each) for each in read["manifests" if is_index else "layers"]], is_index
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FetchError("is no image: its manifest is not one") from None


def _descriptor(value: dict[str, Any]) -> _Descriptor:
    digest, size, platform = value["digest"], value["size"], value.get("platform") or {}
    if not isinstance(value["mediaType"], str):
        raise TypeError("no media type")
    hexadecimal = digest.removeprefix(_PREFIX)
    if not digest.startswith(_PREFIX) or len(hexadecimal) != 64 or not set(hexadecimal) <= set("0123456789abcdef"):
        raise FetchError("is no image that can be checked: its manifest has other digests than sha256")
    if not isinstance(size, int) or size < 0:
        raise ValueError("no size")
    return _Descriptor(
        value["mediaType"], hexadecimal, size, (platform.get("os", ""), platform.get("architecture", ""))
    )


def _of_platform(found: list[_Descriptor]) -> _Descriptor:
    # What tells how an image was built is of the platform unknown/unknown.
    real = [each for each in found if each.platform != ("unknown", "unknown")]
    for platform in _PLATFORMS:
        for each in real:
            if each.platform == platform:
                return each
    if len(real) != 1:
        raise FetchError("is an index of several images, none of them for wasi/wasm or linux/amd64: name one by digest")
    return real[0]


def _layer(layers: list[_Descriptor]) -> _Descriptor:
    for layer in layers:
        if layer.media_type in _MODULES:
            return layer
    # Istio's way: of an image of several layers the last is the one that was copied in.
    if layers and layers[-1].media_type in _ARCHIVES:
        return layers[-1]
    raise FetchError(f"is no plugin: it has layers of the types {_listed(layer.media_type for layer in layers)}")


def _listed(types: Iterable[str]) -> str:
    return ", ".join(repr(each) for each in list(types)[:3]) or "none"
