"""The middleware around plugins that a test writes itself."""

from tests.guests import serve_guests, wrap_guests

__all__ = ["serve_guests", "wrap_guests"]
