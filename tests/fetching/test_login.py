"""Logins at a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.fetcher import Fetcher
from tests.fetching.registries import ALICE, NAME, docker_login, locked, pull, push
from tests.fetching.site import GOOD, Site, as_json, content


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
