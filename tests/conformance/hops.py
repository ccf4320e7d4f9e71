"""What belongs to one hop of a message, and so is no part of what the two hosts must have in common."""

from __future__ import annotations

# Headers that each server makes for its own connection (RFC 9110 7.6.1) or for itself (`date`, `server`). How long a
# body is they tell by "content-length" or "transfer-encoding"; that choice is compared, as the response's framing.
HOP_HEADERS = frozenset(
    {"connection", "date", "expect", "keep-alive", "proxy-connection", "server", "transfer-encoding", "upgrade"}
)

# What Envoy's HTTP/1 codec leaves in the map of an app's response, where asgi-wasm's plugins see what the app said. A
# filter of Envoy's own takes it out before the plugins, so that all the rest can be compared to the byte; the chains
# that are not `level` show the difference.
CODEC_HEADERS = ("transfer-encoding", "connection", "keep-alive")

# Envoy adds this to a request that has none, and finds no route without it. So requests bring it with them.
SCHEME_HEADER = ("x-forwarded-proto", "http")
