"""The house as it is to stay: files and functions that fit on a screen or six, and a test that can be found for each.

What is in the lists of exceptions is to become less: an entry that is not needed any more fails here, too.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.test_imports import PACKAGE

TESTS = Path(__file__).resolve().parent
MOST_FILE_LINES = 300
MOST_FUNCTION_LINES = 40

_HEADING = "## Modules without a test of their own name"
# Its table: paths of modules, then the files or folders of tests, all in backquotes.
_ROW = re.compile(r"^\| ((?:`[\w/]+\.py`(?:, )?)+) \| ((?:`[\w/.]+`(?:, )?)+)", re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")


def sources(root: Path = PACKAGE) -> Iterator[tuple[str, str]]:
    """Path within the package, or within another folder, and text, of each module that has any code."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def long_files(root: Path) -> set[str]:
    return {name for name, source in sources(root) if len(source.splitlines()) > MOST_FILE_LINES}


def nodes_of(source: str) -> list[ast.AST]:
    return [*ast.walk(ast.parse(source))]


def long_functions(nodes: Sequence[ast.AST]) -> list[str]:
    functions = (node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return [each.name for each in functions if (each.end_lineno or 0) - each.lineno >= MOST_FUNCTION_LINES]


# Finder -> what it finds in which file.
Found = dict[Callable[[Sequence[ast.AST]], Sequence[object]], dict[str, Sequence[object]]]


@pytest.fixture(scope="module")
def found() -> Found:
    """What is looked for in code, in the package long functions alone. To parse a file takes time: it is done once."""
    finders = (long_functions, hasty_checks, hasty_waits, hasty_looks)
    everywhere: Found = {finder: {} for finder in finders}
    for root, wanted in ((PACKAGE, finders[:1]), (TESTS, finders)):
        for name, source in sources(root):
            nodes = nodes_of(source)
            for finder in wanted:
                if finds := finder(nodes):
                    everywhere[finder][f"{root.name}/{name}"] = finds
    return everywhere


def test_nothing_stands_at_the_top_that_is_not_to() -> None:
    """What users of the repository see first: five names, their surroundings, and nothing that somebody tried."""
    top = PACKAGE.parent
    if not (top / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no checkout, or no git, so nothing says which files are the project's")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=top, capture_output=True, check=True).stdout
    found = {name.partition("/")[0] for name in listed.decode().split("\0")} - {""}
    shown = {name for name in found if not name.startswith(".")}
    decided = {"pyproject.toml", PACKAGE.name, "tests", "sample_apps", "plugins", "README.md"}
    assert shown == decided | {"Makefile", "LICENSE"}


def test_files_are_short() -> None:
    assert long_files(PACKAGE) | long_files(TESTS) == set()


def test_files_in_c_are_short() -> None:
    # Without what `plugins/build` copies and fetches.
    files = [*PACKAGE.rglob("*.[ch]"), *(PACKAGE.parent / "plugins").glob("*/c/*.[ch]")]
    found = {file.name for file in files if len(file.read_text("utf-8").splitlines()) > MOST_FILE_LINES}
    assert {"kernel.c", "script.c"} <= {file.name for file in files}
    assert found == set()


def test_functions_are_short(found: Found) -> None:
    assert found[long_functions] == {}


def test_a_long_function_is_noticed() -> None:
    function = "def f():\n" + "    x = 1\n" * (MOST_FUNCTION_LINES - 1)
    assert long_functions(nodes_of(function)) == []
    assert long_functions(nodes_of(function + "    x = 1\n")) == ["f"]


# --- what a busy machine must not fail


def hasty_checks(nodes: Sequence[ast.AST]) -> list[int]:
    """Lines of a test that tells hypothesis which of its checks to leave out, and not the one of slowness.

    Such a list replaces that of the profile in `conftest.py`.
    """
    keywords = (node for node in nodes if isinstance(node, ast.keyword))
    lists = [keyword.value for keyword in keywords if keyword.arg == "suppress_health_check"]
    return [value.lineno for value in lists if "HealthCheck.too_slow" not in ast.unparse(value)]


def test_a_slow_machine_is_no_failed_health_check(found: Found) -> None:
    assert found[hasty_checks] == {}


def test_a_hasty_health_check_is_noticed() -> None:
    hasty = "@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])\ndef f(): ..."
    assert hasty_checks(nodes_of(hasty)) == [1]
    assert hasty_checks(nodes_of("@settings(suppress_health_check=[HealthCheck.too_slow])\ndef f(): ...")) == []


# What waits for others, with the place of its limit among the arguments, or where that has its name.
_WAITING = {"wait": 0, "join": 0, "result": 0, "wait_for": 1}
_NAMED = ("run", "communicate", "get", "post", "request", "stream", "Client", "AsyncClient")
_LEAST_SECONDS = 60


def hasty_waits(nodes: Sequence[ast.AST]) -> list[int]:
    """Lines that bound a wait by less than a minute: for what hangs, and for nothing else, is such a bound."""
    found = []
    # There it is the pace of a loop.
    paces = {part for loop in nodes if isinstance(loop, ast.While) for part in ast.walk(loop.test)}
    for call in nodes:
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call in paces:
            continue
        name = call.func.attr
        limits = call.args[_WAITING[name] :][:1] if name in _WAITING else []
        if name in _WAITING or name in _NAMED:
            limits = [*limits, *(keyword.value for keyword in call.keywords if keyword.arg == "timeout")]
        values = [limit.value for limit in limits if isinstance(limit, ast.Constant)]
        found += [call.lineno for value in values if isinstance(value, (int, float)) and value < _LEAST_SECONDS]
    return found


def test_what_is_waited_for_has_a_minute(found: Found) -> None:
    assert found[hasty_waits] == {}


def test_a_hasty_wait_is_noticed() -> None:
    hasty = ("done = subprocess.run(command, timeout=30)", "await asyncio.wait_for(task, 10)", "process.wait(5.0)")
    assert [hasty_waits(nodes_of(line)) for line in hasty] == [[1]] * 3
    patient = ("httpx.get(url, timeout=60)", "process.wait()", "','.join(x)")
    assert [hasty_waits(nodes_of(line)) for line in patient] == [[]] * 3


def hasty_looks(nodes: Sequence[ast.AST]) -> list[int]:
    """Lines that look once for words in a server's log, which it may print after its answer: `Server.logs` waits."""

    def is_log(node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "log"

    looks = (node.test for node in nodes if isinstance(node, ast.Assert))
    compared = (look for look in looks if isinstance(look, ast.Compare) and isinstance(look.ops[0], ast.In))
    return [look.lineno for look in compared if is_log(look.comparators[0])]


def test_words_in_a_log_are_waited_for(found: Found) -> None:
    assert found[hasty_looks] == {}


def test_a_hasty_look_is_noticed() -> None:
    assert hasty_looks(nodes_of("assert 'started' in server.log(), 'words'")) == [1]
    assert hasty_looks(nodes_of("assert 'Traceback' not in server.log()\nassert server.logs('started')")) == []


# --- the map of the tests


def own_test(name: str) -> bool:
    """Whether a module has a test file, or a folder of them, of its own name, or its folder has one."""
    module = Path(name)
    folder = TESTS / module.parent
    places = [folder / f"test_{module.stem}.py", folder / module.stem, folder.parent / f"test_{folder.name}.py"]
    return any(place.is_file() or place.is_dir() for place in places)


def mapped() -> dict[str, list[str]]:
    """Module -> where `README.md` says that it is tested."""
    text = (TESTS / "README.md").read_text(encoding="utf-8").partition(_HEADING)[2].partition("\n## ")[0]
    return {module: _QUOTED.findall(match[2]) for match in _ROW.finditer(text) for module in _QUOTED.findall(match[1])}


def test_each_module_has_a_test_that_can_be_found() -> None:
    """By its name, or by a line in `tests/README.md`."""
    modules = {name for name, source in sources() if Path(name).name != "__init__.py"}
    assert {name for name in modules if not own_test(name)} == mapped().keys()


def test_the_map_leads_somewhere() -> None:
    assert [place for places in mapped().values() for place in places if not (TESTS / place).exists()] == []
