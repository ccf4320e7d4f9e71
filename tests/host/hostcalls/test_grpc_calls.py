"""gRPC hostcalls and their answers without a network: effects out, deliveries in."""

from __future__ import annotations

import pytest

from asgi_wasm.engines.base import FuncType
from asgi_wasm.engines.null import GuestTrap
from asgi_wasm.host.abi import MapType, ProxyStatus
from asgi_wasm.host.codecs.protobuf import encode
from asgi_wasm.host.codecs.wire import encode_pairs
from asgi_wasm.host.effects import EndCallouts, GrpcCall, GrpcCancel, GrpcClose, GrpcSend, GrpcStream
from asgi_wasm.host.streams.header_map import HeaderMap
from asgi_wasm.host.vm import delivery, lifecycle
from asgi_wasm.host.vm.contexts import RootContext
from tests.host.grpc_guest import TYPES, Guest

OUTSIDE = 0x7FFF_FFF0


def test_effects_come_after_the_callback() -> None:
    guest = Guest()
    during: list[int] = []

    def todo() -> int:
        result = guest.host.allocate(4)
        store = guest.host.store
        status = guest.ask("grpc_stream", *store(b"auth"), *store(b"test.Auth"), *store(b"M"), 0, 0, result)
        guest.ask("grpc_send", 6, *store(b"one"), 0)
        guest.ask("grpc_send", 6, *store(b"two"), 1)
        guest.ask("grpc_send", 6, *store(b"dropped"), 0)
        during.append(len(guest.effects))
        return status

    assert guest.act(todo) == 0
    assert during == [0]
    assert guest.effects == [
        GrpcStream(guest.root, 6, "auth", "/test.Auth/M", []),
        GrpcSend(guest.root, 6, b"one", False),
        GrpcSend(guest.root, 6, b"two", True),
    ]


def test_call_with_metadata_of_its_own_and_of_the_service() -> None:
    guest = Guest()
    header = encode([(1, b"X-Service"), (2, b"1")])
    service = encode([(1, encode([(1, b"auth")])), (3, encode([(1, 2)])), (5, header)])
    own = encode_pairs([(b"X-Own", b"2")])
    assert guest.call(service, own) == (0, 5)
    assert guest.call(service, own, timeout=7) == (0, 9)
    metadata = [(b"x-service", b"1"), (b"x-own", b"2")]
    assert guest.effects == [
        GrpcCall(guest.root, 5, "auth", "/test.Auth/M", metadata, b"msg", 2000),
        GrpcCall(guest.root, 9, "auth", "/test.Auth/M", metadata, b"msg", 7),
    ]


def test_malformed_metadata_is_none() -> None:
    guest = Guest()
    assert guest.call(metadata=b"\xff\xff\xff\xff") == (0, 5)
    assert isinstance(guest.effects[0], GrpcCall) and guest.effects[0].metadata == []


def test_refused_call_leaves_nothing_behind() -> None:
    guest = Guest()
    assert guest.call(b"other") == (ProxyStatus.PARSE_FAILURE, 0)
    assert guest.call() == (0, 5)
    assert len(guest.effects) == 1


def test_tokens_are_the_vms_and_belong_to_their_root_context() -> None:
    guest = Guest()
    other = lifecycle.start_root(guest.vm, guest.spec, b"")
    assert (guest.stream(), guest.stream(other), guest.stream()) == (6, 10, 14)
    for name in ("grpc_close", "grpc_cancel"):
        assert guest.act(lambda name=name: guest.ask(name, 10)) == ProxyStatus.NOT_FOUND  # type: ignore[misc]
    assert guest.act(lambda: guest.ask("grpc_close", 10), other) == 0
    assert guest.effects[-1] == GrpcClose(other, 10)


@pytest.mark.parametrize("bad", range(5))
def test_call_with_memory_that_is_not_there(bad: int) -> None:
    guest = Guest()
    parts = [(*guest.host.store(b"auth"),) for _ in range(5)]
    parts[bad] = (OUTSIDE, 4)
    numbers = [number for part in parts for number in part]
    result = guest.host.allocate(4)
    assert guest.act(lambda: guest.ask("grpc_call", *numbers, 0, result)) == ProxyStatus.INVALID_MEMORY_ACCESS
    if bad < 4:
        status = guest.act(lambda: guest.ask("grpc_stream", *numbers[:8], result))
        assert status == ProxyStatus.INVALID_MEMORY_ACCESS
    assert not guest.effects and not guest.root.grpc_tokens


def test_token_that_cannot_be_written() -> None:
    guest = Guest()
    texts = guest.host.store(b"auth") * 4
    call = (*texts, 0, 0, 0, OUTSIDE)
    assert guest.act(lambda: guest.ask("grpc_call", *call)) == ProxyStatus.INVALID_MEMORY_ACCESS
    assert guest.act(lambda: guest.ask("grpc_stream", *texts, OUTSIDE)) == ProxyStatus.INVALID_MEMORY_ACCESS
    assert not guest.effects and not guest.root.grpc_tokens


def test_message_that_is_not_there() -> None:
    guest = Guest()
    token = guest.stream()
    assert guest.act(lambda: guest.ask("grpc_send", token, OUTSIDE, 4, 0)) == ProxyStatus.INVALID_MEMORY_ACCESS
    # Memory is looked at first, as in proxy-wasm-cpp-host.
    assert guest.act(lambda: guest.ask("grpc_send", 99, OUTSIDE, 4, 0)) == ProxyStatus.INVALID_MEMORY_ACCESS


def test_the_shapes_without_metadata() -> None:
    short = {
        "proxy_grpc_call": FuncType(("i32",) * 10, ("i32",)),
        "proxy_grpc_stream": FuncType(("i32",) * 7, ("i32",)),
    }
    guest = Guest({**TYPES, **short})
    store, result = guest.host.store, guest.host.allocate(4)
    texts = (*store(b"auth"), *store(b"test.Auth"), *store(b"M"))
    assert guest.act(lambda: guest.ask("grpc_call", *texts, *store(b"msg"), 5, result)) == 0
    assert guest.host.read_u32(result) == 5
    assert guest.act(lambda: guest.ask("grpc_stream", *texts, result)) == 0
    assert guest.host.read_u32(result) == 6
    assert guest.effects == [
        GrpcCall(guest.root, 5, "auth", "/test.Auth/M", [], b"msg", 5),
        GrpcStream(guest.root, 6, "auth", "/test.Auth/M", []),
    ]


def test_without_the_capability() -> None:
    guest = Guest(capabilities=frozenset({"proxy_on_tick", "proxy_grpc_send"}))
    assert guest.call() == (ProxyStatus.INTERNAL_FAILURE, 0)


def test_stream_from_beginning_to_end() -> None:
    guest = Guest()
    token = guest.stream()
    found: list[object] = []
    initial, trailing = MapType.GRPC_RECEIVE_INITIAL_METADATA, MapType.GRPC_RECEIVE_TRAILING_METADATA
    guest.todo = lambda: found.append(guest.metadata(initial))
    delivery.deliver_grpc_initial_metadata(guest.root, token, HeaderMap([(b"a", b"1")]))
    guest.todo = lambda: found.append(guest.message())
    delivery.deliver_grpc_message(guest.root, token, b"hello")
    guest.todo = lambda: found.append(guest.metadata(trailing))
    delivery.deliver_grpc_trailing_metadata(guest.root, token, HeaderMap([(b"b", b"2")]))
    guest.todo = lambda: found.append(guest.status())
    delivery.deliver_grpc_close(guest.root, token, 7, b"no")
    assert found == [[(b"a", b"1")], b"hello", [(b"b", b"2")], (7, b"no")]
    assert guest.seen == [
        ("receive_initial_metadata", 6, 1),
        ("receive", 6, 5),
        ("receive_trailing_metadata", 6, 1),
        ("close", 6, 7),
    ]
    # All of it is there during its own callback only, and then empty; of the status the number stays, as in Envoy.
    guest.todo = lambda: found.extend([guest.metadata(initial), guest.metadata(trailing), guest.message()])
    guest.root.notify("proxy_on_tick")
    guest.todo = lambda: found.append(guest.status())
    guest.root.notify("proxy_on_tick")
    assert found[4:] == [[], [], b"", (7, b"")]


def deliver_everything(root: RootContext, token: int) -> None:
    delivery.deliver_grpc_initial_metadata(root, token, HeaderMap())
    delivery.deliver_grpc_message(root, token, b"")
    delivery.deliver_grpc_answer(root, token, b"")
    delivery.deliver_grpc_trailing_metadata(root, token, HeaderMap())
    delivery.deliver_grpc_close(root, token, 0, b"")


def test_nothing_is_delivered_for_a_token_that_is_gone() -> None:
    guest = Guest()
    cancelled, answered = guest.stream(), guest.call()[1]
    assert guest.act(lambda: guest.ask("grpc_cancel", cancelled)) == 0
    delivery.deliver_grpc_answer(guest.root, answered, b"yes")
    del guest.seen[:]
    for token in (cancelled, answered, 99):
        deliver_everything(guest.root, token)
    assert guest.seen == []
    assert not guest.root.grpc_tokens
    assert guest.effects[-1] == GrpcCancel(guest.root, cancelled)


def test_a_root_that_is_deleted_gets_nothing_and_ends_its_callouts() -> None:
    guest = Guest()
    token = guest.stream()
    lifecycle.shut_down_root(guest.root)
    assert guest.effects[-1] == EndCallouts(guest.root)
    deliver_everything(guest.root, token)
    assert guest.seen == []


def test_a_root_that_is_not_done_yet_still_gets_its_answers() -> None:
    guest = Guest()
    guest.done = 0
    token = guest.stream()
    lifecycle.shut_down_root(guest.root)
    guest.todo = lambda: guest.ask("done")
    delivery.deliver_grpc_close(guest.root, token, 0, b"")
    assert guest.seen == [("close", 6, 0)]
    assert guest.root.deleted


def test_a_failed_vm_gets_nothing_and_ends_the_callouts_of_all_its_roots() -> None:
    guest = Guest()
    other = lifecycle.start_root(guest.vm, guest.spec, b"")
    idle = lifecycle.start_root(guest.vm, guest.spec, b"")
    tokens = {guest.root: guest.stream(), other: guest.stream(other)}

    def trap() -> None:
        raise GuestTrap("on purpose")

    guest.todo = trap
    delivery.deliver_grpc_message(guest.root, tokens[guest.root], b"")
    assert guest.effects[2:] == [EndCallouts(guest.root), EndCallouts(other)]
    assert EndCallouts(idle) not in guest.effects
    del guest.seen[:]
    for root, token in tokens.items():
        deliver_everything(root, token)
    assert guest.seen == []
    assert guest.root.buffers == {}


def test_closing_in_the_last_callback_is_fine_once() -> None:
    guest = Guest()
    token = guest.stream()
    answers: list[int] = []
    guest.todo = lambda: answers.extend(guest.ask("grpc_close", token) for _ in range(2))
    delivery.deliver_grpc_close(guest.root, token, 0, b"")
    assert answers == [0, ProxyStatus.NOT_FOUND]


def test_a_root_that_refuses_to_start_asked_for_nothing() -> None:
    guest = Guest()
    guest.configured = 0
    guest.todo = lambda: guest.ask("grpc_stream", *guest.host.store(b"auth") * 3, 0, 0, guest.host.allocate(4))
    with pytest.raises(lifecycle.StartRefusedError):
        lifecycle.start_root(guest.vm, guest.spec, b"")
    guest.vm.perform()
    assert [type(effect) for effect in guest.effects] == [EndCallouts]
    # Another root context of the VM goes on.
    assert guest.stream() == 10
    assert guest.effects[1:] == [GrpcStream(guest.root, 10, "auth", "/test.Auth/M", [])]


@pytest.mark.parametrize("bad", [b"\r", b"\n", b"\x00", b"\x7f"])
def test_control_characters_are_refused_and_nothing_is_sent(bad: bytes) -> None:
    for metadata in ([(b"x" + bad, b"1")], [(b"x", b"1" + bad)]):
        guest = Guest()
        assert guest.call(metadata=encode_pairs(metadata)) == (ProxyStatus.INTERNAL_FAILURE, 0)
        assert guest.effects == []
    guest = Guest(method=b"M" + bad)
    assert guest.call() == (ProxyStatus.INTERNAL_FAILURE, 0)
    store = guest.host.store
    stream = (*store(b"auth"), *store(b"test.Auth"), *store(b"M" + bad), 0, 0, guest.host.allocate(4))
    assert guest.act(lambda: guest.ask("grpc_stream", *stream)) == ProxyStatus.INTERNAL_FAILURE
    assert guest.effects == []
    # Binary values are encoded on their way out.
    assert Guest().call(metadata=encode_pairs([(b"x-bin", bad)])) == (0, 5)


def test_calls_under_way_are_bounded() -> None:
    """Beside those of other kinds, which are counted elsewhere."""
    guest = Guest()
    guest.root.other_calls = 10
    for _ in range(guest.spec.limits.calls_under_way - 10):
        assert guest.call()[0] == 0
    assert guest.call() == (ProxyStatus.INTERNAL_FAILURE, 0)
    guest.root.other_calls = 9
    assert guest.call()[0] == 0
    assert guest.call() == (ProxyStatus.INTERNAL_FAILURE, 0)
    delivery.deliver_grpc_close(guest.root, 5, 14, b"")
    assert guest.call()[0] == 0
