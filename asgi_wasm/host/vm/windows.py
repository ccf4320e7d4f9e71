"""What one filter may touch of its stream at this moment: header maps, and pieces of bodies.

Followed: proxy-wasm-cpp-host `include/proxy-wasm/context.h`; Envoy `source/extensions/common/wasm/context.cc`, which
drops its pointers when a callback answers Continue.
"""

from __future__ import annotations

from asgi_wasm.host.directions import TRAILERS_MAPS
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.header_map import HeaderMap


class Windows:
    """``maps`` (by `MapType`) and ``bodies`` (by direction) hold what may be touched, None what may not.

    They are filled before a callback and emptied when it answers Continue. It is a stream context's base and not an
    object that the context has, and leaves the first values to that one's `__init__`: every request goes through it.
    """

    __slots__ = ("_may_make_trailers", "bodies", "maps")

    maps: list[HeaderMap | None]
    bodies: list[Buffer | None]
    # The map of trailers that writing to it makes; 0, which is none, otherwise.
    _may_make_trailers: int

    def show_body(self, direction: int, buffer: Buffer, *, end_of_stream: bool) -> None:
        """Open the window of a body callback.

        When the end is here, writing to the trailers map makes trailers (`take_made_trailers`).
        """
        self.bodies[direction] = buffer
        self._may_make_trailers = TRAILERS_MAPS[direction] if end_of_stream else 0

    def hide_body(self, direction: int) -> None:
        """Close it: the callback is over."""
        self._may_make_trailers = 0
        self.bodies[direction] = None

    def take_made_trailers(self, direction: int) -> HeaderMap | None:
        """The trailers that the last body callback made, once."""
        window = TRAILERS_MAPS[direction]
        made, self.maps[window] = self.maps[window], None
        return made

    def writable(self, map_type: int) -> HeaderMap | None:
        """The map that may be changed now. Envoy makes trailers when a body's last callback first writes to them."""
        found = self.maps[map_type]
        if found is None and map_type == self._may_make_trailers != 0:
            found = self.maps[map_type] = HeaderMap()
        return found
