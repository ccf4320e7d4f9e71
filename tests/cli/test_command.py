"""The command as a whole: its help, its documents, and what it does without its extra."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import ROOT, command, environment, run, run_alone

_PAPER = ROOT / "asgi_wasm" / "cli" / "README.md"
_HELP = re.compile(r"(<!-- help: (\w*) -->\n```text\n)(.*?)(```\n)", re.DOTALL)
_WITHOUT_EXTRA = """
import importlib.util as util, sys
real = util.find_spec
util.find_spec = lambda name, package=None: None if name in ("typer", "rich") else real(name, package)
from asgi_wasm.cli import main
sys.exit(main())
"""


def commands(folder: Path) -> list[str]:
    shown = run("--help", cwd=folder).out
    return re.findall(r"^  (\w+)  ", shown.partition("Commands:\n")[2], re.MULTILINE)


def test_the_paper_has_the_help_of_every_command(tmp_path: Path) -> None:
    """`make papers` writes it."""
    paper = _PAPER.read_text(encoding="utf-8")
    made = _HELP.sub(lambda found: found[1] + run(*found[2].split(), "--help", cwd=tmp_path).out + found[4], paper)
    if os.environ.get("ASGI_WASM_WRITE_TABLES"):
        _PAPER.write_text(made, encoding="utf-8")
        paper = made
    empty = "a heading and an empty block, '<!-- help: NAME -->' and ```text ```, in asgi_wasm/cli/README.md"
    blocks = {found[1] for found in _HELP.findall(paper)}
    assert blocks == {"", *commands(tmp_path)}, f"each command has a block there: write {empty}, then run `make papers`"
    assert paper == made, "asgi_wasm/cli/README.md has not the help of today: run `make papers`"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("ins", ["inspect"]), ("re", ["request"]), ("test --to", ["--tolerance"]), ("new ass", ["assemblyscript"])],
)
def test_a_shell_completes(tmp_path: Path, typed: str, offered: list[str]) -> None:
    words = f"asgi-wasm {typed}"
    asked = {"_ASGI_WASM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert run(cwd=tmp_path, **asked).out.split() == offered


def test_every_command_has_an_example(tmp_path: Path) -> None:
    for name in commands(tmp_path):
        examples = run(name, "--help", cwd=tmp_path).out.partition("Example")[2]
        assert f"asgi-wasm {name}" in examples, (
            f"give {name} an example, below 'Example:' in its docstring (cli/app.py)"
        )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["frob"], "No such command 'frob'."),
        (["inspect"], "Missing argument 'plugin'."),
        (["inspect", "a.wasm", "--bad"], "No such option: --bad"),
        (["run", "a.wasm", "--port", "x"], "Invalid value for '--port': 'x' is no whole number"),
        (["cache", "--prune", "1.5"], "Invalid value for '--prune': '1.5' is no whole number"),
        (["test", "a", "--tolerance", "-1"], "Invalid value for '--tolerance': '-1' is no number from 0 on"),
        (["test", "a", "--tolerance", "nan"], "Invalid value for '--tolerance': 'nan' is no number from 0 on"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_command_line(arguments: list[str], sentence: str, as_json: bool) -> None:
    done = run(*arguments, *(["--json"] if as_json else []), cwd=Path())
    assert done.status == 2
    if as_json and arguments[0] in ("inspect", "cache", "test"):
        assert json.loads(done.out)["error"] == sentence
    assert as_json or (done.err.endswith(f"\nError: {sentence}\n") and not done.out)


@pytest.mark.parametrize("name", ["inspect", "request", "bench", "test"])
def test_json_is_json_also_of_a_failure(tmp_path: Path, name: str) -> None:
    done = run_alone(name, "none.wasm", "--json", cwd=tmp_path)
    assert done.status == 1
    assert json.loads(done.out)["error"] == done.err.rstrip("\n")


def test_its_version(tmp_path: Path) -> None:
    done = run_alone("--version", cwd=tmp_path)
    assert done.status == 0
    assert re.fullmatch(r"asgi-wasm \S+ \(wasmtime \d[\d.]*, (no )?accelerator, \w+ 3\.\S+, .+\)\n", done.out)


def without_extra(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-c", _WITHOUT_EXTRA, *arguments]
    return subprocess.run(
        given, cwd=folder, env=environment(), capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["inspect", "a.wasm"], ["compile", "--help"]])
def test_without_its_extra(tmp_path: Path, arguments: list[str]) -> None:
    done = without_extra(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'asgi-wasm[cli]'" in done.stderr


def test_compile_needs_no_extra(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("cache_dir: cache\n")
    assert without_extra(tmp_path, "compile", "s.yaml").returncode == 0
    done = without_extra(tmp_path, "compile", "none.yaml")
    assert (done.returncode, done.stderr) == (1, "settings file none.yaml does not exist\n")


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    """`asgi-wasm --help | head -1`"""
    process = subprocess.Popen(
        command("inspect", ROOT / "plugins" / "fault_injection" / "rust.wasm"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(60)
