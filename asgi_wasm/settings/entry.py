"""What the entries of the settings have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Entry(BaseModel):
    """A mapping of the settings with known keys. What was given is never printed: it may be a secret."""

    model_config = ConfigDict(extra="forbid", validate_default=False, hide_input_in_errors=True)


def _no_boolean(value: object) -> object:
    """To Python and pydantic, true is 1; whoever writes it means something else."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _of_64_bits(value: int) -> int:
    """What engines, and Python's own containers, can count to."""
    if not -(2**63) <= value < 2**63:
        raise ValueError("is beyond 64 bits")
    return value


def _duration(value: object) -> object:
    """Envoy's durations are words like ``1.5s``."""
    return value[:-1] if isinstance(value, str) and value.endswith("s") else value


def boolean(value: object) -> object:
    """The words that YAML, the environment and Envoy's snippets have for it; anything else is refused later."""
    return _BOOLEANS.get(value.lower(), value) if isinstance(value, str) else value


def one_or_several(value: object) -> object:
    """A list, of which one element may stand alone. It is not to be empty: who wants all leaves it out."""
    if isinstance(value, (list, tuple, set, frozenset)) and not value:
        raise ValueError("is empty, so nothing would match: leave it out, or name some")
    return [value] if isinstance(value, str) else value


def texts(value: Mapping[str, str]) -> Mapping[str, str]:
    """Names and values of environment variables. Raises ValueError."""
    for name, text in value.items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name of a variable: it must not be empty, nor have '=' or NUL in it")
        if "\0" in text:
            raise ValueError(f"the value of {name!r} has a NUL, which ends it")
    return value


if TYPE_CHECKING:
    Flag = bool
    Count = int
    CountOrNone = int
    Number = int
    Seconds = float
else:
    Flag = Annotated[bool, BeforeValidator(boolean)]
    Number = Annotated[int, BeforeValidator(_no_boolean), AfterValidator(_of_64_bits)]
    Count = Annotated[Number, Field(gt=0)]
    CountOrNone = Annotated[Number, Field(ge=0)]
    Seconds = Annotated[
        float, BeforeValidator(_no_boolean), BeforeValidator(_duration), Field(gt=0, allow_inf_nan=False)
    ]
