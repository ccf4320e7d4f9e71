"""Local responses in a filter chain, and its limits."""

from __future__ import annotations

import sys
import time

import pytest

from asgi_wasm.host.abi import StreamType
from asgi_wasm.host.effects import ContinueStream, LocalResponse
from asgi_wasm.limits import StreamLimits
from asgi_wasm.testing.guests.guests import Callback
from tests.host.fed import Exchange
from tests.host.guest import Calls, plugin
from tests.host.streams.chains import noting
from tests.host.world import World

NO_GRPC_STATUS = 0xFFFF_FFFF


def replying(status: int, body: bytes = b"local", answer: int = 0) -> Callback:
    def callback(calls: Calls, *_: int) -> int:
        calls("proxy_send_local_response", status, b"details", body, b"", NO_GRPC_STATUS)
        return answer

    return callback


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
