"""Expressions in CEL, by Google's own runtime, which Envoy has too (package cel-expr-python, extra ``cel``).

What an expression may name are Envoy's attributes; who evaluates one hands in how to read them. Only what occurs in its
text is read. Followed: Envoy `source/extensions/filters/common/expr/context.cc` (names, types, any case of headers).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cel_expr_python.cel import Expression as Program
    from cel_expr_python.cel import Value

MISSING = "needs the package cel-expr-python: pip install 'asgi-wasm[cel]' (it has wheels for CPython 3.11 to 3.14)"
# Of an attribute of one part, of two, and of three for a header: bytes, text, a number, a mapping of headers; None for
# one that is not there.
Read = Callable[[tuple[bytes, ...]], Any]

_REQUEST = """
path url_path host scheme method headers headers_bytes referer useragent id query protocol size total_size time duration
"""
ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "request": frozenset(_REQUEST.split()),
    "response": frozenset(
        ["code", "code_details", "flags", "grpc_status", "headers", "headers_bytes", "trailers", "size", "total_size"]
    ),
    "source": frozenset(("address", "port")),
    "destination": frozenset(("address", "port")),
    "connection": frozenset(["mtls", "requested_server_name", "tls_version", "subject_peer_certificate"]),
}
# What Envoy has and there is nothing in here.
EMPTY = frozenset(("metadata", "upstream", "xds"))
# The runtime's own limit, kept before it: of a longer text, each word would be a variable first.
MAX_CHARACTERS = 100_000
_TIME, _DURATION = "request.time", "request.duration"
_KEYWORDS = frozenset(("true", "false", "null", "in"))
_MAPS = frozenset(("headers", "trailers"))
_WORD = re.compile(r"[A-Za-z_]\w*")
# From the start of a word on: the time of all these patterns grows as the text does.
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_UNDECLARED = re.compile(r"undeclared reference to '(?:[\w.]+\.)?(\w+)'")
_LITERAL = re.compile(r"\[\s*(?:\"([^\"\\]*)\"|'([^'\\]*)')\s*\]")
_PRESENT = re.compile(r"(?:\"([^\"\\]*)\"|'([^'\\]*)')\s*in\b")
_HEADERS = re.compile(r"\b(?:headers|trailers)\b")
_NAMED = re.compile(rf"\b(?:headers|trailers)\s*{_LITERAL.pattern}|{_PRESENT.pattern}\s*request\s*\.\s*headers\b")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class CelMissingError(Exception):
    """Raised where the package is not installed."""


class WrongExpressionError(Exception):
    """Raised with what is wrong, in a line. ``unknown_function``: its form is right, but it calls what there is not."""

    def __init__(self, problem: str, *, unknown_function: bool = False) -> None:
        super().__init__(problem)
        self.unknown_function = unknown_function


class Expression:
    """One, compiled. Raises `WrongExpressionError`, or `CelMissingError`."""

    def __init__(self, text: str, *, is_condition: bool = False, chance: Callable[[], float] = random.random) -> None:
        """A condition is checked more strictly: every name must be known, and it must come to true or false.

        Its `random()` is ``chance``, a number from 0 up to 1.
        """
        if len(text) > MAX_CHARACTERS:
            raise WrongExpressionError(f"it has {len(text)} characters, and may have {MAX_CHARACTERS}")
        self.text = text
        words = set(_WORD.findall(text))
        self._leaves = {
            root: sorted(leaves & words - {"time", "duration"}) for root, leaves in ATTRIBUTES.items() if root in words
        }
        self._times = [name for name in (_TIME, _DURATION) if name in text]
        known = {*ATTRIBUTES, *EMPTY, *_KEYWORDS, "filter_state", *_CALL.findall(text)}
        self.others = frozenset() if is_condition else frozenset(words - known)
        self._empty = sorted(EMPTY & words)
        self.wants_state = "filter_state" in words
        self._spelled = sorted({one or two for one, two in _LITERAL.findall(text)})
        self._asked = {(one or two).lower() for one, two in _PRESENT.findall(text)}
        # Whether headers are only ever named one by one.
        self._names_headers = len(_HEADERS.findall(text)) == len(_NAMED.findall(text))
        self._is_condition = is_condition
        self._chance = chance
        self._program = self._condition() if is_condition else self._compiled()

    def _compiled(self) -> Program:
        """As Envoy: names are looked up when it is evaluated, functions now."""
        unchecked = _compile(_environment(self.others), self.text, checked=False)
        try:
            return _compile(_environment(self.others), self.text)
        except WrongExpressionError as error:
            called = set(_CALL.findall(self.text))
            if called & set(_UNDECLARED.findall(str(error))):
                raise WrongExpressionError(str(error), unknown_function=True) from None
            # What types contradict is an error of the evaluation.
            return unchecked

    def _condition(self) -> Program:
        program = _compile(_environment((), self._chance), self.text)
        kind = program.return_type().name()
        if kind not in ("BOOL", "DYN"):
            raise WrongExpressionError(f"comes to {kind.lower()}, not to true or false")
        return program

    def evaluate(self, read: Read, state: Mapping[bytes, bytes] | None = None) -> Value:
        """Its value, which may be an error. ``state`` is what `filter_state` has."""
        data: dict[str, Any] = {name: {} for name in self._empty}
        for root, leaves in self._leaves.items():
            found = {leaf: self._value(read, root, leaf) for leaf in leaves}
            data[root] = {leaf: value for leaf, value in found.items() if value is not None}
        for name in self._times:
            if (time := read((b"request", name.partition(".")[2].encode()))) is not None:
                spent = timedelta(microseconds=time // 1000)
                data[name] = _EPOCH + spent if name == _TIME else spent
        for name in self.others:
            if (value := read((name.encode(),))) is not None:
                data[name] = value
        if self.wants_state:
            data["filter_state"] = {_text(key): value for key, value in (state or {}).items()}
        return self._program.eval(data=data)

    def holds(self, read: Read) -> bool:
        """Whether a condition is true. Raises ValueError, with what is wrong, where it has no answer."""
        value = self.evaluate(read).value()
        if value is True or value is False:
            return value
        raise ValueError(str(value).partition("\n")[0])

    def _value(self, read: Read, root: str, leaf: str) -> Any:
        if leaf in _MAPS:
            if self._names_headers:
                return self._named_headers(read, root.encode(), leaf.encode())
            return self._headers(read((root.encode(), leaf.encode())) or {})
        value = read((root.encode(), leaf.encode()))
        return _text(value) if isinstance(value, bytes) else value

    def _named_headers(self, read: Read, root: bytes, leaf: bytes) -> dict[str, str]:
        found = ((name, read((root, leaf, name.lower().encode()))) for name in (*self._spelled, *self._asked))
        return self._headers({name.lower().encode(): value for name, value in found if value is not None})

    def _headers(self, pairs: Mapping[bytes, bytes]) -> dict[str, str]:
        """As a map; a name that the expression spells in another case is there as it spells it.

        To a condition, a header that is not there is empty, unless it asks whether it is there: so that neither `==`
        nor `!=` is an error.
        """
        found = {_text(name): _text(value) for name, value in pairs.items()}
        for name in self._spelled:
            lower = name.lower()
            if lower in found:
                found[name] = found[lower]
            elif self._is_condition and lower not in self._asked:
                found[name] = ""
        return found


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _environment(names: Collection[str], chance: Callable[[], float] | None = None) -> Any:
    """Of a condition, where there is a ``chance``."""
    try:
        from cel_expr_python import cel
    except ImportError:
        raise CelMissingError from None
    kind = cel.Type
    if chance is None:
        variables = dict.fromkeys((*names, *ATTRIBUTES, *EMPTY, "filter_state"), kind.DYN)
        return cel.NewEnv(variables={**variables, _TIME: kind.TIMESTAMP, _DURATION: kind.DURATION})
    # A request's condition is asked before there is anything else.
    variables = dict.fromkeys((root for root in ATTRIBUTES if root != "response"), kind.DYN)
    drawn = cel.Overload("random", return_type=kind.DOUBLE, parameters=[], impl=chance)
    return cel.NewEnv(variables={**variables, _TIME: kind.TIMESTAMP}, functions=[cel.FunctionDecl("random", [drawn])])


def _compile(environment: Any, text: str, *, checked: bool = True) -> Program:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise WrongExpressionError("it has characters that are none (surrogates)")
    try:
        program: Program = environment.compile(text, disable_check=not checked)
    except RuntimeError as error:
        first = str(error).partition("\n")[0].replace(" (in container '')", "")
        raise WrongExpressionError(re.sub(r"^.*ERROR: <input>:", "line and column ", first)) from None
    return program
