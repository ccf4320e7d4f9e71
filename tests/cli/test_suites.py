"""`asgi-wasm test`: suites in the format of Google's tester, over real plugins."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.host.abi import LogLevel
from asgi_wasm.specs import PluginSpec
from asgi_wasm.testing.suites.stage import Stage
from asgi_wasm.worker.loading import compile_plugin
from tests.cli.running import PLUGINS, run, run_alone

FAULT = PLUGINS / "fault_injection" / "rust.wasm"
TEAPOT = '{"http_status": 418, "body": "no"}'
SUITE = """
test {
  name: "Answers"
  request_headers {
    input { header { key: ":path" value: "/x" } }
    result {
      immediate { http_status: 418 details: "" }
      body { exact: "no" }
      has_header { key: "X-Wasm-Plugin" value: "fault_injection/rust" }
      no_header { key: "x-other" }
      headers { regex: "x-wasm-.*: .*" }
      log { regex: ".*" invert: true }
    }
  }
}
"""


def failures(folder: Path, text: str, plugin: Path, conf: str = "", *more: str) -> dict[str, list[str]]:
    (folder / "tests.textpb").write_text(text)
    arguments = ["tests.textpb", "--plugin", str(plugin), "--conf", conf, "--json", *more]
    done = run("test", *arguments, cwd=folder)
    results = json.loads(done.out)
    assert done.status == any(result["failures"] for result in results)
    return {result["name"]: result["failures"] for result in results}


@pytest.mark.parametrize("language", ["rust", "go", "c"])
def test_a_plugin_of_each_language(tmp_path: Path, language: str) -> None:
    text = SUITE.replace("/rust", f"/{language}")
    assert failures(tmp_path, text, PLUGINS / "fault_injection" / f"{language}.wasm", TEAPOT) == {"Answers": []}


def test_expectations_that_are_not_met(tmp_path: Path) -> None:
    text = """
    test { name: "status" request_headers { result { immediate { http_status: 200 grpc_status: 3 details: "x" } } } }
    test { name: "none" request_headers { result { } } }
    test { name: "headers" request_headers { result {
      immediate { } has_header { key: "a" value: "b" } has_header { key: "x-wasm-plugin" value: "other" }
      no_header { key: "X-Wasm-Plugin" } headers { exact: "a: b" } } } }
    test { name: "body" request_headers { result { immediate { } body { regex: "y." } body { exact: "no" invert: true }
      body { regex: "[" } body { } } } }
    test { name: "log" request_headers { result { immediate { } log { exact: "words" } } } }
    test { name: "after" request_headers { result { immediate { } } } response_headers { result { immediate { } } } }
    """
    found = failures(tmp_path, text, FAULT, TEAPOT)
    assert {name: [line.partition("] ")[2] for line in lines] for name, lines in found.items()} == {
        "status": [
            "http_status is 418, expected 200",
            "grpc_status is 4294967295, expected 3",
            "details is '', expected 'x'",
        ],
        "none": ["expected no immediate response"],
        "headers": [
            "missing header 'a'",
            "header 'x-wasm-plugin' is 'fault_injection/rust', expected 'other'",
            "header 'X-Wasm-Plugin' is 'fault_injection/rust', expected none",
            "header: expected 'a: b', found 'x-wasm-plugin: fault_injection/rust'",
        ],
        "body": [
            "body: expected regex 'y.', found 'no'",
            "body: expected no 'no', found 'no'",
            "bad regex '[': unterminated character set at position 0",
            "a matcher of body says neither exact nor regex nor file",
        ],
        "log": ["log: expected 'words', found nothing"],
        "after": ["expected an immediate response"],
    }


def test_headers_of_a_plugin(tmp_path: Path) -> None:
    text = r"""
    test { name: "changed"
      request_headers {
        input { content: "GET /old HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n" }
        result { has_header { key: ":path" value: "/new" } has_header { key: "x-seen-authority" value: "a.test" }
                 no_header { key: "x-a" } has_header { key: "X-Seen-End-Of-Stream" value: "false" } } }
      response_headers {
        input { content: "HTTP/1.1 404 Not Found\r\nX-B: 2\r\n" }
        result { has_header { key: "x-seen-status" value: "404" } has_header { key: "c" value: "3" } } } }
    test { name: "url"
      request_headers {
        input { content: "GET https://b.test:1/p?q HTTP/1.1\r\nHost: a.test\r\n" }
        result { has_header { key: "x-seen-path" value: "/p?q" } has_header { key: "x-seen-scheme" value: "https" }
                 has_header { key: "x-seen-authority" value: "b.test:1" } } } }
    test { name: "from a file" request_headers { input { file: "head.txt" } result { no_header { key: "x-a" } } } }
    test { name: "bad" request_headers { input { content: "nonsense" } } }
    """
    (tmp_path / "head.txt").write_text("GET / HTTP/1.1\nx-a: 1\n")
    conf = '{"request": {"remove": ["x-a"]}, "response": {"add": {"c": "3"}}, "path": "/new"}'
    found = failures(tmp_path, text, PLUGINS / "headers" / "rust.wasm", conf)
    assert found["changed"] == found["url"] == found["from a file"] == []
    assert found["bad"] == ["[request_headers] the content 'nonsense' is no head of an HTTP message"]


def test_bodies_in_pieces(tmp_path: Path) -> None:
    text = """
    test { name: "count" num_chunks: 3
      request_body { input { content: "abcdefgh" } result { body { exact: "AbCdEfgh" } } } }
    test { name: "size" chunk_size: 3 response_body { input { file: "body.txt" } result { body { file: "out.txt" } } } }
    test { name: "several" request_body { input { content: "a" } result { body { exact: "A" } } }
                           request_body { input { content: "b" } result { body { exact: "B" } } } }
    test { name: "both" num_chunks: 2 request_body { } request_body { } }
    test { name: "nothing" num_chunks: 0 request_body { } }
    test { name: "missing" request_body { input { file: "none.txt" } } }
    """
    (tmp_path / "body.txt").write_text("abcdefgh")
    (tmp_path / "out.txt").write_text("AbcDefGh")
    found = failures(tmp_path, text, PLUGINS / "body" / "c.wasm", "change")
    assert found.pop("both") == ["[request_body] a plan of chunks goes with one invocation"]
    assert found.pop("nothing") == ["[request_body] num_chunks or chunk_size must be greater than 0"]
    assert "file 'none.txt' cannot be read" in found.pop("missing")[0]
    assert found == {"count": [], "size": [], "several": []}


def test_phases_logs_levels_and_properties(tmp_path: Path) -> None:
    text = """
    env { log_level: INFO }
    test { name: "life"
      plugin_init { log { regex: "on_vm_start.*" } log { regex: "on_configure.*" } }
      stream_init { log { regex: "on_context_create.*" } }
      request_headers { result { log { regex: "on_request_headers.*" } log { regex: "on_log.*" invert: true } } }
      stream_destroy { log { regex: "on_done.*" } log { regex: "on_delete.*" } } }
    """
    assert failures(tmp_path, text, PLUGINS / "lifecycle" / "abi_0_2_1.wasm") == {"life": []}
    quiet = text.replace("INFO", "CRITICAL")
    assert failures(tmp_path, quiet, PLUGINS / "lifecycle" / "abi_0_2_1.wasm")["life"]
    count = """
    test { name: "path" properties { path: "request.path" value: "/p" } properties { path: "my.own" value: "x" }
      request_headers { result { log { regex: ".*get_property.*" invert: true } } } }
    """
    assert failures(tmp_path, count, PLUGINS / "headers" / "rust.wasm", "{}") == {"path": []}


def test_a_plugin_that_does_not_start_or_traps(tmp_path: Path) -> None:
    text = 'test { name: "one" request_headers { } }'
    assert "http_status is not an integer" in failures(tmp_path, text, FAULT, '{"http_status": 1}')["one"][0]
    probe = PLUGINS / "probe" / "abi_0_2_1.wasm"
    assert failures(tmp_path, text, probe, "request_headers: trap")["one"][0].startswith(
        "[request_headers] the VM failed"
    )


def test_yaml_and_paths_of_the_suite(tmp_path: Path) -> None:
    (tmp_path / "plugin.wasm").write_bytes(FAULT.read_bytes())
    (tmp_path / "conf.json").write_text(TEAPOT)
    (tmp_path / "my_tests.yaml").write_text(
        "env: {wasm_path: plugin.wasm, config_path: conf.json, log_level: TRACE, time_secs: '5'}\n"
        "test:\n- name: Answers\n  benchmark: 'true'\n  request_headers:\n    result:\n"
        "      immediate: {http_status: 418}\n      body: [{exact: 'no'}]\n"
    )
    (tmp_path / "old.textpb").write_text('runtime { wasm_path: "plugin.wasm" config_path: "conf.json" }' + SUITE)
    done = run("test", ".", "--junit", "report.xml", cwd=tmp_path)
    assert (done.status, done.out.splitlines()[-1]) == (0, "2 passed, 0 failed")
    cases = ElementTree.parse(tmp_path / "report.xml").findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["Answers", "Answers"]


def test_a_report_of_failures(tmp_path: Path) -> None:
    (tmp_path / "tests.textpb").write_text('test { name: "one" request_headers { } }')
    done = run("test", "tests.textpb", "--plugin", FAULT, "--conf", TEAPOT, "--junit", "report.xml", cwd=tmp_path)
    assert done.status == 1
    assert "FAILED  tests.textpb::one" in done.out and "0 passed, 1 failed" in done.out
    failure = ElementTree.parse(tmp_path / "report.xml").find("testsuite/testcase/failure")
    assert failure is not None and failure.get("message") == "[request_headers] expected no immediate response"


def test_a_report_of_what_xml_cannot_hold(in_tmp_path: None) -> None:
    Path("tests.textpb").write_text('test { name: "a\\001b" request_headers { result { log { exact: "a" } } } }')
    plugin = PLUGINS / "lifecycle" / "abi_0_2_1.wasm"
    done = run("test", "tests.textpb", "--plugin", plugin, "--conf", "a\1b", "--junit", "report.xml", cwd=Path())
    assert done.status == 1
    case = ElementTree.parse("report.xml").find("testsuite/testcase")
    assert case is not None and case.get("name") == "a\\x01b" and "a\\x01b" in (case.findtext("system-out") or "")


def test_a_file_that_cannot_be_run_stops_no_other(in_tmp_path: None) -> None:
    Path("a.textpb").write_text('env { wasm_path: "none.wasm" } test { name: "never" }')
    Path("plugin.wasm").write_bytes(FAULT.read_bytes())
    Path("b.textpb").write_text('env { wasm_path: "plugin.wasm" } test { name: "refused" }')
    done = run("test", ".", "--junit", "report.xml", cwd=Path())
    assert done.status == 1 and done.err == ""
    assert "a.textpb: its wasm_path 'none.wasm' is no file" in done.out and "FAILED  b.textpb::refused" in done.out
    assert done.out.endswith("0 passed, 2 failed\n")
    assert len(ElementTree.parse("report.xml").findall("testsuite/testcase/failure")) == 2


def test_baselines_of_benchmarks(tmp_path: Path) -> None:
    suite = """
    test { name: "quick" benchmark: true num_chunks: 2
      request_headers { input { header { key: ":path" value: "/" } } }
      request_body { input { content: "abcd" } result { body { exact: "AbCd" } } } }
    test { name: "no benchmark" request_headers { } }
    """
    (tmp_path / "tests.textpb").write_text(suite)
    given = ["test", "tests.textpb", "--plugin", str(PLUGINS / "body" / "c.wasm"), "--conf", "change"]
    written = run(*given, "--update", cwd=tmp_path)
    assert written.status == 0 and "wrote tests.baselines.json" in written.out and " hostcalls; memory " in written.out
    file = tmp_path / "tests.baselines.json"
    costs = json.loads(file.read_text())
    assert list(costs) == ["c.wasm"] and list(costs["c.wasm"]) == ["quick"]
    quick = costs["c.wasm"]["quick"]
    assert quick["hostcalls"] > 0 and quick["microseconds"] > 0 and quick["memory"] > 0
    assert run(*given, "--tolerance", "0", cwd=tmp_path).status == 0
    costs["other.wasm"] = {"quick": {"hostcalls": 0, "microseconds": 0.1, "memory": 1}}
    for name, value, words in (
        ("hostcalls", quick["hostcalls"] - 1, "hostcalls, "),
        ("memory", quick["memory"] - 1, "bytes of memory, "),
        ("microseconds", quick["microseconds"] / 1000, "times, where --tolerance allows 2"),
    ):
        file.write_text(json.dumps({**costs, "c.wasm": {"quick": {**quick, name: value}}}))
        done = run(*given, cwd=tmp_path)
        assert done.status == 1 and words in done.out and "run it with --update" in done.out
    # Those of another plugin stay.
    assert run(*given, "--update", cwd=tmp_path).status == 0
    assert json.loads(file.read_text())["other.wasm"] == costs["other.wasm"]
    file.write_text('{"c.wasm": 1}')
    assert run(*given, cwd=tmp_path).err.startswith("tests.baselines.json: is no file of baselines")


def test_a_log_of_its_own(tmp_path: Path) -> None:
    """It is appended; standard output shows it, but not where JSON is."""
    plugin = PLUGINS / "lifecycle" / "abi_0_2_1.wasm"
    for path, shown in (("plugin.log", False), ("/dev/stdout", True)):
        suite = f'env {{ log_path: "{path}" log_level: TRACE }} test {{ name: "a" request_headers {{ }} }}'
        (tmp_path / "tests.textpb").write_text(suite)
        for _ in range(2):
            done = run_alone("test", "tests.textpb", "--plugin", plugin, cwd=tmp_path)
            assert done.status == 0, done
            assert ("log: " in done.out) is shown
        json.loads(run("test", "tests.textpb", "--plugin", plugin, "--json", cwd=tmp_path).out)
    lines = (tmp_path / "plugin.log").read_text().splitlines()
    assert len(lines) >= 3 and len(lines) % 3 == 0
    (tmp_path / "tests.textpb").write_text('env { log_path: "none/x" } test { name: "a" }')
    done = run("test", "tests.textpb", "--plugin", plugin, cwd=tmp_path)
    assert done.status == 1 and "log_path 'none/x' cannot be written: No such file" in done.err


def test_other_streams_meanwhile(tmp_path: Path) -> None:
    """Each has a context in the same VM, so its memory is more."""
    suite = 'env { num_additional_streams: %d additional_stream_advance_rate: 2 } test { name: "a" benchmark: true %s }'
    body = f'request_body {{ input {{ content: "{"x" * 1000}" }} }}'
    memory = []
    for count in (0, 2000):
        (tmp_path / "tests.textpb").write_text(suite % (count, "request_headers { } " + body))
        done = run("test", "tests.textpb", "--plugin", PLUGINS / "headers" / "rust.wasm", "--json", cwd=tmp_path)
        (result,) = json.loads(done.out)
        assert result["failures"] == []
        memory.append(result["benchmark"]["memory"])
    assert memory[1] > memory[0]


def test_each_stream_is_a_new_one(tmp_path: Path) -> None:
    """None is skipped since the one before was answered: benchmarks have thousands."""
    spec = PluginSpec(name="fault", file=FAULT, conf=TEAPOT.encode())
    code, _ = compile_plugin(WasmtimeEngine(), spec, ModuleCache(tmp_path))
    stage = Stage(spec, code, level=LogLevel.INFO, seconds=0, properties={})
    beside = stage.beside()
    for each in (stage, beside, stage):
        each.open()
        answer = each.headers(0, [(b":path", b"/")]).immediate
        assert answer is not None and answer.status_code == 418
        each.close_stream()
    stage.close()
