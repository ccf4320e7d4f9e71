"""Which layer of an image is the plugin, and manifests that are none."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.image import plugin_of_image
from tests.fetching.site import GOOD, digest_of
from tests.fetching.test_layer import tar

LIMIT = 1 << 20
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ARTIFACT_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
COMPAT = gzip.compress(tar(("plugin.wasm", GOOD)))


def descriptor(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest_of(content)}", "size": len(content), **more}


def manifest(*layers: dict[str, Any], **more: Any) -> bytes:
    config = descriptor("application/vnd.oci.image.config.v1+json", b"{}")
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}).encode()


def index(*manifests: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


def plugin(top: bytes, *contents: bytes) -> bytes:
    """Of an image whose other parts are these."""
    known = {digest_of(each): each for each in contents}

    async def get(digest: str, limit: int) -> bytes:
        assert len(known[digest]) <= limit
        return known[digest]

    return asyncio.run(plugin_of_image(top, get, get, LIMIT))


@pytest.mark.parametrize("media_type", [OCI_LAYER, DOCKER_LAYER])
def test_compat(media_type: str) -> None:
    assert plugin(manifest(descriptor(media_type, COMPAT)), COMPAT) == GOOD


def test_a_plain_tar() -> None:
    layer = tar(("plugin.wasm", GOOD))
    assert plugin(manifest(descriptor("application/vnd.oci.image.layer.v1.tar", layer)), layer) == GOOD


def test_of_several_layers_the_last() -> None:
    """As Istio: an image that was built on another has the plugin on top."""
    below = gzip.compress(tar(("etc/passwd", b"root")))
    assert plugin(manifest(descriptor(OCI_LAYER, below), descriptor(OCI_LAYER, COMPAT)), below, COMPAT) == GOOD


@pytest.mark.parametrize(
    "media_type", [ARTIFACT_LAYER, "application/vnd.wasm.content.layer.v1+wasm", "application/wasm"]
)
def test_artifact(media_type: str) -> None:
    """Wherever it stands; beside it may be a configuration."""
    beside = descriptor("application/vnd.module.wasm.config.v1+json", b"{}")
    assert plugin(manifest(beside, descriptor(media_type, GOOD)), GOOD) == GOOD
    assert plugin(manifest(descriptor(media_type, GOOD), beside), GOOD) == GOOD


def platform(os: str, architecture: str) -> dict[str, Any]:
    return {"platform": {"os": os, "architecture": architecture}}


def test_an_index() -> None:
    """As `docker buildx` pushes it, with a statement of how it was built."""
    wanted, other = manifest(descriptor(OCI_LAYER, COMPAT)), manifest(descriptor(OCI_LAYER, b""))
    entries = [
        descriptor(MANIFEST, other, **platform("unknown", "unknown")),
        descriptor(MANIFEST, other, **platform("linux", "arm64")),
        descriptor(MANIFEST, wanted, **platform("linux", "amd64")),
    ]
    assert plugin(index(*entries), wanted, other, COMPAT) == GOOD
    wasm = manifest(descriptor(ARTIFACT_LAYER, GOOD))
    entries.append(descriptor(MANIFEST, wasm, **platform("wasip1", "wasm")))
    assert plugin(index(*entries), wanted, other, wasm, GOOD) == GOOD


def test_an_index_of_one() -> None:
    wanted = manifest(descriptor(OCI_LAYER, COMPAT))
    for where in ({}, platform("linux", "arm64"), {"platform": None}):
        assert plugin(index(descriptor(MANIFEST, wanted, **where)), wanted, COMPAT) == GOOD


def test_indexes_of_indexes() -> None:
    wanted = manifest(descriptor(OCI_LAYER, COMPAT))
    inner = index(descriptor(MANIFEST, wanted))
    assert plugin(index(descriptor(MANIFEST, inner)), inner, wanted, COMPAT) == GOOD
    outer = index(descriptor(MANIFEST, index(descriptor(MANIFEST, inner))))
    with pytest.raises(FetchError, match="its index names nothing but indexes"):
        plugin(outer, index(descriptor(MANIFEST, inner)), inner, wanted, COMPAT)


@pytest.mark.parametrize(
    ("top", "sentence"),
    [
        (b"", "is no image: its manifest is not one"),
        (b"<html>", "is no image"),
        (b"[]", "is no image"),
        (b"7", "is no image"),
        (b"[" * 100_000, "is no image"),
        (b'{"layers": 7}', "is no image"),
        (b'{"layers": [7]}', "is no image"),
        (b'{"layers": [{}]}', "is no image"),
        (b'{"layers": [{"mediaType": [], "digest": 7, "size": 1}]}', "is no image"),
        (b'{"manifests": null}', "is no image"),
        (b'{"fsLayers": []}', "of Docker's schema 1"),
        (manifest(), "it has layers of the types none"),
        (index(), "is an index of several images, none of them for wasi/wasm or linux/amd64"),
        (manifest(descriptor("text/plain", b"")), "it has layers of the types 'text/plain'"),
        (manifest(descriptor(f"{OCI_LAYER[:-4]}zstd", b"")), r"it has layers of the types .*tar\+zstd'"),
        (manifest({**descriptor(OCI_LAYER, b""), "mediaType": [[]]}), "is no image"),
        (manifest({**descriptor(OCI_LAYER, b""), "mediaType": {}}), "is no image"),
        (manifest({**descriptor(OCI_LAYER, b""), "size": -1}), "is no image"),
        (manifest({**descriptor(OCI_LAYER, b""), "size": True}), "is no image|layer"),
        (manifest({**descriptor(OCI_LAYER, b""), "size": LIMIT + 1}), "its layer is larger than 1 MiB"),
        (manifest({**descriptor(OCI_LAYER, b""), "digest": "sha512:00"}), "has other digests than sha256"),
        (manifest({**descriptor(OCI_LAYER, b""), "digest": "sha256:../../x"}), "has other digests than sha256"),
    ],
)
def test_refused(top: bytes, sentence: str) -> None:
    with pytest.raises(FetchError, match=sentence):
        plugin(top, b"")
