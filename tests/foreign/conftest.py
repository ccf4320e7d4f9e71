"""What the plugin that calls foreign functions tells, it tells in the log."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
