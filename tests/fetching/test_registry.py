"""Images from registries: one that is played, over TLS and with every kind of login, and Debian's own.

The played one speaks the distribution API's calls for pulling: manifests by tag and by digest, blobs, redirects to
where they are kept, and tokens.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
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
from tests.fetching.site import GOOD, Asked, Site, as_json, content, digest_of, redirect, served
from tests.fetching.test_fetcher import RUST
from tests.fetching.test_image import ARTIFACT_LAYER, COMPAT, OCI_LAYER, descriptor, manifest
from tests.fetching.test_layer import tar
from tests.waiting import wait_until

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


# --- login


def test_basic(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    digest = push(site)
    locked(site, lambda asked: asked.headers.get("authorization") == ALICE, 'Basic realm="Registry Realm"')
    host = f"127\\.0\\.0\\.1:{site.port}"
    with pytest.raises(
        FetchError, match=f"{host} answered 401, and Docker's config file knows none: docker login {host}"
    ):
        pull(site, fetcher, digest)
    docker_login(tmp_path, site, username="alice", password="wrong")
    with pytest.raises(
        FetchError, match=f"{host} answered 401 to the credentials of Docker's config file: docker login"
    ):
        pull(site, fetcher, digest)
    docker_login(tmp_path, site)
    assert pull(site, fetcher, digest) == GOOD
    # Who is not asked for them does not tell them.
    assert "authorization" not in site.asked[1].headers


def tokens(site: Site, answer: Any) -> str:
    """A token server on the same site, and the challenge that names it."""
    site.answers["/token"] = answer
    return f'Bearer realm="{site.url("/token")}",service="the registry",scope="repository:{NAME}:pull"'


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_tokens(site: Site, fetcher: Fetcher, key: str) -> None:
    digest = push(site)
    challenge = tokens(site, as_json({key: "t0ken"}))
    locked(site, lambda asked: asked.headers.get("authorization") == "Bearer t0ken", challenge)
    assert pull(site, fetcher, digest) == GOOD
    (asked,) = [each for each in site.asked if each.target.startswith("/token")]
    assert asked.query == {"service": ["the registry"], "scope": [f"repository:{NAME}:pull"]}
    assert "authorization" not in asked.headers


def test_tokens_for_a_name_and_a_password(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    digest = push(site)
    locked(
        site,
        lambda asked: asked.headers.get("authorization") == "Bearer t0ken",
        tokens(site, lambda handler: as_json({"token": "t0ken"}, 200 if told(site) == ALICE else 401)(handler)),
    )
    with pytest.raises(FetchError, match="answered 401, and Docker's config file knows none: docker login"):
        pull(site, fetcher, digest)
    docker_login(tmp_path, site)
    assert pull(site, fetcher, digest) == GOOD


def told(site: Site) -> str:
    return site.asked[-1].headers.get("authorization", "")


def test_identity_tokens(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    """As OAuth 2 has it: posted."""
    digest = push(site)
    docker_login(tmp_path, site, identitytoken="it")
    challenge = tokens(site, as_json({"access_token": "t0ken"}))
    locked(site, lambda asked: asked.headers.get("authorization") == "Bearer t0ken", challenge)
    assert pull(site, fetcher, digest) == GOOD
    (asked,) = [each for each in site.asked if each.target == "/token"]
    assert asked.method == "POST"
    form = b"&" + asked.body + b"&"
    for field in (b"grant_type=refresh_token", b"refresh_token=it", b"service=the+registry", b"client_id=asgi-wasm"):
        assert b"&" + field + b"&" in form


def test_registry_tokens(site: Site, fetcher: Fetcher, tmp_path: Path) -> None:
    digest = push(site)
    docker_login(tmp_path, site, registrytoken="rt")
    locked(site, lambda asked: asked.headers.get("authorization") == "Bearer rt", 'Bearer realm="https://x.invalid"')
    assert pull(site, fetcher, digest) == GOOD


@pytest.mark.parametrize(
    ("challenge", "sentence"),
    [
        (
            'Bearer realm="http://127.0.0.1:{port}/token"',
            r"leads to http://127\.0\.0\.1, and nothing is fetched but by",
        ),
        ('Bearer realm="http://x.example/token"', r"leads to http://x\.example, and nothing is fetched but by https"),
        ('Bearer realm="file:///etc/passwd"', "names no server for its tokens"),
        ("Bearer", "names no server for its tokens"),
        ('Bearer realm="https://x:port/"', "leads to what is no URL"),
        ("Negotiate", "asks for no kind of login known here"),
        ("", "asks for no kind of login known here"),
        ('Bearer realm="https://127.0.0.1:1/token"', r"127\.0\.0\.1 is not reached"),
    ],
)
def test_hostile_challenges(site: Site, fetcher: Fetcher, tmp_path: Path, challenge: str, sentence: str) -> None:
    """Credentials go nowhere but over TLS."""
    digest = push(site)
    docker_login(tmp_path, site)
    locked(site, lambda asked: False, challenge.format(port=site.port))
    with pytest.raises(FetchError, match=sentence):
        pull(site, fetcher, digest)
    assert "authorization" not in site.asked[-1].headers


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (content(b"no"), r"which has the tokens of 127\.0\.0\.1:\d+, gave none"),
        (as_json([]), "gave none"),
        (as_json({}), "gave none"),
        (as_json({"token": 7}), "gave none"),
        (as_json({"token": "a\r\nx: y"}), "gave none"),
        (content(b"[" * 100_000), "gave none"),
        (content(bytes(2 << 20)), "is larger than 1 MiB"),
        (content(b"", 500), "answered 500: try again later"),
        (content(b"", 403), "answered 403, and Docker's config file knows none"),
        (as_json({"token": "wrong"}), "answered 401, and Docker's config file knows none"),
    ],
)
def test_hostile_tokens(site: Site, fetcher: Fetcher, answer: Any, sentence: str) -> None:
    digest = push(site)
    locked(site, lambda asked: False, tokens(site, answer))
    with pytest.raises(FetchError, match=sentence):
        pull(site, fetcher, digest)


# --- what is wrong with the image


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
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
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
