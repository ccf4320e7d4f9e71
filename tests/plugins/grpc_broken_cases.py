"""What `plugins/grpc_probe` logs of a server that misbehaves (`tests.broken_grpc_server`): here, and in Envoy.

Each mode is called, then streamed from, and then the server is called once more, on the same connection if it lives.
"""

from __future__ import annotations

from tests.plugins.grpc_cases import Case

_HEAD = (":status=200", "content-type=application/grpc")
_OK = ("grpc-status=0",)
_RESET = "upstream%20connect%20error%20or%20disconnect/reset%20before%20headers.%20reset%20reason:%20"
_NEXT = "call broken t ok _ hi 60000"


def _map(name: str, fields: tuple[str, ...]) -> str:
    return " ".join([f"{name}(6, {len(fields)})", *fields])


def _answered(*more: str, last: tuple[str, ...] = _OK, texts: tuple[str, ...] = ("hi",)) -> list[str]:
    """Success, with further fields in head and trailers; of a call the last message counts."""
    received = [f"({{token}}, {len(text)}) {text}" for text in texts]
    return [
        f"receive{received[-1].format(token=5)}",
        *["stream = 0, token 6", _map("initial", (*_HEAD, *more))],
        *[f"receive{each.format(token=6)}" for each in received],
        *[_map("trailing", last), "close(6, 0)", "status = 0, 0 "],
    ]


def _ended(
    code: int,
    text: str = "",
    *,
    head: tuple[str, ...] = _HEAD,
    has_message: bool = False,
    trailing: tuple[str, ...] = (),
    call: int | None = None,
) -> list[str]:
    """A call, and a stream, that ends with this status; ``call`` is what it is of a call, if that differs."""
    of_call = code if call is None else call
    return [
        *[f"close(5, {of_call})", f"status = 0, {of_call} {text}"],
        *["stream = 0, token 6", _map("initial", head), *["receive(6, 2) hi"] * has_message],
        *[_map("trailing", trailing), f"close(6, {code})", f"status = 0, {code} {text}"],
    ]


def _before(reason: str) -> list[str]:
    """It broke off before the answer began."""
    text = _RESET + reason
    return _ended(14, text, head=(), trailing=(*_HEAD, "grpc-status=14", f"grpc-message={text}"))


def _after(reason: str, *, has_message: bool = False) -> list[str]:
    """It broke off after the answer began."""
    return _ended(13, f"upstream_reset_after_response_started{{{reason}}}", has_message=has_message)


def _status(told: str, code: int) -> list[str]:
    return _ended(code, has_message=True, trailing=(f"grpc-status={told}",))


_INVALID = 0xFFFF_FFFF
_PROTOCOL = _before("protocol%20error")

_MODES: dict[str, list[str]] = {
    "ok": _answered(),
    "twice": _answered(texts=("one", "two")),
    "empty": _answered(texts=("",)),
    # Broken frames.
    "long": _ended(0, trailing=_OK, call=13),
    "short": _ended(13),
    "flag-1": _ended(13),
    "flag-2": _ended(13),
    # Statuses.
    "status-5": _status("5", 5),
    "status-16": _status("16", 16),
    "status-17": _status("17", _INVALID),
    "status-x": _status("x", _INVALID),
    "status--1": _status("-1", _INVALID),
    "status-005": _status("005", 5),
    "text-682543332542": _ended(7, "h%25C3%25B", trailing=("grpc-status=7", "grpc-message=h%25C3%25B")),
    "text-68c3bcff": _ended(7, "h%c3%bc%ff", trailing=("grpc-status=7", "grpc-message=h%c3%bc%ff")),
    "only-0": _ended(0, head=(), trailing=(*_HEAD, "grpc-status=0"), call=13),
    "only-7": _ended(7, head=(), trailing=(*_HEAD, "grpc-status=7")),
    "endless": _ended(2, has_message=True),
    "http-200": _ended(13),
    **{
        f"http-{status}": _ended(code, head=())
        for status, code in ((301, 2), (400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (500, 2), (503, 14))
    },
    "bare-200": _ended(2, head=(), trailing=_HEAD),
    "bare-404": _ended(12, head=()),
    "bare-503": _ended(14, head=()),
    # Resets and cuts.
    "early-0": _before("remote%20reset"),
    "early-7": _before("remote%20refused%20stream%20reset"),
    "early-8": _before("remote%20reset"),
    "headed-2": _after("remote_reset"),
    "headed-8": _after("remote_reset"),
    "late-0": _after("remote_reset", has_message=True),
    "late-7": _after("remote_refused_stream_reset", has_message=True),
    "late-8": _after("remote_reset", has_message=True),
    "late-11": _after("remote_reset", has_message=True),
    "goaway-0": _after("connection_termination", has_message=True),
    "goaway-2": _after("connection_termination", has_message=True),
    "graceful": _answered(),
    "unserved": _before("remote%20refused%20stream%20reset"),
    # Metadata, as it came or not at all.
    "value-ff": _answered("x-value=%ff"),
    "value-c3bc": _answered("x-value=%c3%bc"),
    "value-2061": _answered("x-value=%20a"),
    "value-610962": _answered("x-value=a%09b"),
    "value-": _answered("x-value="),
    "binary-415034": _answered("x-bin=AP4"),
    "last-ff": _answered(last=("grpc-status=0", "x-last=%ff")),
    "fields-98": _answered(*(f"x-{index}=v" for index in range(98))),
    "wide-59000": _answered("x-wide=" + "w" * 59_000),
}

_WHY = "the connection ends, and Envoy puts a call that is made in the callbacks of that onto it, to fail too"
_TERMINATED = _before("connection%20termination")
_CUT = _after("connection_termination", has_message=True)
_BAD_LAST = _after("protocol_error", has_message=True)
# What is here, and what in Envoy, where that is not even so for the stream that follows the call.
_DYING: dict[str, tuple[list[str], list[str]]] = {
    "abort": (_TERMINATED, _TERMINATED),
    "cut": (_CUT, [*_CUT[:2], *_TERMINATED[2:]]),
    "last-7f": (_BAD_LAST, [*_BAD_LAST[:2], *_PROTOCOL[2:]]),
    **dict.fromkeys(
        (
            *("garbage", "http-x", "value-0d", "value-610a62", "value-00", "value-7f", "value-01", "binary-00ff"),
            *("name-41", "name-ff", "name-6120", "name-3a78"),
        ),
        (_PROTOCOL, _PROTOCOL),
    ),
}

# A stream of these never ends; or Envoy dies of it, when the plugin makes a call in its callback. The number is the
# limit of the call in milliseconds: what comes before it must have come by then.
_CALLED: dict[str, tuple[int, list[str]]] = {
    "mute": (300, ["close(5, 14)", "status = 0, 14 upstream%20request%20timeout"]),
    "head": (3000, ["close(5, 13)", "status = 0, 13 response_timeout"]),
    "message": (3000, ["close(5, 13)", "status = 0, 13 response_timeout"]),
    "fields-99": (60_000, _before("remote%20reset")[:2]),
    "wide-62000": (60_000, _before("remote%20reset")[:2]),
}


def _both(mode: str, lines: list[str], envoy: list[str] | None = None) -> Case:
    script = (
        f"request call broken t {mode} _ hi 60000\nclose:5 status\n"
        f"receive:5 stream broken t {mode} _\nclose:5 stream broken t {mode} _\nclose:6 status\nclose:6 {_NEXT}"
    )
    begun, next_call = ["call = 0, token 5"], "call = 0, token 9"
    here = [*begun, *lines, next_call, "receive(9, 2) hi"]
    if envoy is None:
        return Case(script, here)
    return Case(script, here, [*begun, *envoy, next_call, "close(9, 14)"], _WHY)


BROKEN_CASES: dict[str, Case] = {
    **{mode: _both(mode, lines) for mode, lines in _MODES.items()},
    **{mode: _both(mode, *lines) for mode, lines in _DYING.items()},
    **{
        mode: Case(f"request call broken t {mode} _ hi {limit}\nclose:5 status", ["call = 0, token 5", *lines])
        for mode, (limit, lines) in _CALLED.items()
    },
}
