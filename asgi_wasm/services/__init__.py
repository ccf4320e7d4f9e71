"""What stands behind the host's ports, and what carries out effects that take time."""
