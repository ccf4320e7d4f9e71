"""What Docker's config file and its helpers know of a registry."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.credentials import Credentials, credentials_for

ALICE = base64.b64encode(b"alice:pass:word").decode()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Docker's file, which is not there yet."""
    return tmp_path / "docker" / "config.json"


def write(config: Path, **value: Any) -> None:
    config.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("r.example", "r.example"),
        ("r.example:5000", "r.example:5000"),
        ("https://r.example", "r.example"),
        ("https://r.example/v1/", "r.example"),
        ("r.example/v2/", "r.example"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_by_registry(config: Path, key: str, registry: str) -> None:
    write(config, auths={"other.example": {"auth": "eA=="}, key: {"auth": ALICE}})
    assert credentials_for(registry) == Credentials("alice", "pass:word")
    assert credentials_for("else.example") is None


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"username": "bob", "password": "x"}, Credentials("bob", "x")),
        ({"auth": base64.b64encode(b"bob:x\0\0").decode()}, Credentials("bob", "x")),
        ({"identitytoken": "it"}, Credentials(identity_token="it")),
        ({"auth": ALICE, "identitytoken": "it"}, Credentials("alice", "pass:word", "it")),
        ({"registrytoken": "rt"}, Credentials(registry_token="rt")),
        ({}, None),
        (None, None),
        ("text", None),
    ],
)
def test_entries(config: Path, entry: object, found: Credentials | None) -> None:
    write(config, auths={"r.example": entry})
    assert credentials_for("r.example") == found


def test_nothing_is_there(config: Path) -> None:
    assert credentials_for("r.example") is None
    values: list[dict[str, Any]] = [{}, {"auths": []}, {"auths": {}, "credHelpers": None}]
    for value in values:
        write(config, **value)
        assert credentials_for("r.example") is None


def test_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / ".docker").mkdir()
    write(tmp_path / ".docker" / "config.json", auths={"r.example": {"auth": ALICE}})
    assert credentials_for("r.example") == Credentials("alice", "pass:word")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"Docker's config file .*config\.json cannot be read"),
        ("[]", "holds no JSON object"),
        ('{"auths": {"r.example": {"auth": "!"}}}', r"an 'auth' in .*config\.json is no base64 of name:password"),
        ('{"auths": {"r.example": {"auth": "eA=="}}}', "is no base64 of name:password: docker login"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_bad_file(config: Path, text: str, sentence: str) -> None:
    config.write_text(text)
    with pytest.raises(FetchError, match=sentence):
        credentials_for("r.example")


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("alice", "secret", "secret", "secret"))


# --- helpers


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program's place on the path."""
    if os.name == "nt":
        pytest.skip("a helper there is an .exe")
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "docker-credential-test"


def program(helper: Path, text: str) -> None:
    """In Python, since not every machine that runs these tests has a shell."""
    helper.write_text(f"#!{sys.executable} -IS\nimport sys, time\n{text}\n")
    helper.chmod(0o755)


@pytest.mark.parametrize("named", [{"credsStore": "test"}, {"credHelpers": {"r.example": "test"}}])
def test_a_helper(config: Path, helper: Path, tmp_path: Path, named: dict[str, Any]) -> None:
    asked = tmp_path / "asked"
    program(
        helper,
        f"""
open({str(asked)!r}, "w").write(sys.argv[1] + " " + sys.stdin.read())
print('{{"ServerURL": "", "Username": "bob", "Secret": "x"}}')
""",
    )
    # As docker leaves it there.
    write(config, auths={"r.example": {}}, **named)
    assert credentials_for("r.example") == Credentials("bob", "x")
    assert asked.read_text() == "get r.example"


def test_a_helper_of_one_registry_only(config: Path, helper: Path) -> None:
    program(helper, "sys.exit(3)")
    write(config, auths={"r.example": {"auth": ALICE}}, credHelpers={"other.example": "test"})
    assert credentials_for("r.example") == Credentials("alice", "pass:word")


def test_a_helper_of_docker_hub_is_asked_by_its_old_name(config: Path, helper: Path) -> None:
    program(helper, """print('{"Username": "%s", "Secret": "x"}' % sys.stdin.read())""")
    write(config, credsStore="test")
    assert credentials_for("docker.io") == Credentials("https://index.docker.io/v1/", "x")


def test_a_helper_with_a_token(config: Path, helper: Path) -> None:
    program(helper, """print('{"Username": "<token>", "Secret": "it"}')""")
    write(config, credsStore="test")
    assert credentials_for("r.example") == Credentials(identity_token="it")


def test_a_helper_that_has_none(config: Path, helper: Path) -> None:
    program(helper, "print('credentials not found in native keychain'); sys.exit(1)")
    write(config, credsStore="test")
    assert credentials_for("r.example") is None
    write(config, credsStore="test", auths={"r.example": {"auth": ALICE}})
    assert credentials_for("r.example") == Credentials("alice", "pass:word")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("print('locked', file=sys.stderr); sys.exit(1)", "docker-credential-test did not tell them: locked"),
        ("sys.exit(7)", "did not tell them: it exited with 7"),
        ("print('no')", "told none: it printed no JSON with Username and Secret"),
        ("print('[]')", "told none"),
        ("print('{}')", "told none"),
    ],
)
def test_a_bad_helper(config: Path, helper: Path, text: str, sentence: str) -> None:
    program(helper, text)
    write(config, credsStore="test")
    with pytest.raises(FetchError, match=sentence):
        credentials_for("r.example")


def test_a_helper_that_does_not_end(config: Path, helper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.fetching.credentials._HELPER_SECONDS", 2.0)
    program(helper, "time.sleep(60)")
    write(config, credsStore="test")
    with pytest.raises(FetchError, match=r"did not tell them: .* timed out"):
        credentials_for("r.example")


@pytest.mark.parametrize("name", ["not-installed", "../../bin/sh", "a b"])
def test_a_helper_that_is_not_here(config: Path, name: str) -> None:
    write(config, credsStore=name)
    with pytest.raises(FetchError, match=r"names the program 'docker-credential-.*', which is not here"):
        credentials_for("r.example")
