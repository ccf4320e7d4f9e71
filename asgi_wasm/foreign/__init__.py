"""Foreign functions: what plugins may call by name beyond the ABI (spec chapter "Foreign functions").

`envoy`, `signatures` and `expressions` have Envoy's own, `python` makes them of Python functions, which `decorator`
collects; `calls` runs the asynchronous ones. `host.hostcalls.foreign` is the hostcall.
"""
