"""With and without the resident half: the same statuses, bytes, maps and messages, whatever a plugin calls."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_wasm.asgi.lane import leaving
from asgi_wasm.host.resident.resident import Resident
from tests.host.resident.ways import BODIES, PROBE, WAYS, Body, probe_without, run_once

NAMES = [
    "x-a",
    "X-A",
    "x-b",
    "accept",
    "vary",
    "cookie",
    "host",
    ":path",
    ":status",
    ":other",
    "content-length",
    "",
    "a b",
]
VALUES = ["", "1", "text", " padded ", "bad\\x0avalue", "\\xff"]
names, values = st.sampled_from(NAMES), st.sampled_from(VALUES)
maps = st.sampled_from([0, 0, 0, 2, 2, 1, 3, 4, 8, 0xFFFFFFFF])
buffers, offsets = (
    st.sampled_from([0, 0, 1, 1, 1, 4, 7, 9, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 4, 5, 6, 99, 0xFFFFFFFF]),
)


def call(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda given: " ".join([name, *map(str, given)]))


def quoted(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return texts.map(lambda text: f'"{text}"')


_PARTS = "path url_path query host scheme method referer useragent id headers size protocol"
PROPERTIES = [
    *(rf"request\x00{part}" for part in _PARTS.split()),
    *(
        rf"{way}\x00headers\x00{name}"
        for way in ("request", "response")
        for name in ("x-a", "X-A", "accept", "host", "vary")
    ),
    *(
        "",
        r"\x00",
        "request",
        r"request\x00",
        r"request\x00path\x00",
        r"request\x00path\x00\x00",
        r"request\x00headers\x00",
    ),
    *(r"request\x00headers\x00x-a\x00b", r"request\x00headers\x00:path", r"response\x00headers\x00:status", "requestx"),
    *(r"response\x00code", r"response\x00code\x00", r"response\x00size", "response", "plugin_name", "none"),
]
# Of a path's last part: not a header's that is there once.
_ODD = {"x-a", "X-A", "headers", "size", "protocol", "", "b"}
PAIRS = r"\x01\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00x-c\x00v\x00"
hostcalls = st.one_of(
    call("get_header_map_value", maps, quoted(names)),
    call("add_header_map_value", maps, quoted(names), quoted(values)),
    call("replace_header_map_value", maps, quoted(names), quoted(values)),
    call("remove_header_map_value", maps, quoted(names)),
    call("get_header_map_pairs", maps),
    call("get_header_map_size", maps),
    call("set_header_map_pairs", maps, st.just(f'"{PAIRS}"')),
    call("get_header_map_value", maps, st.sampled_from(["0xffffff00 9", "0 0xffffffff", "70000 0"])),
    call("get_header_map_value", maps, st.just('"x-a"'), st.sampled_from(["0xfffffffe", "$0 0xffffffff"])),
    call("add_header_map_value", maps, st.just('"x-a" 0xfffffff0 99')),
    call("get_header_map_pairs", maps, st.just("0xfffffffe")),
    call("get_property", quoted(st.sampled_from(PROPERTIES))),
    call("get_property", quoted(st.sampled_from(PROPERTIES))),
    call(
        "get_property",
        st.sampled_from([r'"request\x00path" 0xfffffffe', "0xffffff00 9", r'"request\x00id" $0 0xffffffff']),
    ),
    call("set_property", quoted(names), quoted(values)),
    call("set_effective_context", st.sampled_from(["%self", "%root", "%stream", "99", "0"])),
    call("get_buffer_bytes", buffers, offsets, offsets),
    call("get_buffer_status", buffers),
    call("get_buffer_status", st.sampled_from(["1 0xfffffffe", "1 0x100 0xfffffffe"])),
    call("get_buffer_bytes", st.just("1 0 9"), st.sampled_from(["0xfffffffe", "$0 0xffffffff"])),
    call("refuse", st.sampled_from([1, "1 0xfffffff0"])),
    st.just("args"),
)
changes = call("set_buffer_bytes", buffers, st.sampled_from([0, 0, 9, 99]), offsets, quoted(values))
scripts = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("request_headers", "request_body", "response_headers", "response_body"),
                *("log", "done", "stream_create", "delete"),
            ]
        ),
        st.one_of(hostcalls, hostcalls, hostcalls, changes),
    ),
    max_size=12,
)
# What the app announces of its body, and its pieces.
bodies = st.tuples(
    st.sampled_from([None, None, b"5", b"05", b"9", b"no", b"0"]),
    st.sampled_from([[b"hello"], [b"", b"hel", b"", b"lo"], [b"hello", b""], [b""], [bytearray(b"hello")]]),
)
shapes = st.tuples(
    st.sampled_from(["GET", "GET", "HEAD", "DELETE"]),
    st.sampled_from([200, 200, 204, 304, 404]),
    st.sampled_from(["1.1", "1.1", "2"]),
)
endings = st.sampled_from(
    ["", "request_headers: return 1", "response_headers: return 1", "response_headers: trap", "request_headers: trap",
     'request_headers: send_local_response 403 "d" "no" "" -1', 'request_headers: send_local_response 200 "" "" "" -1',
     f'request_headers: send_local_response 403 "d" "no" "{PAIRS}" -1', "log: trap", "done: trap",
     "response_body: return 1", "response_body: return 2", "response_body: return 3", "response_body: trap",
     'response_body: send_local_response 403 "d" "no" "" -1', "response_body: close_stream 1",
     'response_body: add_header_map_value 3 "x-t" "1"', "request_body: return 1", "request_end: trap",
     'request_body: send_local_response 403 "d" "no" "" -1', 'request_end: set_buffer_bytes 0 0 99 "whole"']
)  # fmt: skip


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One that sees everything, one that sees headers, and one that sees all of the response."""
    folder = tmp_path_factory.mktemp("probes")
    return [PROBE, probe_without(folder / "headers.wasm", BODIES), probe_without(folder / "response.wasm", BODIES[:2])]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], report_multiple_bugs=False)
@given(scripts, endings, st.integers(1, 2), st.integers(0, 2), bodies, shapes, st.one_of(st.none(), bodies))
def test_random_hostcalls(
    probes: list[Path],
    script: list[tuple[str, str]],
    ending: str,
    count: int,
    which: int,
    body: Body,
    shape: tuple[str, int, str],
    sent: Body | None,
) -> None:
    text = "\n".join([*(f"{phase}: {line}" for phase, line in script), ending])
    first, *others = (asyncio.run(run_once(text, way, count, probes[which], body, shape, sent)) for way in WAYS)
    for other in others:
        assert other == first


@pytest.mark.parametrize("way", WAYS)
async def test_a_context_that_becomes_effective_by_its_own_id_and_is_none_again(way: dict[str, Any]) -> None:
    script = "\n".join(
        f"request_headers: {line}"
        for line in ("set_effective_context %self", "set_effective_context 0", 'get_header_map_value 0 "x-a"')
    )
    _, lines = await run_once(script, way, 1)
    assert lines[2] == 'request_headers: get_header_map_value 0 "x-a" = 0 -> "1"'


@pytest.mark.parametrize("way", WAYS)
async def test_the_script_runs(way: dict[str, Any]) -> None:
    seen, lines = await run_once('request_headers: get_header_map_value 0 "x-a"', way, 1)
    assert len(seen) == 6
    assert lines == [f'request_headers: get_header_map_value 0 "x-a" = 0 -> "{value}"' for value in (1, 3)]


PHASES = ["stream_create", "request_headers", "response_headers", "response_body", "log", "done", "delete"]
# What no kernel answers, or only in some callback, is tried by the test above.
ANSWERED = [path for path in PROPERTIES if path.startswith(r"request\x00") and path.rpartition("x00")[2] not in _ODD]


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize(
    "change",
    [
        "request_headers: args",
        'request_headers: replace_header_map_value 0 "user-agent" "a"',
        'request_headers: replace_header_map_value 0 ":path" "/p?a?b"',
        'request_headers: replace_header_map_value 0 ":path" ""',
        'request_headers: remove_header_map_value 0 ":path"',
        'response_headers: replace_header_map_value 2 ":status" "99"',
        'response_headers: replace_header_map_value 2 ":status" "20x"',
        'response_headers: replace_header_map_value 2 ":status" "404"',
    ],
)
def test_properties_that_kernels_answer(probes: list[Path], change: str, which: int) -> None:
    lines = [change, *(f'{phase}: get_property "{path}"' for phase in PHASES for path in ANSWERED)]
    lines += [f'log: get_property "response\\x00{part}"' for part in ("code", r"headers\x00vary", r"headers\x00no")]
    first, *others = (asyncio.run(run_once("\n".join(lines), way, 1, probes[which])) for way in WAYS)
    assert sum("= 0" in line for line in first[1]) > 10
    for other in others:
        assert other == first


async def test_such_properties_let_no_request_leave_its_kernels(
    probes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[object] = []
    monkeypatch.setattr(Resident, "take_back", lambda *_: left.append(None))
    lines = [f'{phase}: get_property "{path}"' for phase in PHASES for path in ANSWERED]
    for way in WAYS[1:]:
        _, told = await run_once("\n".join([*lines, 'log: get_property "response\\x00code"']), way, 1, probes[1])
        assert len(told) == 2 * (len(lines) - len(ANSWERED) + 1) and not left


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize(
    ("shape", "length", "ends"),
    [
        (("GET", 200, "1.1"), None, "0"),
        (("GET", 200, "1.1"), b"0", "1"),
        (("HEAD", 200, "1.1"), b"5", "1"),
        (("GET", 204, "1.1"), None, "1"),
        (("GET", 304, "1.1"), b"5", "1"),
        (("GET", 200, "2"), None, "0"),
        (("HEAD", 200, "2"), None, "1"),
    ],
)
def test_a_response_without_a_body_stays_with_the_kernels(
    probes: list[Path],
    way: dict[str, Any],
    shape: tuple[str, int, str],
    length: bytes | None,
    ends: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[object] = []
    real = leaving.request_of

    def noticed(*given: Any) -> Any:
        left.append(given)
        return real(*given)

    monkeypatch.setattr(leaving, "request_of", noticed)
    _, lines = asyncio.run(run_once("response_headers: args", way, 1, probes[1], (length, [b"", b""]), shape))
    assert lines[-1].endswith(f" {ends}")
    assert not left
