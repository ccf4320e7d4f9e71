"""What the entries of the settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Entry(BaseModel):
    """A mapping of the settings with known keys."""

    model_config = ConfigDict(extra="forbid", validate_default=False)
