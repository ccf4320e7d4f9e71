"""What names a file to fetch, and what is refused before anything is asked for."""

from __future__ import annotations

import pytest

from asgi_wasm import SettingsError
from asgi_wasm.fetching.names import Image, image_of, is_loopback, is_remote, parse, short_name
from asgi_wasm.settings import load
from asgi_wasm.specs import PluginSpec, RemoteFile

DIGEST = "0123456789abcdef" * 4
OTHER = "f" * 64


def only(**entry: str) -> PluginSpec:
    return load({"plugins": [{"name": "waf", **entry}]}).plugins[0]


@pytest.mark.parametrize(
    "entry",
    [
        {"file": "https://x.example/waf.wasm", "sha256": DIGEST},
        {"file": "https://x.example/waf.wasm", "sha256": DIGEST.upper()},
        {"file": f"https://x.example/waf.wasm#sha256={DIGEST}"},
        {"file": f"HTTPS://x.example/waf.wasm#sha256={DIGEST}", "sha256": DIGEST},
    ],
)
def test_urls(entry: dict[str, str]) -> None:
    assert only(**entry).file == RemoteFile("https://x.example/waf.wasm", DIGEST)


@pytest.mark.parametrize(
    "entry",
    [
        {"file": f"oci://r.example:5000/a/waf:1.0@sha256:{DIGEST}"},
        {"file": "oci://r.example:5000/a/waf:1.0", "sha256": DIGEST},
    ],
)
def test_images(entry: dict[str, str]) -> None:
    """``sha256`` is the image's digest there, as in Istio's WasmPlugin, and not that of the module."""
    plugin = only(**entry)
    assert plugin.file == RemoteFile("oci://r.example:5000/a/waf:1.0", DIGEST)
    assert plugin.sha256 is None
    assert str(plugin.file) == f"oci://r.example:5000/a/waf:1.0@sha256:{DIGEST}"


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (
            "https://x.example/w.wasm",
            r"plugins\.waf\.file: names no sha256, so whoever .* add #sha256=… to it \(asgi-wasm in",
        ),
        (
            "oci://r.example/w:1",
            r"names no sha256, .* add @sha256:… to it \(asgi-wasm inspect oci://r\.example/w:1 tells it",
        ),
        (f"http://x.example/w.wasm#sha256={DIGEST}", "begins with http://, by which nothing is fetched: give an https"),
        ("file:///w.wasm", "begins with file://: give the path without it"),
        ("s3://bucket/w.wasm", "begins with s3://: give a path, an https:// URL or oci://"),
        ("https:///w.wasm", "is no URL: write https://host/path/plugin.wasm"),
        ("https://x.example:0/w.wasm", "is no URL"),
        ("https://x.example:port/w.wasm", "is no URL"),
        ("https://[x/w.wasm", "is no URL"),
        ("https://x.example/a b", "is no URL"),
        ("https://x.example/a\nb", "is no URL"),
        ("https://x.example/w.wasm#part", "ends in a fragment that is none: write #sha256="),
        (f"https://x.example/w.wasm#sha256={DIGEST}0", "ends in a fragment that is none"),
        ("oci://waf:1", "names no registry: write oci://registry/name:tag@sha256:"),
        ("oci://you/waf:1", "names no registry"),
        ("oci://r.example:99999/waf:1", "names no registry"),
        ("oci://r.example/WAF:1", "names the image 'WAF', which is no name"),
        ("oci://r.example/../waf", "which is no name"),
        ("oci://r.example/waf:a/b", "has the tag 'a/b', which is none"),
        ("oci://r.example/waf:1@sha512:00", "ends in a digest that is none: write @sha256:"),
    ],
)
def test_refused(file: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        only(file=file)


def test_two_digests() -> None:
    for file in (f"https://x.example/w.wasm#sha256={DIGEST}", f"oci://r.example/w@sha256:{DIGEST}"):
        with pytest.raises(SettingsError, match="has another sha256 in its name than the setting sha256"):
            only(file=file, sha256=OTHER)


def test_what_may_be_secret_is_not_shown() -> None:
    file = parse("https://user:pass@x.example/w.wasm?token=secret", DIGEST)
    assert str(file) == f"https://x.example/w.wasm#sha256={DIGEST}"
    assert "pass" not in repr(file) and "secret" not in repr(file)
    for bad in ("https://u:secret@x.example:port/w.wasm", "https://u:secret@x.example/?secret"):
        with pytest.raises(SettingsError) as caught:
            only(file=bad)
        assert "secret" not in str(caught.value)


def test_paths_stay_paths() -> None:
    for path in ("waf.wasm", "/a/b.wasm", "c:/x.wasm", "asgi_wasm:fault_injection", "a:b/c"):
        assert not is_remote(path)


def test_parts() -> None:
    assert image_of("oci://r.example/a/waf") == Image("r.example", "a/waf")
    assert image_of("oci://[::1]:5000/waf:1") == Image("[::1]:5000", "waf", "1")
    assert image_of("oci://docker.io/waf:1") == Image("docker.io", "library/waf", "1")
    assert image_of("oci://localhost/waf") == Image("localhost", "waf")


def test_short_names() -> None:
    assert short_name(f"oci://r.example:5000/a/waf:1.0@sha256:{DIGEST}") == "waf"
    assert short_name(f"https://x.example/a/waf.wasm?x=/y#sha256={DIGEST}") == "waf"


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "a.localhost")))
    assert not any(map(is_loopback, ("localhost.example", "10.0.0.1", "127.0.0.1.example", "")))
