"""The full way of one request and its response, with all that may happen on it; it alone performs effects."""
