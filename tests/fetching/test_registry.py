"""Images from registries: one that is played, over TLS and with every kind of login, and Debian's own.

The played one speaks the distribution API's calls for pulling: manifests by tag and by digest, blobs, redirects to
where they are kept, and tokens.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.fetching.names import parse
from tests.fetching.registries import ALICE, NAME, docker_login, locked, pull, push
from tests.fetching.site import GOOD, Site, content, digest_of, redirect, served
from tests.fetching.test_image import COMPAT


def test_once_and_offline(site: Site, fetcher: Fetcher) -> None:
    digest = push(site)
    for _ in range(2):
        assert pull(site, fetcher, digest) == GOOD
    assert site.paths() == [
        "/v2/",
        f"/v2/{NAME}/manifests/sha256:{digest}",
        f"/v2/{NAME}/blobs/sha256:{digest_of(COMPAT)}",
    ]
    assert "application/vnd.oci.image.manifest.v1+json" in site.asked[1].headers["accept"]


def test_without_a_tag(site: Site, fetcher: Fetcher) -> None:
    assert pull(site, fetcher, push(site), tag="") == GOOD


def test_a_tag_alone_tells_its_digest(site: Site, fetcher: Fetcher) -> None:
    digest = push(site)
    file = fetcher.fetch(parse(f"oci://127.0.0.1:{site.port}/{NAME}:1.0", pinned=False)).file
    assert str(file) == f"oci://127.0.0.1:{site.port}/{NAME}:1.0@sha256:{digest}"
    push(site, tag="latest")
    assert pull(site, fetcher, tag="") == GOOD


def test_blobs_elsewhere(site: Site, trusted: ssl.SSLContext, fetcher: Fetcher, tmp_path: Path) -> None:
    """Where they are kept has its own signature in the URL, and is not told who we are."""
    digest = push(site)
    docker_login(tmp_path, site)
    with served(trusted) as storage:
        storage.answers["/kept"] = content(COMPAT)
        site.answers[f"/v2/{NAME}/blobs/sha256:{digest_of(COMPAT)}"] = redirect(storage.url("/kept?signature=x"), 307)
        locked(site, lambda asked: asked.headers.get("authorization") == ALICE, 'Basic realm="x"')
        assert pull(site, fetcher, digest) == GOOD
        (asked,) = storage.asked
        assert asked.target == "/kept?signature=x"
        assert "authorization" not in asked.headers
