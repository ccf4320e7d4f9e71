"""`asgi-wasm new`: what it makes is whole, and builds where the compiler is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import PLUGINS, environment, run

LANGUAGES = ["rust", "go", "c", "assemblyscript"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_it_makes(tmp_path: Path, language: str) -> None:
    done = run("new", language, "my-plugin", cwd=tmp_path)
    assert done.status == 0
    assert "./build" in done.out
    tested = "asgi-wasm test tests.textpb --conf /admin --root-id my-plugin"
    # What watches needs an extra of its own.
    installed = "pip install 'asgi-wasm[cli,testing,watch]'"
    assert tested in done.out and installed in done.out
    folder = tmp_path / "my-plugin"
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert {"README.md", "build", "test_plugin.py", "tests.textpb", ".gitignore", ".github/workflows/ci.yml"} <= {
        *files
    }
    assert not [name for name, text in files.items() if "@NAME@" in text or "@MODULE@" in text or "@SETUP@" in text]
    assert os.access(folder / "build", os.X_OK)
    assert len(files["README.md"].splitlines()) <= 12
    assert tested in files["README.md"] and installed in files["README.md"]
    # Names of functions stay: a trap tells where it was by them.
    assert "-s -w" not in files["build"] and "strip-all" not in files["build"]
    own_tests = {"rust": ("src/lib.rs", "#[cfg(test)]"), "go": ("main_test.go", "proxytest")}
    if language in own_tests:
        file, words = own_tests[language]
        assert words in files[file]
    compile(files["test_plugin.py"], "test_plugin.py", "exec")


def test_the_header_of_c_is_that_of_the_plugins(tmp_path: Path) -> None:
    run("new", "c", "p", cwd=tmp_path)
    assert (tmp_path / "p" / "proxy_wasm.h").read_text() == (PLUGINS / "include" / "proxy_wasm.h").read_text()


# Zig compiles its C library first.
@pytest.mark.timeout(400)
def test_built_and_tested_both_ways(tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang, which compiles C, is not installed: pip install ziglang==0.17.1")
    run("new", "c", "my-plugin", "--folder", "below", cwd=tmp_path)
    folder = tmp_path / "below" / "my-plugin"
    env = environment(PYTHON=sys.executable)
    subprocess.run(["./build"], cwd=folder, env=env, check=True, timeout=300)
    options = ("-q", "-p", "no:asgi_wasm", "-p", "asgi_wasm.testing.pytest_plugin")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert "2 passed" in tested.stdout, tested.stdout
    done = run("test", "tests.textpb", "--conf", "/admin", "--root-id", "my-plugin", cwd=folder)
    assert "2 passed, 0 failed" in done.out
    refused = run("request", "my-plugin.wasm", "--conf", "admin", cwd=folder)
    assert "conf must be a path, as /admin" in refused.err


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_compiler_that_is_missing(tmp_path: Path, language: str) -> None:
    run("new", language, "p", cwd=tmp_path)
    (tmp_path / "bin").mkdir()
    for program in ("sh", "dirname", "env"):
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"there is no {program} here, which the build needs")
        (tmp_path / "bin" / program).symlink_to(found)
    done = subprocess.run(
        ["./build"], cwd=tmp_path / "p", env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert " needed: " in done.stderr and done.stderr.count("\n") <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cobol", "p"], "'cobol' is no language that there is a start for: choose rust, go, c, assemblyscript"),
        (["c", "My Plugin"], "'My Plugin' is no name for a plugin"),
        (["c", "../p"], "is no name for a plugin"),
        (["c", "there"], "there is there already"),
        (["c", "p", "--folder", "file"], "cannot be made"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    done = run("new", *arguments, cwd=tmp_path)
    assert done.status == 1
    assert words in done.err and done.err.count("\n") == 1
