"""``asgi-wasm run``: plugins in front of an app, an HTTP server or an echo."""
