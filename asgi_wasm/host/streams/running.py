"""Runs one filter's callbacks of a direction; what each answers is an event of the table in `iteration`.

A filter without a context, or whose VM has failed, lets pass what the failure policy has not ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.host.abi import CONTINUE
from asgi_wasm.host.directions import HEADERS_MAPS
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.iteration import Input, data_input, headers_input, trailers_input
from asgi_wasm.host.streams.stage import Owner, Stage, growing
from asgi_wasm.host.vm.contexts import VmFailedError

if TYPE_CHECKING:
    from asgi_wasm.host.streams.header_map import HeaderMap


def run_headers(
    stage: Stage, direction: int, headers: HeaderMap, end: bool, verdict: int | None, owner: Owner
) -> Input:
    """Make the filter's context if need be, and show it the headers; ``verdict`` when it has seen them already."""
    context = stage.context or owner.open(stage)
    if context is None or context.failed:
        return Input.HEADERS_CONTINUE
    try:
        verdict = context.headers(direction, headers, end) if verdict is None else verdict
    except VmFailedError:
        owner.failed(context)
        return Input.HEADERS_CONTINUE
    if verdict == CONTINUE:
        # Its window is closed by now, unless it answered before this direction had it.
        context.maps[HEADERS_MAPS[direction]] = None
        return Input.HEADERS_CONTINUE
    return headers_input(verdict, allow_stop_iteration=context.root.spec.allow_on_headers_stop_iteration)


def run_body(
    stage: Stage, direction: int, buffer: Buffer, end: bool, verdict: int | None, owner: Owner
) -> tuple[Input, HeaderMap | None]:
    """Show it a piece; ``verdict`` when it has seen it already. With the event: trailers that it made at the end."""
    context = stage.context
    if context is None or context.failed:
        return Input.DATA_CONTINUE, None
    try:
        if verdict is None:
            verdict = context.body(direction, buffer, end)
        else:
            context.hide_body(direction)
    except VmFailedError:
        owner.failed(context)
        return Input.DATA_CONTINUE, None
    return data_input(verdict), context.take_made_trailers(direction) if end else None


def run_trailers(stage: Stage, direction: int, trailers: HeaderMap, owner: Owner) -> Input:
    """Show it the trailers; what was buffered is still there to be read and changed."""
    context = stage.context
    if context is None or context.failed:
        return Input.TRAILERS_CONTINUE
    stage.take_back(direction)
    buffer = Buffer(stage.held)
    if stage.buffering:
        context.bodies[direction] = buffer
    try:
        verdict = context.trailers(direction, trailers)
    except VmFailedError:
        owner.failed(context)
        return Input.TRAILERS_CONTINUE
    context.bodies[direction] = None
    stage.held = growing(buffer.data)
    return trailers_input(verdict)
