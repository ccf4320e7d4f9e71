"""The middleware around plugins that a test writes itself; settings that a test changes."""

from tests.guests import serve_guests, wrap_guests
from tests.worker.versions import configured

__all__ = ["configured", "serve_guests", "wrap_guests"]
