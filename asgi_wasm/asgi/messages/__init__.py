"""ASGI messages and scopes as header maps, and back: what the lane, the exchange and WebSockets share."""
