"""Images that are wrong, and a real registry."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_wasm import WasmMiddleware
from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.fetcher import Fetcher
from asgi_wasm.fetching.names import parse
from tests.driving import request, run
from tests.fetching.registries import ALICE, NAME, TOP, docker_login, locked, pull, push
from tests.fetching.site import GOOD, Site, content, digest_of, redirect, served
from tests.fetching.test_fetcher import RUST
from tests.fetching.test_image import ARTIFACT_LAYER, COMPAT, OCI_LAYER, descriptor, manifest
from tests.fetching.test_layer import tar
from tests.serving import free_port
from tests.waiting import wait_until


def test_another_manifest(site: Site, fetcher: Fetcher) -> None:
    digest = push(site)
    site.answers[f"/v2/{NAME}/manifests/sha256:{digest}"] = content(manifest(descriptor(ARTIFACT_LAYER, b"evil")))
    with pytest.raises(FetchError, match=f"is another file: its sha256 is .*, not {digest}"):
        pull(site, fetcher, digest)


def test_another_blob(site: Site, fetcher: Fetcher) -> None:
    digest = push(site)
    site.answers[f"/v2/{NAME}/blobs/sha256:{digest_of(COMPAT)}"] = content(bytes(len(COMPAT)))
    with pytest.raises(FetchError, match="is another file: its sha256 is"):
        pull(site, fetcher, digest)


def test_a_blob_larger_than_its_manifest_says(site: Site, fetcher: Fetcher) -> None:
    digest = push(site)
    site.answers[f"/v2/{NAME}/blobs/sha256:{digest_of(COMPAT)}"] = content(COMPAT + b"x")
    with pytest.raises(FetchError, match=f"is larger than {len(COMPAT)} bytes"):
        pull(site, fetcher, digest)


def test_a_manifest_without_end(site: Site, fetcher: Fetcher) -> None:
    site.answers[f"/v2/{NAME}/manifests/1.0"] = content(bytes(5 << 20))
    with pytest.raises(FetchError, match="is larger than 4 MiB"):
        pull(site, fetcher)


def test_not_there(site: Site, fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match=r"is not there: 127\.0\.0\.1 answered 404: check the name"):
        pull(site, fetcher, digest_of(TOP))


def test_an_authority_that_nobody_trusts(site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even on this machine is TLS left out because of it."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(FetchError, match=r"the certificate of 127\.0\.0\.1 is not trusted"):
        pull(site, fetcher, push(site))
    assert site.asked == []


def test_plain_http_on_this_machine(fetcher: Fetcher) -> None:
    """As Docker has it for 127.0.0.0/8 and localhost."""
    with served(None) as plain:
        assert pull(plain, fetcher, push(plain)) == GOOD


def test_plain_http_stays_on_this_machine(fetcher: Fetcher, tmp_path: Path) -> None:
    """Wherever such a registry sends one for a token, with the password, or for a blob."""
    with served(None) as plain:
        digest = push(plain)
        docker_login(tmp_path, plain)
        blob = f"/v2/{NAME}/blobs/sha256:{digest_of(COMPAT)}"
        plain.answers[blob] = redirect("http://elsewhere.invalid/blob")
        with pytest.raises(FetchError, match=r"leads to http://elsewhere\.invalid, and nothing is fetched"):
            pull(plain, fetcher, digest)
        locked(plain, lambda _: False, 'Bearer realm="http://elsewhere.invalid/token"')
        with pytest.raises(FetchError, match=r"leads to http://elsewhere\.invalid, and nothing is fetched"):
            pull(plain, fetcher, tag=":1.0")


# --- a real registry


# The password "wonder"; the registry reads nothing but bcrypt.
HTPASSWD = "alice:$2y$05$abcdefghijklmnopqrstuuLZNkQ1VL/QsuI/EN8Qq4Ia5232KBp7m"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry; its host and port."""
    with running(tmp_path) as registry:
        yield registry


@contextmanager
def running(tmp_path: Path, **more: Any) -> Iterator[str]:
    """It, with more of its configuration."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("there is no docker-registry here: apt-get install docker-registry")
    port = free_port()
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        **more,
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))
    with subprocess.Popen([program, "serve", str(tmp_path / "registry.yml")], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/v2/")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    def answers() -> bool:
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    wait_until(answers)


def push_to(registry: str, layer: bytes, media_type: str, tag: str, auth: tuple[str, str] | None = None) -> str:
    """As any client pushes: blobs first. Gives the image's digest."""
    config = b"{}"
    top = manifest(descriptor(media_type, layer))
    with httpx.Client(base_url=f"http://{registry}/v2/{NAME}", trust_env=False, auth=auth) as client:
        for blob in (layer, config):
            place = client.post("/blobs/uploads/").raise_for_status().headers["location"]
            full = httpx.URL(place).copy_merge_params({"digest": f"sha256:{digest_of(blob)}"})
            client.put(full, content=blob).raise_for_status()
        kind = {"content-type": "application/vnd.oci.image.manifest.v1+json"}
        client.put(f"/manifests/{tag}", content=top, headers=kind).raise_for_status()
    return digest_of(top)


@pytest.mark.parametrize(
    ("media_type", "is_archive"),
    [(OCI_LAYER, True), (ARTIFACT_LAYER, False), ("application/vnd.wasm.content.layer.v1+wasm", False)],
)
def test_a_real_registry(registry: str, tmp_path: Path, media_type: str, is_archive: bool) -> None:
    """A plugin is pushed, pulled, and answers; then the registry is not needed any more."""
    module = RUST.read_bytes()
    layer = gzip.compress(tar(("plugin.wasm", module))) if is_archive else module
    digest = push_to(registry, layer, media_type, "1.0")
    file = f"oci://{registry}/{NAME}:1.0@sha256:{digest}"
    plugin = {"name": "fault", "file": file, "conf": {"http_status": 418}}

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("the plugin answers")

    async def main() -> int:
        middleware = WasmMiddleware(app, settings={"plugins": [plugin], "cache_dir": str(tmp_path / "cache")})
        await middleware.start()
        status = (await request(middleware)).status
        await middleware.stop()
        return status

    assert run(main) == 418
    shutil.rmtree(tmp_path / "registry")
    assert run(main) == 418


def test_a_real_registry_without_the_image(registry: str, fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match=r"is not there: 127\.0\.0\.1 answered 404"):
        fetcher.fetch(parse(f"oci://{registry}/{NAME}:1.0", digest_of(TOP)))


def test_a_real_registry_that_wants_a_login(tmp_path: Path, fetcher: Fetcher) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "a registry", "path": str(tmp_path / "htpasswd")}}
    with running(tmp_path, auth=auth) as registry:
        digest = push_to(registry, GOOD, ARTIFACT_LAYER, "1.0", ("alice", "wonder"))
        file = parse(f"oci://{registry}/{NAME}:1.0", digest)
        with pytest.raises(FetchError, match="answered 401, and Docker's config file knows none: docker login"):
            fetcher.fetch(file)
        auths = {registry: {"auth": ALICE.removeprefix("Basic ")}}
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": auths}))
        assert fetcher.fetch(file).content == GOOD
