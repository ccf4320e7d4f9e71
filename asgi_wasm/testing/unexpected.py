"""What a plugin did that a test has no answer for."""

from __future__ import annotations


class UnexpectedCallError(AssertionError):
    """Raised when a plugin has made a call for which the test has no answer."""
