"""How a request leaves its kernels: from a `Lent` to the `Request` that goes on, at whatever point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wasm.asgi.lane.heads import pairs_of
from asgi_wasm.asgi.lane.lent_state import BODY, IDLE, LOG, REQUEST, RESPONSE, LentState
from asgi_wasm.asgi.lane.request import Request
from asgi_wasm.asgi.messages import translate
from asgi_wasm.asgi.messages.first import Told
from asgi_wasm.host.codecs.wire import decode_pairs
from asgi_wasm.host.directions import REQUEST_HEADERS, RESPONSE_HEADERS
from asgi_wasm.host.effects import LocalResponse
from asgi_wasm.host.resident.layout import BODY_ENDS, CALLING, CREATING, DELETING, ENDING, REQUEST_SLOT, STEP
from asgi_wasm.host.resident.window import Local, repeat
from asgi_wasm.host.streams.buffer import Buffer
from asgi_wasm.host.streams.header_map import RequestHeaderMap
from asgi_wasm.host.streams.passage import Refusal, end_context, log_failure
from asgi_wasm.host.vm import lifecycle
from asgi_wasm.host.vm.contexts import StreamContext, VmFailedError

if TYPE_CHECKING:
    from asgi_wasm.asgi.lane.service import Service
    from asgi_wasm.asgi.types import Message


def request_of(lane: Service, lent: LentState) -> Request:
    """What goes on with a request that leaves. In the middle of a crossing, it takes over from the kernel."""
    request = Request(lane, lent.scope, lent.server_receive, lent.server_send, Told(lent.ends), lent.began)
    _make_contexts(request, lent)
    _make_maps(request, lent)
    _tell_progress(request, lent)
    if lent.phase != IDLE:
        _take_crossing(request, lent)
    return request


def _make_contexts(request: Request, lent: LentState) -> None:
    passage = request.passage
    if lent.properties is not None:
        passage.properties = lent.properties
    for context_id, post in zip(lent.ids, lent.posts):  # noqa: B905  # the request may not have come to all of them
        context = StreamContext(context_id, post.root, passage)
        # One whose end has been is there for the order of contexts only.
        if post.vm.lent.pop(context_id, None) is not None:
            post.vm.contexts[context_id] = context
        passage.contexts.append(context)


def _make_maps(request: Request, lent: LentState) -> None:
    passage = request.passage
    if lent.changed:
        passage.request_headers = headers = RequestHeaderMap(pairs_of(lent.pseudo) + lent.fields)
        headers.changed = True
    else:
        passage.request_headers = translate.request_headers(lent.scope)
    if lent.message is not None:
        shown = _said(lent.message, lent.status)
        if lent.response_fields is not None:
            shown = {**shown, "headers": lent.response_fields}
        passage.response_headers = response = translate.response_headers(shown)
        passage.status = response.get(b":status") or b""
        if lent.response_changed and lent.response_fields is not None:
            response.pairs[1:] = lent.response_fields
            response.changed = True
    if lent.answer is not None:
        passage.reply, passage.local_details = lent.answer.content, lent.answer.details
        passage.answered_locally = True


def _said(message: Message, status: bytes | None) -> Message:
    """The app's start message, of which the app may have made another since."""
    return message if status is None else {**message, "status": int(status)}


def _tell_progress(request: Request, lent: LentState) -> None:
    passage, progress = request.passage, request.progress
    progress.client_ended, progress.client_gone, progress.first = lent.client_ended, lent.client_gone, lent.first
    progress.app_is_reading = lent.app_is_reading
    progress.bytes_out, progress.complete = lent.bytes_out, lent.complete
    if lent.phase != RESPONSE and lent.message is not None:
        progress.response = _said(lent.message, lent.status)
    progress.held, progress.drops_body = lent.held is not None, lent.drops_body
    progress.shows_body, progress.bytes_in = lent.shows_body, lent.bytes_in
    if lent.shows_body:
        progress.unread, progress.reading = lent.unread, lent.reading
    request.attributes.request_size = lent.request_size
    passage.passed = len(lent.ids)
    if lent.phase == REQUEST:
        passage.passed = lent.index
    elif lent.phase == RESPONSE:
        passage.passed = len(lent.ids) - 1 - lent.index
    elif lent.phase >= LOG or lent.over:
        request.ended = lent.phase == IDLE
        request.attributes.finished = passage.finished = True


def _take_crossing(request: Request, lent: LentState) -> None:
    """Do what the callback that runs, or has just run, has done to the kernel's maps."""
    passage, post = request.passage, lent.posts[lent.index]
    context = passage.contexts[lent.index]
    step = post.words[STEP]
    changes, local = post.resident.take_back()
    for slot, change in changes:
        headers = passage.request_headers if slot == REQUEST_SLOT else passage.response_headers
        if headers is not None:
            repeat(headers, [change])
    if lent.phase == REQUEST and step != CREATING:
        context.maps[REQUEST_HEADERS] = passage.request_headers
    elif lent.phase == RESPONSE:
        context.maps[RESPONSE_HEADERS] = passage.response_headers
    elif lent.phase == BODY:
        context.show_body(lent.body_of, Buffer(post.pieces.piece), end_of_stream=bool(post.words[BODY_ENDS]))
    elif lent.phase == LOG:
        context.logging = step == CALLING
    if local is not None:
        post.vm.effects.append(_effect(context, local))


def _effect(context: StreamContext, local: Local) -> LocalResponse:
    return LocalResponse(context, local.status, local.details, local.body, decode_pairs(local.pairs), None)


def left_at_end(request: Request, lent: LentState, step: int) -> None:
    """The callback in which the request left, or its VM failed, was one of those at a stream's end."""
    passage, index = request.passage, lent.index
    context, log = passage.contexts[index], request.environment.log
    failed = context.vm.failure is not None
    if failed:
        log_failure(context, log)
        context.vm.abandon_streams()
    context.logging = False
    if lent.phase == LOG and step < ENDING:
        passage.logged = index + 1
        return
    passage.logged = len(passage.contexts)
    passage.deleted = index + 1
    if step >= DELETING:
        context.deleted = True
        context.vm.forget(context)
    elif not failed:
        end_context(context, lifecycle.delete_stream, log)


def refuse(request: Request, index: int) -> None:
    """The filter's VM failed when the context was made: it has none."""
    passage = request.passage
    root = passage.contexts.pop(index).root
    passage.refusal = Refusal(VmFailedError(root.vm.failure), root)
