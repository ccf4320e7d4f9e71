"""Scripts for `plugins/grpc_probe`, and what it logs of them: here, and in Envoy (`tests/conformance/test_grpc.py`).

The upstream `backend` is `tests.grpc_server`, at `dead` nobody listens, and at `deaf` nobody answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from asgi_wasm.host.codecs import protobuf

_S = "test.Auth"


@dataclass(frozen=True)
class Case:
    """``lines`` is what the probe logs, after `normal`; ``envoy`` is what it logs there, if that differs, and why."""

    script: str
    lines: list[str]
    envoy: list[str] | None = None
    why: str = ""


def escaped(data: bytes) -> str:
    """Bytes as a script's argument."""
    return "".join(f"%{byte:02x}" for byte in data)


def grpc_service(cluster: bytes, *more: tuple[int, bytes]) -> str:
    """A serialized `GrpcService` as an argument."""
    target = protobuf.encode([(1, cluster)]) if cluster else b""
    return escaped(protobuf.encode([(1, target), *more]))


_HEADER = protobuf.encode([(1, b"x-svc"), (2, b"1")])
_GOOGLE = escaped(protobuf.encode([(2, protobuf.encode([(1, b"127.0.0.1:1"), (4, b"stats")]))]))
_UNKNOWN_SERVICE = [f"request call {grpc_service(b'nowhere')} {_S} Check _ hi 60000", "request status"]

CASES: dict[str, Case] = {
    "call": Case(
        f"request call backend {_S} Check x-a=1 hi 60000\nrequest status\nreceive:5 status",
        ["call = 0, token 5", "status = 0, 0 ", "receive(5, 2) hi", "status = 0, 0 "],
    ),
    "call, closed by the plugin in its callback": Case(
        f"request call backend {_S} Check _ hi 60000\nreceive:5 close 5\nreceive:5 close 5",
        ["call = 0, token 5", "receive(5, 2) hi", "close = 0", "close = 1"],
    ),
    "call by a GrpcService": Case(
        f"request call {grpc_service(b'backend', (5, _HEADER))} {_S} Check x-a=1 hi 60000",
        ["call = 0, token 5", "receive(5, 2) hi"],
    ),
    "call by a GrpcService of an unknown cluster": Case(
        "\n".join(_UNKNOWN_SERVICE),
        ["call = 10, token 0", "status = 0, 0 "],
        ["call = 10, token 0", "status = 0, 0 ", "close(5, 14)"],
        "Envoy closes a token that it never gave; the older Rust SDK panics on it",
    ),
    "call by a google_grpc that names no upstream": Case(
        f"request call {_GOOGLE} {_S} Check _ hi 60000",
        ["call = 10, token 0"],
        ["call = 0, token 5", "close(5, 13)"],
        "only upstreams of the settings may be called",
    ),
    "unknown upstream": Case(
        f"request call nowhere {_S} Check _ hi 60000\nrequest stream nowhere {_S} Check _\n"
        f"request call %0a%05ab {_S} Check _ hi 60000\nrequest call backend {_S} Check _ hi 60000",
        ["call = 4, token 0", "stream = 4, token 0", "call = 4, token 0", "call = 0, token 5", "receive(5, 2) hi"],
    ),
    "call that is denied": Case(
        f"request call backend {_S} Cut _ hi 60000\nclose:5 status\nclose:5 cancel 5\nclose:5 cancel 5",
        ["call = 0, token 5", "close(5, 15)", "status = 0, 15 cut", "cancel = 0", "cancel = 1"],
    ),
    "call without an answer": Case(
        f"request call backend {_S} Empty _ hi 60000\nclose:5 status",
        ["call = 0, token 5", "close(5, 13)", "status = 0, 13 "],
    ),
    "call with three answers": Case(
        f"request call backend {_S} Many _ 3 60000",
        ["call = 0, token 5", "receive(5, 1) 2"],
    ),
    "call that takes too long": Case(
        f"request call deaf {_S} Check _ hi 200\nclose:5 status",
        ["call = 0, token 5", "close(5, 14)", "status = 0, 14 upstream%20request%20timeout"],
    ),
    "call of a method that is not there": Case(
        f"request call backend {_S} Nope _ hi 60000\nclose:5 status\nclose:5 call backend _ _ _ hi 60000",
        [
            "call = 0, token 5",
            "close(5, 12)",
            "status = 0, 12 Method%20not%20found!",
            "call = 0, token 9",
            "close(9, 12)",
        ],
    ),
    "nobody listens": Case(
        f"request call dead {_S} Check _ hi 60000",
        ["call = 0, token 5", "close(5, 14)"],
    ),
    "nobody listens to a stream": Case(
        f"request stream dead {_S} Check _",
        ["stream = 0, token 6", "initial(6)", "trailing(6) grpc-status=14", "close(6, 14)"],
    ),
    "cancelled at once": Case(
        f"request call backend {_S} Silent _ hi 60000\nrequest cancel 5\nrequest cancel 5\nrequest send 5 x\n"
        f"request call backend {_S} Silent _ hi 60000\nrequest close 9\nrequest close 9\n"
        f"request stream backend {_S} Check _\nrequest end 6 x\nrequest cancel 6\nrequest cancel 6",
        [
            "call = 0, token 5",
            "cancel = 0",
            "cancel = 1",
            "send = 2",
            "call = 0, token 9",
            "close = 0",
            "close = 1",
            "stream = 0, token 6",
            "end = 0",
            "cancel = 0",
            "cancel = 1",
        ],
    ),
    "tokens that were never given": Case(
        "\n".join(f"request {what}" for what in ("send 5 x", "send 6 x", "send 4 x", "send 7 x", "close 5", "close 4"))
        + "\n"
        + "\n".join(f"request {what}" for what in ("cancel 7", "cancel 4", "cancel 6", "close 6", "close 0")),
        [
            *["send = 2", "send = 1", "send = 2", "send = 2", "close = 1", "close = 2"],
            *["cancel = 2", "cancel = 2", "cancel = 1", "close = 1", "close = 2"],
        ],
    ),
    "stream": Case(
        f"request stream backend {_S} Check x-a=1\nrequest send 6 one\nrequest end 6 two\n"
        "close:6 status\nclose:6 send 6 x\nclose:6 close 6\nclose:6 close 6\nclose:6 send 6 x",
        [
            *["stream = 0, token 6", "send = 0", "end = 0"],
            "initial(6) x-realm=r x-first-bin=AP4",
            *["receive(6, 3) one", "receive(6, 3) two"],
            "trailing(6) grpc-status=0 x-cost=3 x-last-bin=/wA",
            *["close(6, 0)", "status = 0, 0 ", "send = 0", "close = 0", "close = 1", "send = 1"],
        ],
    ),
    "stream, half-closed after a message": Case(
        f"request stream backend {_S} Check _\nrequest send 6 one\n"
        "receive:6 send 6 two\nreceive:6 close 6\nreceive:6 close 6\nclose:6 close 6",
        [
            *["stream = 0, token 6", "send = 0", "initial(6) x-realm=r x-first-bin=AP4", "receive(6, 3) one"],
            *["send = 0", "close = 0", "close = 0", "receive(6, 3) two"],
            *["trailing(6) grpc-status=0 x-cost=3 x-last-bin=/wA", "close(6, 0)", "close = 0"],
        ],
    ),
    "stream, half-closed at once": Case(
        f"request stream backend {_S} Hello _\nrequest close 6",
        [
            *["stream = 0, token 6", "close = 0", "initial(6)", "receive(6, 5) hello", "receive(6, 3) bye"],
            *["trailing(6) grpc-status=0", "close(6, 0)"],
        ],
    ),
    "stream, cancelled by the plugin": Case(
        f"request stream backend {_S} Hello _\nreceive:6 cancel 6\nreceive:6 cancel 6\n"
        "receive:6 send 6 x\nreceive:6 close 6",
        [
            *["stream = 0, token 6", "initial(6)", "receive(6, 5) hello"],
            *["cancel = 0", "cancel = 1", "send = 1", "close = 1"],
        ],
    ),
    "stream, cancelled on its metadata": Case(
        f"request stream backend {_S} Check _\nrequest close 6\ninitial:6 close 6\ninitial:6 cancel 6",
        ["stream = 0, token 6", "close = 0", "initial(6) x-realm=r x-first-bin=AP4", "close = 0", "cancel = 0"],
    ),
    "stream, ended by the server": Case(
        f"request stream backend {_S} Cut _\nclose:6 status",
        [
            *["stream = 0, token 6", "initial(6)", "receive(6, 3) one"],
            *["trailing(6) grpc-status=15 grpc-message=cut", "close(6, 15)", "status = 0, 15 cut"],
        ],
    ),
    "stream, cancelled by the server": Case(
        f"request stream backend {_S} Cancelled _\nrequest send 6 x\nclose:6 status",
        [
            *["stream = 0, token 6", "send = 0", "initial(6)", "trailing(6) grpc-status=1 grpc-message=gone"],
            *["close(6, 1)", "status = 0, 1 gone"],
        ],
    ),
    "stream to a method that is not there": Case(
        f"request stream backend {_S} Nope _",
        [
            *["stream = 0, token 6", "initial(6)"],
            *["trailing(6) grpc-status=12 grpc-message=Method%20not%20found!", "close(6, 12)"],
        ],
    ),
    "next call from the last callback": Case(
        f"request call backend {_S} Check _ one 60000\nreceive:5 call backend {_S} Check _ two 60000\n"
        f"receive:9 stream backend {_S} Many _\nreceive:9 end 6 1\n"
        f"close:6 stream backend {_S} Many _\nclose:6 end 10 1",
        [
            *["call = 0, token 5", "receive(5, 3) one", "call = 0, token 9", "receive(9, 3) two"],
            *[
                "stream = 0, token 6",
                "end = 0",
                "initial(6)",
                "receive(6, 1) 0",
                "trailing(6) grpc-status=0",
                "close(6, 0)",
            ],
            *["stream = 0, token 10", "end = 0", "initial(10)", "receive(10, 1) 0", "trailing(10) grpc-status=0"],
            "close(10, 0)",
        ],
    ),
    "trap in a callback": Case(
        f"request stream backend {_S} Hello _\nreceive:6 trap",
        ["stream = 0, token 6", "initial(6)", "receive(6, 5) hello"],
    ),
}

# Headers of gRPC's transport: Envoy shows them among the metadata, gRPC's libraries keep them.
_TRANSPORT = r" (:status|content-type|grpc-accept-encoding|x-envoy-upstream-service-time)=\S*"


def normal(lines: list[str]) -> list[str]:
    """Without what differs for a reason: transport headers (hence counts), and words of the host's own."""
    result = []
    for line in lines:
        if line.startswith(("initial", "trailing")):
            line = re.sub(_TRANSPORT, "", line)
            line = re.sub(r", \d+\)", ")", line, count=1)
            line = re.sub(r" grpc-message=(?=( |$))", "", line)
        # How a connection could not be made; and Envoy adds to a status how it came about.
        line = re.sub(r" grpc-message=(upstream%20connect|failed%20to%20connect)\S*", "", line)
        result.append(without_details(line))
    return result


def without_details(line: str) -> str:
    """Without what Envoy adds to the text of a status: how it came about."""
    return re.sub(
        r"^(status = .*?)(\{upstream_reset_before.*|\{via_upstream\}|\{response_timeout\}|via_upstream)$", r"\1", line
    )
