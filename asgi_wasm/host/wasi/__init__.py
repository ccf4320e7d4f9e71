"""WASI for modules that were built for it."""
