"""Foreign functions: what plugins may call by name beyond the ABI (spec chapter "Foreign functions").

`envoy` has Envoy's own, `python` makes them of Python functions. `host.hostcalls.foreign` is the hostcall.
"""
