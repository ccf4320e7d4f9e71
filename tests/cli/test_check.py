"""`asgi-wasm check`: all mistakes at once, each where it stands, as a start would find them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import PLUGINS, run
from tests.extras import why_not
from tests.serving import dead_port

MISTAKES = """\
plugins:
  - name: waf
    file: waf.wasm
    prioritty: 3
  - name: b.c
    failure_policy: sometimes
    file: x.wasm
routes:
  - uri: /x
    plugins:
      other: {conf: 3}
upstreams:
  auth: ftp://auth
limits:
  memory: -1
"""
RUST = PLUGINS / "fault_injection" / "rust.wasm"


def settings(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(f"cache_dir: {folder / 'cache'}\n{text}")
    return path


def test_every_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(MISTAKES)
    done = run("check", "some.yaml", cwd=tmp_path)
    assert done.status == 1
    for start in (
        "some.yaml:4: plugins.waf: unknown key 'prioritty'; did you mean 'priority'?",
        "some.yaml:6: plugins.b.c.failure_policy: ",
        "some.yaml:11: routes[0].plugins.other: no plugin is called 'other'",
        "some.yaml:13: upstreams.auth.url: ",
        "some.yaml:15: limits.memory: ",
    ):
        assert any(line.startswith(start) for line in done.err.splitlines()), (start, done.err)
    assert "5 mistakes: a server would not start" in done.out


def test_mistakes_of_the_environment_have_no_line(tmp_path: Path) -> None:
    shown = json.loads(run("check", "--json", cwd=tmp_path, ASGI_WASM_ENGINE="v8").out)
    (finding,) = [finding for finding in shown["findings"] if finding["level"] == "error"]
    assert (finding["file"], finding["line"], finding["key"]) == ("the environment", None, "engine")
    assert shown["ok"] is False


def test_plugins_are_loaded_started_and_configured(tmp_path: Path) -> None:
    path = settings(
        tmp_path,
        f"plugins:\n- name: missing\n  file: none.wasm\n- name: open\n  file: none.wasm\n  failure_policy: fail_open\n"
        f'- name: refuses\n  file: {RUST}\n  conf: \'{{"http_status": "x"}}\'\n'
        f"- name: good\n  file: {RUST}\n  conf: {{}}\n",
    )
    done = run("check", path, "--json", cwd=tmp_path)
    shown = json.loads(done.out)
    assert done.status == 1
    assert {row["name"]: row["state"] for row in shown["plugins"]} == {
        "missing": "refused",
        "open": "refused",
        "refuses": "refused",
        "good": "started",
    }
    # What the host says of itself, as of an accelerator of other sources, is about no plugin.
    found = {finding["plugin"]: finding for finding in shown["findings"] if finding["plugin"]}
    assert {name: (found[name]["level"], found[name]["line"]) for name in found} == {
        "missing": ("error", 4),
        "open": ("warning", 6),
        "refuses": ("error", 10),
    }
    assert "http_status is not an integer" in found["refuses"]["problem"]
    # Nothing is said twice.
    assert run("check", path, cwd=tmp_path).err.count("http_status is not an integer") == 1


@pytest.mark.skipif(bool(why_not("redis")), reason=why_not("redis"))
def test_a_store_that_does_not_answer(tmp_path: Path) -> None:
    """A server would start, and its plugins' hostcalls be refused."""
    with dead_port() as port:
        path = settings(
            tmp_path,
            f"shared_data: redis://127.0.0.1:{port}/0\nplugins:\n- {{name: good, file: {RUST}, conf: {{}}}}\n",
        )
        done = run("check", path, cwd=tmp_path)
    assert done.status == 0
    assert done.out.count(f"warning: shared_data redis://127.0.0.1:{port}/0 does not answer") == 1
    assert "a server would start" in done.out


def test_without_a_start(tmp_path: Path) -> None:
    path = settings(tmp_path, f'plugins:\n- name: refuses\n  file: {RUST}\n  conf: \'{{"http_status": "x"}}\'\n')
    done = run("check", path, "--no-start", cwd=tmp_path)
    assert done.status == 0
    assert "a server would start" in done.out
    path = settings(tmp_path, "plugins:\n- name: missing\n  file: none.wasm\n")
    assert run("check", path, "--no-start", cwd=tmp_path).status == 1


def test_no_settings_at_all(tmp_path: Path) -> None:
    done = run("check", cwd=tmp_path)
    assert done.status == 0
    assert "no plugin is configured" in done.out


def test_what_is_off_is_told(tmp_path: Path) -> None:
    path = settings(tmp_path, "plugins:\n- {name: guard, file: none.wasm, enabled: false}\n")
    done = run("check", path, cwd=tmp_path)
    assert done.status == 0
    assert "off, because the settings say enabled: false: guard" in done.out
    assert "no plugin is configured" not in done.out


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("plugins: [\n")
    done = run("check", "some.yaml", cwd=tmp_path)
    assert done.status == 1
    assert "some.yaml:2: cannot be read: line 2" in done.err
    assert run("check", "none.yaml", cwd=tmp_path).status == 1


TOML = '''
engine = "wasmtime"
[[plugins]]
name = "a"
# A text of several lines:
file = """
a.wasm"""

[[plugins]]
name = "b.c"
file = "b.wasm"
priority = "high"
frob = 1

[upstreams]
auth = "nowhere"
'''


@pytest.mark.parametrize("name", ["asgi-wasm.toml", "pyproject.toml"])
def test_lines_of_toml(in_tmp_path: None, name: str) -> None:
    text = TOML
    if name == "pyproject.toml":
        for table in ("plugins", "upstreams"):
            text = text.replace(f"[{table}]", f"[tool.asgi-wasm.{table}]")
        text = text.replace("engine", "[tool.asgi-wasm]\nengine", 1).replace("\n", "", 1)
    Path(name).write_text(text)
    done = run("check", cwd=Path())
    assert sorted(done.err.splitlines(), key=len)[0].startswith(name)
    assert {line.partition(": ")[0]: line.split(": ")[1] for line in done.err.splitlines()} == {
        f"{name}:12": "plugins.b.c.priority",
        f"{name}:13": "plugins.b.c",
        f"{name}:16": "upstreams.auth.url",
    }
    Path(name).write_text("[plugins\n")
    assert run("check", cwd=Path()).err.startswith(f"{name}:1: cannot be read: ")


def test_a_file_of_a_plugin_is_pointed_at_once(in_tmp_path: None) -> None:
    Path("deploy").mkdir()
    path = settings(Path("deploy"), "plugins:\n- name: a\n  priority: 1\n  file: none.wasm\n")
    done = run("check", path, cwd=Path())
    assert done.err == (
        f"{path}:5: plugins.a.file: {Path.cwd() / 'deploy' / 'none.wasm'}: "
        "cannot be read (No such file or directory): check the path\n"
    )
