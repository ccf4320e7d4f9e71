"""Several plugins around one request: their order, and what a paused one holds."""

from __future__ import annotations

from tests.host.fed import Exchange
from tests.host.guest import plugin
from tests.host.streams.chains import PARTS, noting
from tests.host.world import World


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
