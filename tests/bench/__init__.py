"""What a Wasm plugin costs beside the same thing as a native middleware, in an external process and in Envoy.

`make bench` runs all of it, `make bench-quick` what fits in a minute; neither judges. What is deterministic is a test:
`test_calls_per_request.py`.
"""
