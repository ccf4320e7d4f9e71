"""The commands take plugins by the names of files that are to be fetched."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from tests.cli.running import run_alone
from tests.fetching.conftest import authority
from tests.fetching.site import Site, content, digest_of, served
from tests.fetching.test_fetcher import RUST
from tests.fetching.test_image import ARTIFACT_LAYER, descriptor, manifest

__all__ = ["authority"]

TOP = manifest(descriptor(ARTIFACT_LAYER, RUST.read_bytes()))
SHA256 = digest_of(RUST.read_bytes())


@pytest.fixture
def environment(tmp_path: Path, authority: tuple[ssl.SSLContext, Path]) -> dict[str, str]:
    cache = str(tmp_path / "cache")
    return {
        "SSL_CERT_FILE": str(authority[1]),
        "XDG_CACHE_HOME": cache,
        "DOCKER_CONFIG": str(tmp_path),
        "NO_PROXY": "*",
    }


@pytest.mark.parametrize("kind", ["https", "oci"])
def test_from_the_first_look_to_the_check(
    tmp_path: Path, authority: tuple[ssl.SSLContext, Path], environment: dict[str, str], kind: str
) -> None:
    """``inspect`` tells the digest that everything else wants; afterwards the cache is enough."""
    with served(authority[0]) as site:
        name = _named(site, kind)
        refused = run_alone("request", name, cwd=tmp_path, **environment)
        assert refused.status == 1
        assert "names no sha256" in refused.err and f"(asgi-wasm inspect {name} tells it)" in refused.err
        report = json.loads(run_alone("inspect", name, "--json", cwd=tmp_path, **environment).out)
    pinned = report["file"]
    assert pinned == (f"{name}@sha256:{digest_of(TOP)}" if kind == "oci" else f"{name}#sha256={SHA256}")
    assert report["sha256"] == SHA256
    done = run_alone("request", pinned, "--conf", '{"http_status": 418}', cwd=tmp_path, **environment)
    assert (done.status, "418" in done.out) == (0, True), done
    (tmp_path / "asgi-wasm.yaml").write_text(json.dumps({"plugins": [{"name": "fault", "file": pinned, "conf": "{}"}]}))
    checked = json.loads(run_alone("check", "--json", cwd=tmp_path, **environment).out)
    assert checked["ok"] is True
    assert [(row["file"], row["sha256"], row["state"]) for row in checked["plugins"]] == [(pinned, SHA256, "started")]
    if kind == "oci":
        # The rest knows nothing of kinds, and takes its time.
        return
    assert run_alone("compile", cwd=tmp_path, **environment).status == 0
    benched = run_alone("bench", pinned, "--conf", "{}", "--json", cwd=tmp_path, **environment)
    assert json.loads(benched.out)["file"] == pinned


def _named(site: Site, kind: str) -> str:
    if kind == "https":
        site.answers["/fault.wasm"] = content(RUST.read_bytes())
        return site.url("/fault.wasm")
    site.answers["/v2/you/fault/manifests/1.0"] = content(TOP)
    site.answers[f"/v2/you/fault/manifests/sha256:{digest_of(TOP)}"] = content(TOP)
    site.answers[f"/v2/you/fault/blobs/sha256:{SHA256}"] = content(RUST.read_bytes())
    return f"oci://127.0.0.1:{site.port}/you/fault:1.0"


def test_what_cannot_be_fetched(tmp_path: Path, environment: dict[str, str]) -> None:
    """One sentence: the plugin, the file, the key, the reason, what to do."""
    file = f"https://127.0.0.1:1/waf.wasm#sha256={SHA256}"
    (tmp_path / "asgi-wasm.yaml").write_text(f"plugins:\n  - name: waf\n    file: {file}\n")
    for more in ((), ("--no-start",)):
        checked = run_alone("check", *more, cwd=tmp_path, **environment)
        assert checked.status == 1
        told = f"asgi-wasm.yaml:3: plugins.waf.file: {file}: cannot be fetched: 127.0.0.1 is"
        assert checked.err.startswith(told) and checked.err.count("\n") == 1
    assert "is not reached" in run_alone("run", file, cwd=tmp_path, **environment).err
