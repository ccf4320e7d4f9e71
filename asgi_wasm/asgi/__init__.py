"""The ASGI border: the only code that knows scopes, messages, receive and send."""
