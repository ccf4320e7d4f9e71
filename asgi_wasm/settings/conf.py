"""A plugin's configuration as the bytes that it gets."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator


def encode_conf(value: object) -> bytes | None:
    """A configuration as the bytes that the plugin gets: text as UTF-8, anything else as compact JSON.

    Raises ValueError for what neither can express.
    """
    if value is None or isinstance(value, bytes):
        return value
    try:
        text = (
            value
            if isinstance(value, str)
            else json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        )
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("cannot be encoded: it has characters that are none (surrogates)") from None
    except RecursionError:
        raise ValueError("cannot be encoded: it is nested too deeply") from None
    except TypeError as error:
        raise ValueError(f"cannot be encoded ({error}): give a string, or what JSON can express") from None
    except ValueError:
        # Not in the encoder's words, which hold what was given.
        raise ValueError("cannot be encoded: give a string, or what JSON can express") from None


Conf = Annotated[Any, BeforeValidator(encode_conf)]
