"""Files that are there and are no settings: a sentence that names them, or a start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asgi_wasm.errors import SettingsError
from asgi_wasm.settings import load
from asgi_wasm.settings.files import MAX_BYTES, shown

PLUGINS = "plugins: [{name: waf, file: waf.wasm}]\n"
TOML = '[[plugins]]\nname = "waf"\nfile = "waf.wasm"\n'


@pytest.fixture(autouse=True)
def _here(folder: Path) -> None:
    """Every test has a folder of its own to be in."""


def mistake() -> str:
    with pytest.raises(SettingsError) as caught:
        load()
    return str(caught.value)


def names() -> list[str]:
    return [plugin.name for plugin in load().plugins]


@pytest.mark.parametrize("name", ["asgi-wasm.yaml", "asgi-wasm.toml", ".env", "pyproject.toml"])
def test_what_is_no_file(name: str) -> None:
    path = Path(name)
    made: list[tuple[Callable[[], object], str]] = [
        (lambda: path.symlink_to("nowhere"), "is a link to nothing"),
        (lambda: path.symlink_to(path), "cannot be read"),
        (path.mkdir, "is a directory"),
        (lambda: os.mkfifo(path), "is no regular file"),
        (lambda: path.symlink_to("/dev/zero"), "is no regular file"),
    ]
    for make, problem in made:
        make()
        assert problem in mistake()
        assert name in mistake()
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_file_that_has_no_end_of_its_own() -> None:
    with Path("asgi-wasm.yaml").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    assert mistake() == "settings file asgi-wasm.yaml is larger than 16 MiB: it is no settings file".replace(
        "asgi-wasm.yaml", str(Path.cwd() / "asgi-wasm.yaml")
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str) -> None:
    Path("asgi-wasm.yaml").write_text(f"# ä\n{PLUGINS}", encoding)
    assert names() == ["waf"]


@pytest.mark.parametrize("name", ["asgi-wasm.yaml", "asgi-wasm.toml", "pyproject.toml"])
def test_bytes_that_are_no_text(name: str) -> None:
    Path(name).write_bytes(b"# one\n# caf\xe9\n")
    assert mistake() == f"{name}: line 2 has the byte 0xe9, which is no UTF-8: save it as UTF-8"


@pytest.mark.parametrize("text", ["a" + "[" * 5000, "[" * 5000 + "]" * 5000, "{a: " * 3000])
def test_a_file_that_is_nested_too_deeply(text: str) -> None:
    Path("asgi-wasm.yaml").write_text(text)
    assert mistake().startswith("asgi-wasm.yaml: ")


@pytest.mark.parametrize("text", ["- a\n", "a\n", "1: 2\n", "? [a]\n: 1\n", "null: 1\n"])
def test_a_file_that_is_no_mapping_of_words(text: str) -> None:
    Path("asgi-wasm.yaml").write_text(text)
    assert mistake().startswith("asgi-wasm.yaml: ")


def test_an_empty_file_says_nothing() -> None:
    Path("asgi-wasm.yaml").write_text("\n")
    assert names() == []


def test_a_secret_beside_a_mistake_is_not_shown() -> None:
    Path("asgi-wasm.yaml").write_text('shared_data: "redis://:s3cr3t@host\nplugins: [}\n')
    assert "s3cr3t" not in mistake()
    assert "asgi-wasm.yaml: cannot be read: line " in mistake()


# --- .env


def test_dotenv_of_another_program() -> None:
    Path(".env").write_bytes(b"TITLE=caf\xe9\nthis is 'no line\n")
    assert names() == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"ASGI_WASM_ENGINE=wasmtime\nTITLE=caf\xe9\n", ".env: line 2 has the byte 0xe9"),
        (b"A=1\nASGI_WASM_ENGINE='wasmtime\n", ".env: line 2 cannot be parsed: write NAME=value"),
        (b"ASGI_WASM_ENGINE=wasmtime\nasgi_wasm_engine=null\n", ".env: asgi_wasm_engine: is the same setting as"),
    ],
)
def test_dotenv_with_a_mistake(content: bytes, problem: str) -> None:
    Path(".env").write_bytes(content)
    assert problem in mistake()


def test_dotenv_names_the_settings_file() -> None:
    Path(".env").write_text("ASGI_WASM_CONFIG=other.yaml\n")
    assert "other.yaml (named by ASGI_WASM_CONFIG) does not exist" in mistake()
    Path("other.yaml").write_text(PLUGINS)
    assert names() == ["waf"]


def test_the_environment_wins_over_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("ASGI_WASM_CONFIG=other.yaml\n")
    Path("third.yaml").write_text(PLUGINS)
    monkeypatch.setenv("ASGI_WASM_CONFIG", "third.yaml")
    assert names() == ["waf"]


# --- the environment


def test_two_spellings_of_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_WASM_ENGINE", "wasmtime")
    monkeypatch.setenv("ASGI_WASM_engine", "wasmtime")
    assert "is the same setting as ASGI_WASM_ENGINE: keep one of them" in mistake()


@pytest.mark.parametrize(
    "name",
    [
        *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT"),
        *("PORT_8000_TCP", "PORT_8000_TCP_PROTO", "PORT_8000_TCP_PORT", "PORT_8000_TCP_ADDR", "PORT_53_UDP"),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_our_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"ASGI_WASM_{name}", "tcp://10.0.0.1:8000")
    assert names() == []


@pytest.mark.parametrize("text", ["[" * 5000, "{" * 5000, '{"a": ' * 5000])
def test_a_variable_that_is_nested_too_deeply(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ASGI_WASM_LIMITS", text)
    assert "environment variable ASGI_WASM_LIMITS: is no JSON" in mistake()


def test_what_a_message_shows_of_a_name() -> None:
    assert shown("a\n\x1b[31m\ud800") == "a\\n\\x1b[31m\\ud800"
    assert len(shown("x" * 10_000)) == 201


def test_seconds_as_envoy_has_them(folder: Path) -> None:
    (folder / "asgi-wasm.yaml").write_text("drain_timeout: 1.5s\nupstreams: {a: {url: 'http://a', timeout: 0.25s}}\n")
    spec = load()
    assert (spec.drain_timeout, spec.upstreams[0].timeout) == (1.5, 0.25)
