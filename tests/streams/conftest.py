"""The middleware around plugins that a test writes itself."""

from tests.guests import wrap_guests

__all__ = ["wrap_guests"]
