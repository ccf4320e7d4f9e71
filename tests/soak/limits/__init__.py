"""Each limit gone over again and again: whatever is refused, nothing may be kept of it."""
