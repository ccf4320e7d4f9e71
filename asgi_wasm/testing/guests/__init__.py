"""Plugins written in Python for a test, and the host as they call it."""
