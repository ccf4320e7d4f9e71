"""The quick starts of `sample_apps/README.md` as they stand there, under uvicorn, and the sample for containers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.extras import why_not
from tests.serving import ROOT, Server, serve

PAPER = (ROOT / "sample_apps" / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "asgi_wasm" / "OPERATIONS.md").read_text("utf-8")
CONTAINER = ROOT / "sample_apps" / "docker_app"


def block(name: str, paper: str = PAPER) -> str:
    """The code under ``<!-- file: NAME -->``."""
    found = re.search(rf"<!-- file: {re.escape(name)} -->\n```\w+\n(.*?)```", paper, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("framework", ["fastapi", "starlette", "litestar"])
def test_framework(tmp_path: Path, framework: str) -> None:
    if reason := why_not(framework):
        pytest.skip(reason)
    (tmp_path / "asgi-wasm.yaml").write_text(block("asgi-wasm.yaml"), "utf-8")
    (tmp_path / "main.py").write_text(block(framework), "utf-8")
    with serve("main:app", cwd=tmp_path) as server:
        assert httpx.get(server.url).json() == {"hello": "world"}
        teapot = httpx.get(f"{server.url}/teapot")
        assert (teapot.status_code, teapot.text) == (418, "I am a teapot")


@pytest.mark.skipif(bool(why_not("django")), reason=why_not("django"))
def test_django(tmp_path: Path) -> None:
    """A project as `django-admin` makes it."""
    subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", "."], cwd=tmp_path, check=True)
    (tmp_path / "asgi-wasm.yaml").write_text(block("asgi-wasm.yaml"), "utf-8")
    made = tmp_path / "mysite" / "asgi.py"
    text = made.read_text("utf-8").replace("application = get_asgi_application()\n", block("django"))
    made.write_text(text, "utf-8")
    with serve("mysite.asgi:application", cwd=tmp_path) as server:
        assert "The install worked successfully" in httpx.get(server.url).text
        teapot = httpx.get(f"{server.url}/teapot")
        assert (teapot.status_code, teapot.text) == (418, "I am a teapot")


@pytest.mark.skipif(bool(why_not("fastapi")), reason=why_not("fastapi"))
def test_logs_as_json(tmp_path: Path) -> None:
    """Each line is JSON, a plugin's has its fields, and the logger of plugin ``waf`` is kept to WARNING."""
    for name in ("jsonlog.py", "log.yaml"):
        (tmp_path / name).write_text(block(name, OPERATIONS), "utf-8")
    queue = ROOT / "plugins" / "queue" / "rust.wasm"
    plugins = [{"name": name, "file": str(queue)} for name in ("waf", "other")]
    (tmp_path / "asgi-wasm.yaml").write_text(yaml.safe_dump({"plugins": plugins}), "utf-8")
    (tmp_path / "main.py").write_text(block("fastapi"), "utf-8")
    with serve("main:app", "--log-config", "log.yaml", cwd=tmp_path) as server:
        httpx.get(server.url, headers={"x-request-id": "r1"})
        server.logs("queue: dequeued")
        lines = [json.loads(line) for line in server.log().splitlines()]
    starts = [line["plugin"] for line in lines if ", started in " in line["message"]]
    assert sorted(starts) == ["other", "waf"]
    said = [line for line in lines if "queue:" in line["message"]]
    assert {(line["plugin"], line["logger"]) for line in said} == {("other", "asgi_wasm.plugin.other")}
    assert all(line.keys() >= {"at", "level", "request_id", "context_id", "vm_id"} for line in said)


README = (ROOT / "README.md").read_text("utf-8")


def in_readme(pattern: str) -> str:
    """The first block of the README that begins so."""
    found = re.search(rf"```\w+\n({pattern}.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_ten_lines(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(in_readme("from fastapi"), "utf-8")
    with serve("main:app", cwd=tmp_path) as server:
        answer = httpx.get(server.url)
        assert (answer.status_code, answer.text) == (503, "try later")


def test_ten_lines_of_settings(tmp_path: Path) -> None:
    """In the middleware's own words: the route's conf is there, and a tenth of its requests get it."""
    (tmp_path / "asgi-wasm.yaml").write_text(in_readme("plugins:"), "utf-8")
    (tmp_path / "main.py").write_text(block("fastapi"), "utf-8")
    with serve("main:app", cwd=tmp_path) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/").status_code == 200
        statuses = [client.get(f"/orders/{number}").status_code for number in range(200)]
        # None of 200 by chance: once in 1.4 billion runs.
        assert set(statuses) == {404, 503}


@pytest.fixture(scope="module")
def container() -> Iterator[Server]:
    with serve("main:app", cwd=CONTAINER) as server:
        yield server


def test_container_serves(container: Server) -> None:
    assert httpx.get(f"{container.url}/api/hello").json() == {"hello": "world"}
    assert httpx.get(f"{container.url}/api/teapot").status_code == 418


def test_what_kubernetes_asks_is_there(container: Server) -> None:
    deployment, service = yaml.safe_load_all((CONTAINER / "kubernetes.yaml").read_text("utf-8"))
    (pod,) = deployment["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = pod[probe]["httpGet"]
        assert asked["port"] == pod["ports"][0]["containerPort"] == service["spec"]["ports"][0]["targetPort"]
        assert httpx.get(f"{container.url}{asked['path']}").status_code == 200
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels


def test_dockerfile_copies_what_is_there() -> None:
    text = (CONTAINER / "Dockerfile").read_text("utf-8")
    copied = [words.split()[1:-1] for words in text.splitlines() if words.startswith("COPY ") and "--from" not in words]
    assert [name for names in copied for name in names if not (ROOT / name).exists()] == []
