"""The Proxy-Wasm host, sans-IO: bytes and plain calls in, plain calls out; no loop, no ASGI, no engine of its own."""
