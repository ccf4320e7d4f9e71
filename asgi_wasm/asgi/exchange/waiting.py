"""Waiting: for the client's next word, for what comes from outside, and for a pause to end in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from asgi_wasm.asgi.exchange.pauses import give_up, paused_by
from asgi_wasm.waits import wait

if TYPE_CHECKING:
    from asgi_wasm.asgi.exchange.environment import Environment
    from asgi_wasm.asgi.types import Message, Receive
    from asgi_wasm.host.streams.filter_chain import FilterChain
    from asgi_wasm.waits import Timers

# How many times `pause_timeout` a pause may last while the client sends.
LONGEST_PAUSE = 10


class Waiter:
    """Waits for whatever lets a stream go on; any number of tasks may `step`. A base class: it hears, others listen.

    The client's next message is awaited by one call of the server's ``receive`` at a time, which outlives the task
    that began it: cancelled, it could take a message with it. What else lets a stream go on (the answer of a callout,
    a tick that resumes, another request's end) tells by `wake`. A pause that nothing ends is given up.
    """

    def __init__(
        self,
        environment: Environment,
        chain: FilterChain,
        receive: Receive,
        reading: asyncio.Future[Message] | None = None,
    ) -> None:
        """``reading`` is a call of ``receive`` that is under way, or done."""
        self._environment = environment
        self._chain = chain
        self._receive = receive
        # Under way, or done and not heard.
        self.reading = reading
        self._change: asyncio.Future[None] | None = None
        self.pause_timer: asyncio.TimerHandle | None = None
        self._paused_since = 0.0

    @property
    def may_read(self) -> bool:
        """Whether the client is to be listened to now."""
        raise NotImplementedError

    def _hear(self, message: Message) -> None:
        """Take a message of the client."""
        raise NotImplementedError

    async def step(self) -> None:
        """Await one thing that can change the stream: a message of the client, or something from outside.

        Raises what the server's ``receive`` raises.
        """
        if self.take_reading():
            return
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        waiting: set[asyncio.Future[Any]] = {self._change}
        if self.may_read:
            if self.reading is None:
                self.reading = asyncio.ensure_future(self._receive())
            waiting.add(self.reading)
        if paused_by(self._chain) is not None:
            self.watch_pause()
        await wait(waiting, asyncio.FIRST_COMPLETED)
        self.take_reading()

    def take_reading(self) -> bool:
        """Take what was read meanwhile, without awaiting: an app may cancel its `receive` at the first await."""
        reading = self.reading
        if reading is None or not reading.done():
            return False
        self.reading = None
        try:
            self._hear(reading.result())
        finally:
            self.notify()
        return True

    def notify(self) -> None:
        """Let every `step` return."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def wake(self) -> None:
        """Something reached a far end of the chain."""
        if self.pause_timer is not None:
            self.forget_pause()
            if paused_by(self._chain) is not None:
                self.watch_pause()
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def close(self, *tasks: asyncio.Future[Any] | None) -> None:
        """Cancel what runs, these ``tasks`` too: all before the first await, at which we may be cancelled (again)."""
        if self.pause_timer is not None:
            self.forget_pause()
        reading, self.reading = self.reading, None
        running: list[asyncio.Future[Any]] = []
        for task in (reading, *tasks):
            if task is not None and not task.done():
                task.cancel()
                running.append(task)
        if running:
            await wait(running)

    # --- pauses

    @property
    def _timers(self) -> Timers:
        return self._environment.timers or asyncio.get_running_loop()

    def watch_pause(self) -> None:
        """A plugin holds something: give up when nothing more happens for too long."""
        if self.pause_timer is None:
            self._paused_since = self._timers.time()
            self._arm_pause()

    def renew_pause(self) -> None:
        """The client has sent more, but not for ever: it may drip it."""
        if self.pause_timer is not None:
            self.pause_timer.cancel()
            self._arm_pause()

    def forget_pause(self) -> None:
        """The pause is over."""
        if self.pause_timer is not None:
            self.pause_timer.cancel()
            self.pause_timer = None

    def _arm_pause(self) -> None:
        timers, seconds = self._timers, self._environment.pause_timeout
        left = self._paused_since + LONGEST_PAUSE * seconds - timers.time()
        self.pause_timer = timers.call_later(max(0.0, min(seconds, left)), self._give_up)

    def _give_up(self) -> None:
        self.pause_timer = None
        give_up(self._environment, self._chain)
