"""One filter of a chain whose VM has a kernel: what of it a request meets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, cast

from asgi_wasm.errors import PluginError
from asgi_wasm.host.directions import REQUEST, RESPONSE
from asgi_wasm.host.vm.vm import vm_of

if TYPE_CHECKING:
    from asgi_wasm.host.plugin import Filter
    from asgi_wasm.host.resident.resident import Resident
    from asgi_wasm.host.vm.contexts import RootContext


class Post:
    """A filter's root context, its kernel's crossings, and whether the plugin has callbacks for each."""

    __slots__ = (
        "changed",
        "changed_piece",
        "contexts",
        "effects",
        "end",
        "finish",
        "give",
        "give_time",
        "gives",
        "lent",
        "log",
        "may_want_time",
        "most",
        "pieces",
        "request",
        "resident",
        "response",
        "response_body",
        "root",
        "root_id",
        "show_request",
        "takes_end",
        "takes_log",
        "takes_request",
        "takes_response",
        "vm",
        "words",
    )

    def __init__(self, root: RootContext, resident: Resident) -> None:
        vm = vm_of(root)
        self.root, self.root_id, self.vm = root, root.id, vm
        self.resident = resident
        self.most = vm.spec.limits.contexts
        self.words = cast("list[int]", resident.words)
        self.gives, self.effects, self.lent = resident.gives, vm.effects, vm.lent
        self.contexts = vm.contexts
        self.request, self.response = resident.request, resident.response
        self.give, self.changed, self.give_time = resident.give, resident.changed, resident.give_time
        self.may_want_time = resident.may_want_time
        self.log, self.finish, self.end = resident.log, resident.finish, resident.end
        self.takes_request = vm.on_context_create is not None or vm.on_headers[0] is not None
        self.takes_response = vm.on_headers[1] is not None
        native = resident.native
        show = resident.show_request if native is None else native.show
        # For a piece of a request's body.
        self.show_request = show if vm.on_body[REQUEST] is not None else None
        self.response_body = resident.response_body if vm.on_body[RESPONSE] is not None else None
        # Where the piece of a body is kept that a callback is shown.
        self.pieces = resident.keeper
        self.changed_piece = resident.changed_piece
        self.takes_log = vm.on_log is not None
        self.takes_end = vm.on_done is not None or vm.on_delete is not None


def posts_of(filters: Sequence[Filter], delicate: Collection[bytes]) -> list[Post]:
    """A post for each filter; none when some filter has no kernel, or cannot be started now.

    ``delicate`` are the names whose changes a kernel's host is not to repeat by itself.
    """
    posts = []
    for plugin_filter in filters:
        try:
            root = plugin_filter.root()
        except PluginError:
            return []
        resident = vm_of(root).resident
        if resident is None:
            return []
        resident.tell_names(delicate)
        posts.append(Post(root, resident))
    return posts
