"""A registry that is played."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.fetching.names import parse
from tests.fetching.site import Asked, Site, content, digest_of
from tests.fetching.test_image import COMPAT, OCI_LAYER, descriptor, manifest

NAME = "you/waf"
ALICE = "Basic " + base64.b64encode(b"alice:wonder").decode()
TOP = manifest(descriptor(OCI_LAYER, COMPAT))


def push(site: Site, top: bytes = TOP, *blobs: bytes, tag: str = "1.0") -> str:
    """Let the played registry have an image; its digest."""
    for reference in (tag, f"sha256:{digest_of(top)}"):
        site.answers[f"/v2/{NAME}/manifests/{reference}"] = content(top)
    for blob in blobs or (COMPAT,):
        site.answers[f"/v2/{NAME}/blobs/sha256:{digest_of(blob)}"] = content(blob)
    return digest_of(top)


def pull(site: Site, fetcher: Fetcher, digest: str = "", tag: str = ":1.0") -> bytes:
    at = f"@sha256:{digest}" if digest else ""
    return fetcher.fetch(parse(f"oci://127.0.0.1:{site.port}/{NAME}{tag}{at}", pinned=False)).content


def docker_login(tmp_path: Path, site: Site, **entry: str) -> None:
    entry = entry or {"auth": base64.b64encode(b"alice:wonder").decode()}
    auths = {f"127.0.0.1:{site.port}": entry}
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": auths}))


def locked(site: Site, is_right: Callable[[Asked], bool], challenge: str) -> None:
    """Nothing is answered without the right header."""
    for path, answer in [*site.answers.items()]:
        if path.startswith("/v2/"):

            def guarded(handler: Any, answer: Any = answer) -> None:
                refused = content(b"", 401, www_authenticate=challenge)
                (answer if is_right(site.asked[-1]) else refused)(handler)

            site.answers[path] = guarded
