"""ASGI's types, which are Starlette's: as loose as the specification, messages are dictionaries."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ASGIApp", "Message", "Receive", "Scope", "Send"]
