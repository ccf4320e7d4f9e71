"""What is wrong with the settings: one sentence a mistake, each naming the source and the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from asgi_wasm.errors import Mistake, SettingsError
from asgi_wasm.settings import names
from asgi_wasm.settings.files import shown
from asgi_wasm.settings.sources import Source

_Model = TypeVar("_Model", bound=BaseModel)
# What pydantic says of our classes and Python's means nothing to those who write settings.
_OF_CLASSES = re.compile(r" (?:or instance of \w+|for <class '.*'>)$")
# pydantic's kinds of what is of another type, in the words of YAML.
_WORDS = (
    ("bool_", "must be true or false"),
    ("dict_", "must be a mapping"),
    ("float_", "must be a number"),
    ("int_", "must be a whole number"),
    ("list_", "must be a list"),
    ("model_", "must be a mapping"),
    ("path_", "must be a path"),
    ("string_type", "must be a text"),
)


class Mistakes:
    """Collects them, so that all are told at once."""

    def __init__(self) -> None:
        self.found: list[Mistake] = []

    def blame(self, source: Source | None, key: str, problem: str) -> None:
        """Write one down."""
        # Names and keys come from files and variables: they may hold anything.
        name, file = (shown(source.name), source.file) if source else ("settings", None)
        self.found.append(Mistake(name, shown(key), problem, file))

    def check_none(self) -> None:
        """Raises `SettingsError` if there is any."""
        if self.found:
            raise SettingsError("\n".join(map(str, self.found)), tuple(self.found))

    def check(
        self,
        model: type[_Model],
        data: Any,
        where: str,
        source_of: Mapping[str, Source],
        default: Source | None = None,
    ) -> _Model | None:
        """The checked entry; None, with its mistakes written down, when something is wrong.

        ``source_of`` has the source of each of its keys; what is in none of them is ``default``'s, or the first one's.
        """
        try:
            return model.model_validate(data)
        except RecursionError:
            self.blame(next(iter(source_of.values()), default), where, "is nested too deeply")
            return None
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_context=False):
                loc, message = _explained(model, detail["type"], detail["loc"], detail["msg"], detail["input"])
                top = str(detail["loc"][0]) if detail["loc"] else ""
                source = source_of.get(top, default) or next(iter(source_of.values()), None)
                self.blame(source, ".".join([part for part in (where, *map(str, loc)) if part]), message)
            return None


def _explained(
    model: type[BaseModel], kind: str, loc: tuple[int | str, ...], message: str, value: object
) -> tuple[tuple[int | str, ...], str]:
    """Where a mistake is, and what it is, in our words. The value is not shown: it may be a secret."""
    if kind == "extra_forbidden":
        known = list(model.model_fields) if len(loc) == 1 else []
        return loc[:-1], names.unknown(str(loc[-1]), known) if known else f"unknown key {shown(loc[-1])!r}"
    if kind == "missing":
        return loc, "is missing"
    for beginning, words in _WORDS:
        if kind.startswith(beginning):
            return loc, words + _hint(kind, value)
    text = _OF_CLASSES.sub("", message.removeprefix("Value error, "))
    return loc, text[:1].lower() + text[1:] if text[:5] == "Input" else text


def _hint(kind: str, value: object) -> str:
    """What is often meant: YAML's ``no`` and ``1.0`` as words, and Kubernetes' ``64Mi``."""
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return ": put it in quotes"
    if kind in ("int_parsing", "float_parsing") and isinstance(value, str) and value[:1].isdigit():
        return ", without a unit"
    return ""
