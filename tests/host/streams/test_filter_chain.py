"""Several plugins around one request: order, local replies, limits, failures, the end."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from asgi_wasm.errors import PluginLoadError
from asgi_wasm.host.abi import LogLevel, StreamType
from asgi_wasm.host.effects import ContinueStream, LocalResponse
from asgi_wasm.host.plugin import BrokenPlugin, Filter, Plugin, VmPool
from asgi_wasm.limits import StreamLimits
from asgi_wasm.specs import FailurePolicy
from tests.host.guest import STREAM_PHASES, Callback, Calls, Exchange, World, plugin, spec

NO_GRPC_STATUS = 0xFFFF_FFFF
WAYS = ("request", "response")
CLOSED, OPEN = FailurePolicy.FAIL_CLOSED, FailurePolicy.FAIL_OPEN
IN_STREAM = tuple(phase for phase in STREAM_PHASES if phase != "proxy_on_log")


def noting(heard: list[str], name: str, *phases: str, **answers: int) -> dict[str, Callback]:
    """Callbacks that write "name phase", and answer 0 or what ``answers`` says."""

    def note(phase: str) -> Callback:
        def callback(_calls: Calls, *_: int) -> int:
            heard.append(f"{name} {phase}")
            return answers.get(phase, 0)

        return callback

    return {f"proxy_on_{phase}": note(phase) for phase in phases}


def replying(status: int, body: bytes = b"local", answer: int = 0) -> Callback:
    def callback(calls: Calls, *_: int) -> int:
        calls("proxy_send_local_response", status, b"details", body, b"", NO_GRPC_STATUS)
        return answer

    return callback


def trapping(_calls: Calls, *_: int) -> int:
    raise RuntimeError("on purpose")


PARTS = [f"{way}_{part}" for way in WAYS for part in ("headers", "body", "trailers")]


def test_the_request_goes_down_the_list_and_the_response_up() -> None:
    world, heard = World(), list[str]()
    exchange = Exchange(
        world, *(plugin(world, noting(heard, name, *PARTS, "log", "done", "delete"), name=name) for name in "abc")
    )
    exchange.request(b"1", trailers=[(b"t", b"")])
    exchange.respond(b"1", trailers=[(b"t", b"")])
    exchange.chain.finish()
    parts = ("headers", "body", "trailers")
    assert heard == [
        *[f"{name} request_{part}" for part in parts for name in "abc"],
        *[f"{name} response_{part}" for part in parts for name in "cba"],
        *[f"{name} log" for name in "abc"],
        *[f"{name} {part}" for name in "abc" for part in ("done", "delete")],
    ]


def test_a_paused_filter_holds_only_what_is_behind_it() -> None:
    world, heard = World(), list[str]()
    exchange = Exchange(
        world,
        plugin(world, noting(heard, "a", "request_headers", "request_body"), name="a"),
        plugin(world, noting(heard, "b", "request_headers", "request_body", request_headers=1), name="b"),
        plugin(world, noting(heard, "c", "request_headers", "request_body"), name="c"),
    )
    exchange.request(b"1", b"2")
    assert heard == ["a request_headers", "b request_headers", "a request_body", "a request_body"]
    paused = exchange.chain.request.paused_by
    assert paused is not None and paused.root.spec.name == "b"
    exchange.chain.request.resume(paused)
    assert heard[4:] == ["c request_headers", "b request_body", "c request_body"]
    assert exchange.app.events[1:] == [("data", b"12", True)]


# --- local replies


@pytest.mark.parametrize("answer", [0, 1, 3])
@pytest.mark.parametrize("part", ["headers", "body", "trailers"])
def test_a_reply_to_the_request_travels_back_through_all_that_saw_it(part: str, answer: int) -> None:
    world, heard = World(), list[str]()
    back = ("response_headers", "response_body")
    replier = {**noting(heard, "b", *back), f"proxy_on_request_{part}": replying(403, answer=answer)}
    exchange = Exchange(
        world,
        plugin(world, noting(heard, "a", *back), name="a"),
        plugin(world, replier, name="b"),
        plugin(world, noting(heard, "c", "request_headers", *back), name="c"),
    )
    exchange.request(b"body", trailers=[(b"t", b"")])
    seen_by_c = part != "headers"
    expected = [f"{name} {phase}" for phase in back for name in ("cba" if seen_by_c else "ba")]
    assert heard == (["c request_headers", *expected] if seen_by_c else expected)
    assert exchange.client.status == b"403"
    assert exchange.client.body == b"local"
    assert exchange.chain.answered_locally
    # Nothing but the headers had reached the app, or not even those.
    assert [event[0] for event in exchange.app.events] in ([], ["headers"], ["headers", "data"])
    assert ("headers" in [event[0] for event in exchange.app.events]) is seen_by_c


def test_response_callbacks_may_change_a_local_reply() -> None:
    def headers(calls: Calls, *_: int) -> int:
        calls("proxy_replace_header_map_value", 2, b"x-seen", b"1")
        return 0

    world = World()
    given = {"proxy_on_request_headers": replying(403), "proxy_on_response_headers": headers}
    exchange = Exchange(world, plugin(world, given))
    exchange.request()
    assert dict(exchange.client.events[0][1])[b"x-seen"] == b"1"


def test_a_reply_in_the_response_headers_replaces_the_response() -> None:
    world, heard = World(), list[str]()
    exchange = Exchange(
        world,
        plugin(world, noting(heard, "a", "response_headers", "response_body"), name="a"),
        plugin(world, {"proxy_on_response_headers": replying(502)}, name="b"),
    )
    exchange.request()
    exchange.respond(b"secret")
    assert heard == []
    assert exchange.client.status == b"502"
    assert exchange.client.body == b"local"


@pytest.mark.parametrize("part", ["body", "trailers"])
def test_after_the_response_has_started_a_reply_can_only_cut_it_off(part: str) -> None:
    world = World()
    exchange = Exchange(world, plugin(world, {f"proxy_on_response_{part}": replying(502)}))
    exchange.request()
    exchange.respond(b"body", trailers=[(b"t", b"")])
    assert exchange.client.status == b"200"
    assert exchange.client.reason == "a local response came after the response had started"
    assert ("data", b"body", False) in exchange.client.events or part == "body"


def test_a_reply_while_the_response_is_held_replaces_it() -> None:
    world = World()
    given = {"proxy_on_response_headers": lambda *_: 1, "proxy_on_response_body": replying(502)}
    exchange = Exchange(world, plugin(world, given, allow_on_headers_stop_iteration=True))
    exchange.request()
    exchange.respond(b"secret")
    assert exchange.client.status == b"502"
    assert exchange.client.body == b"local"
    assert exchange.client.reason is None


def test_a_reply_without_a_body_and_a_reply_to_head() -> None:
    world = World()
    exchange = Exchange(world, plugin(world, {"proxy_on_response_headers": replying(204, b"")}))
    exchange.request()
    exchange.respond(b"body")
    assert exchange.client.events == [("headers", [(b":status", b"204")], True)]
    exchange = Exchange(world, plugin(world, {"proxy_on_request_headers": replying(403, b"no")}))
    exchange.request(headers=[(b":method", b"HEAD")])
    assert exchange.client.events[0][-1] is True and len(exchange.client.events) == 1


def test_a_resume_after_a_reply_is_not_looked_at() -> None:
    world = World()
    exchange = Exchange(world, plugin(world, {"proxy_on_request_headers": lambda *_: 1}))
    exchange.request(b"body")
    (context,) = exchange.chain.contexts
    exchange.chain.apply(LocalResponse(context, 401, b"", b"", [], None))
    exchange.chain.apply(ContinueStream(context, StreamType.HTTP_REQUEST))
    assert exchange.app.events == []
    assert exchange.client.status == b"401"


def test_a_pause_in_the_response_callbacks_of_a_reply() -> None:
    world = World()
    given: dict[str, Callback] = {
        "proxy_on_request_headers": replying(403),
        "proxy_on_response_headers": lambda *_: 1,
    }
    exchange = Exchange(world, plugin(world, given))
    exchange.request()
    assert exchange.client.events == []
    assert exchange.chain.response is not None
    exchange.chain.response.resume(exchange.chain.contexts[0])
    assert (exchange.client.status, exchange.client.body) == (b"403", b"local")


# --- limits


@pytest.mark.parametrize("verdict", [1, 3])
def test_a_request_body_over_the_limit_is_413(verdict: int) -> None:
    # On headers 3 buffers and 4 exerts back-pressure; on a body 1 buffers and 2 does.
    name = "request_headers" if verdict == 3 else "request_body"
    world, heard = World(), list[str]()
    made = plugin(world, {**noting(heard, "p", name, **{name: verdict})})
    exchange = Exchange(world, made, limits=StreamLimits(request_body=10))
    exchange.request(b"12345", b"67890", b"!", b"more")
    assert exchange.client.status == b"413"
    assert exchange.chain.local_details == b"body_over_limit"
    # Nothing is asked of the plugin any more, not even about the piece that is too much.
    assert len(heard) == (1 if verdict == 3 else 2)


@pytest.mark.parametrize("verdict", [1, 2])
def test_a_body_within_the_limit_or_under_back_pressure_passes(verdict: int) -> None:
    world = World()
    made = plugin(world, {"proxy_on_request_body": lambda *_: verdict})
    exchange = Exchange(world, made, limits=StreamLimits(request_body=10))
    exchange.request(b"12345", b"67890", *([b"!"] if verdict == 2 else []))
    assert exchange.client.events == []
    assert exchange.chain.request.wants_data is (verdict == 1)
    exchange.chain.request.resume(exchange.chain.contexts[0])
    assert exchange.app.body == b"1234567890" + (b"!" if verdict == 2 else b"")


@pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy compiles while it runs: times do not compare")
@pytest.mark.parametrize("callback", ["request_headers", "request_body"])
def test_a_body_held_in_many_pieces_takes_time_by_their_number(callback: str) -> None:
    """Not by its square: a client that sends byte by byte would hold everybody."""

    def seconds(pieces: int) -> float:
        world = World()
        made = plugin(world, {f"proxy_on_{callback}": lambda *_: 3 if callback == "request_headers" else 1})
        exchange = Exchange(world, made, limits=StreamLimits(request_body=1 << 30))
        began = time.process_time()
        exchange.request(*[bytes(1000)] * pieces)
        took = time.process_time() - began
        exchange.chain.request.resume(exchange.chain.contexts[0])
        assert len(exchange.app.body) == pieces * 1000
        return took

    # Copying all for each piece takes some fifty times as long, or more.
    assert min(seconds(8000) for _ in range(3)) < 20 * min(seconds(1000) for _ in range(3))


def test_a_response_body_over_the_limit_is_500_or_cuts_the_response_off() -> None:
    world = World()
    limits = StreamLimits(response_body=10)
    exchange = Exchange(world, plugin(world, {"proxy_on_response_headers": lambda *_: 3}), limits=limits)
    exchange.request()
    exchange.respond(b"0123456789", b"!")
    assert exchange.client.status == b"500"
    exchange = Exchange(world, plugin(world, {"proxy_on_response_body": lambda *_: 1}), limits=limits)
    exchange.request()
    exchange.respond(b"0123456789", b"!")
    assert exchange.client.status == b"200"
    assert exchange.client.reason is not None


# --- failures


@pytest.mark.parametrize("policy", FailurePolicy)
@pytest.mark.parametrize("phase", IN_STREAM)
def test_a_trap_in_each_callback(phase: str, policy: FailurePolicy) -> None:
    world, heard = World(), list[str]()
    made = plugin(world, {phase: trapping}, name="bad", failure_policy=policy)
    good = plugin(world, noting(heard, "good", "request_headers", "response_headers", "log"), name="good")
    exchange = Exchange(world, made, good)
    exchange.request(b"body", trailers=[(b"t", b"")])
    exchange.respond(b"body", trailers=[(b"t", b"")])
    exchange.chain.finish()
    if policy is OPEN:
        # As if the plugin were not there.
        assert (exchange.client.status, exchange.client.body) == (b"200", b"body")
        assert exchange.app.body == b"body"
        assert exchange.client.events[-1] == ("trailers", [(b"t", b"")])
        assert exchange.client.reason is None
    elif phase in ("proxy_on_response_body", "proxy_on_response_trailers"):
        assert exchange.client.reason == "a local response came after the response had started"
    else:
        assert exchange.client.events == [("headers", [(b":status", b"503")], True)]
        assert exchange.chain.local_details == b"wasm_fail_stream"
    # The other plugin has its callbacks, unless the request never came to it.
    if policy is OPEN or phase != "proxy_on_request_headers":
        assert heard == ["good request_headers", "good response_headers", "good log"]
    # Not the first line where the next start is told of as well.
    assert [name for name, level, text in world.log.hosts if level is LogLevel.ERROR and "on purpose" in text] == [
        "bad"
    ]


@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_plugin_that_cannot_start_or_make_a_context(policy: FailurePolicy) -> None:
    for phase in ("proxy_on_configure", "proxy_on_context_create"):
        world = World()

        def callback(_calls: Calls, context: int, *_: int, phase: str = phase) -> int:
            if phase == "proxy_on_configure" or context > 1:
                raise RuntimeError("cannot")
            return 1

        exchange = Exchange(world, plugin(world, {phase: callback}, name="bad", failure_policy=policy))
        exchange.request(b"body")
        exchange.respond(b"body")
        exchange.chain.finish()
        assert exchange.client.status == (b"200" if policy is OPEN else b"503")
        assert world.log.hosts[0][2].startswith("cannot serve a request: ")


@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_broken_plugin_has_its_policy(policy: FailurePolicy) -> None:
    world = World()
    broken = BrokenPlugin(spec("b", failure_policy=policy), PluginLoadError("b", "b.wasm", "no"))
    exchange = Exchange(world, broken)
    exchange.request()
    exchange.respond()
    assert exchange.client.status == (b"200" if policy is OPEN else b"503")
    assert world.log.hosts[0][2] == "cannot serve a request: plugin 'b' (b.wasm): no"


def shared(world: World, *given: dict[str, Callback], policy: FailurePolicy = CLOSED) -> list[Plugin]:
    pool = VmPool(world.ports)
    return [
        plugin(world, each, pool=pool, digest="same", name=f"p{index}", failure_policy=policy)
        for index, each in enumerate(given)
    ]


@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_vm_that_two_filters_of_one_chain_share(policy: FailurePolicy) -> None:
    calls: list[int] = []

    def headers(_calls: Calls, context: int, *_: int) -> int:
        calls.append(context)
        if len(calls) == 2:
            raise RuntimeError("the second filter")
        return 0

    world = World()
    given: dict[str, Callback] = {"proxy_on_request_headers": headers, "proxy_on_response_headers": lambda *_: 0}
    exchange = Exchange(world, *shared(world, given, given, policy=policy))
    exchange.request(b"body")
    exchange.respond(b"body")
    exchange.chain.finish()
    assert exchange.client.status == (b"200" if policy is OPEN else b"503")
    assert len(calls) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("policy", [CLOSED, OPEN])
def test_a_stream_that_waits_for_a_vm_that_failed_elsewhere(policy: FailurePolicy, way: str) -> None:
    def headers(_calls: Calls, context: int, *_: int) -> int:
        if context == 3:
            raise RuntimeError("another stream")
        return 1

    world = World()
    made = plugin(world, {f"proxy_on_{way}_headers": headers}, failure_policy=policy)
    paused, other = Exchange(world, made), Exchange(world, made)
    for exchange in (paused, other):
        exchange.request(b"body")
        exchange.respond(b"body") if way == "response" else None
    sink = paused.app if way == "request" else paused.client
    if policy is OPEN:
        assert sink.body == b"body"
    else:
        assert paused.client.status == b"503"
    assert paused.chain.request.paused_by is None


@pytest.mark.parametrize("phase", ["proxy_on_log", "proxy_on_done", "proxy_on_delete"])
def test_a_trap_at_the_end_harms_nobody_else(phase: str) -> None:
    world, heard = World(), list[str]()
    exchange = Exchange(
        world,
        plugin(world, {phase: lambda calls, context, *_: trapping(calls)}, name="bad"),
        plugin(world, noting(heard, "good", "log", "done", "delete"), name="good"),
    )
    exchange.request()
    exchange.respond(b"body")
    exchange.chain.finish()
    assert heard == ["good log", "good done", "good delete"]
    assert (exchange.client.status, exchange.client.body, exchange.client.reason) == (b"200", b"body", None)


# --- on_log


@pytest.mark.parametrize("version_map", [(0, b":method"), (2, b":status"), (3, b"t")])
def test_on_log_reads_what_was_sent(version_map: tuple[int, bytes]) -> None:
    map_type, name = version_map
    seen: list[Any] = []
    world = World()

    def log(calls: Calls, _context: int) -> None:
        seen.append(calls("proxy_get_header_map_value", map_type, name))
        seen.append(calls("proxy_get_header_map_value", 1, b"t"))

    exchange = Exchange(world, plugin(world, {"proxy_on_log": log}))
    exchange.request(trailers=[(b"t", b"1")])
    exchange.respond(b"b", trailers=[(b"t", b"2")])
    exchange.chain.finish()
    values = {0: b"POST", 2: b"200", 3: b"2"}
    # Request trailers are not there (Envoy).
    assert seen == [(0, values[map_type]), (1,)]


def test_on_log_without_a_response() -> None:
    seen: list[Any] = []
    world = World()

    def log(calls: Calls, _context: int) -> None:
        seen.extend(calls("proxy_get_header_map_value", map_type, b":status") for map_type in (2, 3))
        seen.append(calls("proxy_get_header_map_pairs", 2))

    exchange = Exchange(world, plugin(world, {"proxy_on_log": log}))
    exchange.request()
    exchange.chain.finish()
    assert seen == [(1,), (1,), (0, b"")]


def test_a_chain_without_plugins_is_a_pipe() -> None:
    exchange = Exchange(World())
    exchange.request(b"1", trailers=[(b"t", b"")])
    exchange.respond(b"2")
    exchange.chain.finish()
    assert not exchange.chain.request.reads_body
    assert (exchange.app.body, exchange.client.body) == (b"1", b"2")


def test_filters_are_hashable_by_plugin_and_conf() -> None:
    made = plugin(World(), {})
    assert {Filter(made, b"a"), Filter(made, b"a"), Filter(made, b"b")} == {Filter(made, b"a"), Filter(made, b"b")}
