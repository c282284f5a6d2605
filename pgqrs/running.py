"""Start a worker process's loop for one consumer or several: handlers, signals, the end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any

from sqlalchemy import Engine

from pgqrs.config import Config
from pgqrs.consumer_steps import ConsumerSteps
from pgqrs.errors import InvalidStateError
from pgqrs.hook import traced_handler
from pgqrs.message import Handlers
from pgqrs.patience import Patience
from pgqrs.runner import Lane, Loop, LoopSlots, Report, ThreadSlots
from pgqrs.runner.room import Room
from pgqrs.runner.within import Sessions, is_async, sessions_for, work_of
from pgqrs.types import Duration, QueueInfo, QueueMessage, name_of, span

__all__ = [
    "AnyRunner",
    "Handling",
    "Lineup",
    "Sessions",
    "handling",
    "loop_of",
    "run_loop",
    "stopping_on_signals",
]


@dataclass(frozen=True, slots=True)
class Handling:
    """A handler, and how many messages it gets how."""

    handler: Callable[..., Any]
    room: Room
    sessions: Sessions | None = None


def handling(
    handler: Callable[..., Any],
    config: Config,
    concurrency: int,
    prefetch: int | None,
    batch: bool,  # noqa: FBT001
    batch_size: int | None,
    timeout: Duration | None,
    session: Sessions | None = None,
) -> Handling:
    """Check the options of `run`. Raises ValueError, and TypeError for an unfit `session`."""
    if concurrency < 1:
        raise ValueError(f"concurrency is at least 1, not {concurrency}")
    size = (batch_size or config.max_batch_size) if batch or batch_size is not None else 0
    if (prefetch or 0) < 0 or size < 0:
        raise ValueError("prefetch and batch_size are not negative")
    ahead, most = _ahead(config, prefetch, size)
    limit = None if timeout is None else span(timeout).total_seconds()
    if isinstance(handler, Handlers) and size:
        raise ValueError("handlers by message type take one message at a time, not batches")
    if session is not None and size:
        raise ValueError("with a session handlers take one message at a time, not batches")
    sessions = None if session is None else sessions_for(handler, session)
    return Handling(handler, Room(concurrency, size, ahead, most, limit), sessions)


def _ahead(config: Config, prefetch: int | None, batch_size: int) -> tuple[int, int]:
    """Give how many messages are leased ahead at the least and at the most; whole batches."""
    if prefetch is None and "prefetch_count" in config.model_fields_set:
        prefetch = config.prefetch_count
    if prefetch is not None:
        ahead = prefetch - prefetch % max(batch_size, 1)
        return ahead, ahead
    if batch_size:  # a handler that is busy with a batch for long needs no other one yet
        return 0, batch_size
    return config.prefetch_count, max(config.prefetch_count, config.max_batch_size)


def loop_of(
    pairs: Sequence[tuple[ConsumerSteps, Handling]],
    connect: Callable[[], Engine],
    config: Config,
    event_loop: asyncio.AbstractEventLoop | None = None,
) -> Loop:
    """Put a loop together; coroutine functions run on `event_loop`, or one of our own."""
    lanes = [
        Lane(steps, each.room, Patience(config.poll_interval_seconds), _knowing(each.handler))
        for steps, each in pairs
    ]
    loop = Loop(lanes, connect, config)
    for lane, (_, each) in zip(lanes, pairs, strict=True):
        finished = partial(_end, loop, lane)
        waits = is_async(each.handler)
        handler = traced_handler(lane.steps.queue, each.handler, is_async=waits)
        work = work_of(handler, lane.steps, each.sessions)
        if waits:
            lane.slots = LoopSlots(work, finished, event_loop)
        else:
            lane.slots = ThreadSlots(work, each.room.concurrency, finished)
    return loop


def _end(loop: Loop, lane: Lane, task: Any, result: Any, idle: bool) -> None:  # noqa: FBT001
    lane.ended(task, result)
    loop.has_ended(idle=idle)


def run_loop(loop: Loop) -> Report:
    """Work in this thread until stopped, by signals too where it is the main one."""
    with stopping_on_signals(loop):
        return loop.run()


class Lineup:
    """The queues that one loop works, each once, and the loop while it runs. No I/O."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pairs: dict[str, tuple[ConsumerSteps, Handling]] = {}
        self._loop: Loop | None = None
        self._running = False
        self._stopped = False
        # A signal handler of the caller's may stop what this very thread is about to run.
        self._turn = threading.RLock()

    @property
    def report(self) -> Report:
        """What the latest run came to so far, and what handlers have now."""
        if self._loop is None:
            return Report()
        ids = [number for lane in self._loop.lanes for number in lane.running_ids()]
        return replace(self._loop.report, still_running=ids)

    @property
    def is_running(self) -> bool:
        """Whether the loop is at work."""
        return self._running

    def check(self, queue: str) -> None:
        """Raise ValueError or InvalidStateError where this queue cannot be added now."""
        if self._running:
            raise InvalidStateError(self._name, "running", "given another queue")
        if queue in self._pairs:
            raise ValueError(f"queue {queue!r} was added before, and has its handler")

    def add(self, steps: ConsumerSteps, work: Handling) -> None:
        """Add a queue that was checked."""
        self._pairs[steps.queue] = (steps, work)

    @contextmanager
    def starting(
        self,
        connect: Callable[[], Engine],
        config: Config,
        event_loop: asyncio.AbstractEventLoop | None = None,
    ) -> Iterator[Loop]:
        """Give the loop to run in the block; a stop that came before has it end at once."""
        with self._turn:
            if self._running:
                raise InvalidStateError(self._name, "running", "run a second time meanwhile")
            if not self._pairs:
                raise InvalidStateError(self._name, "without a queue", "run")
            self._loop = loop_of(list(self._pairs.values()), connect, config, event_loop)
            self._running = True
            if self._stopped:
                self._loop.stop()
        try:
            yield self._loop
        finally:
            with self._turn:
                self._running = self._stopped = False

    def stop(self) -> None:
        """Stop the loop, or have the next one end as it begins."""
        with self._turn:
            self._stopped = True
            if self._loop is not None and self._running:
                self._loop.stop()


class AnyRunner:
    """What the sync and the asyncio Runner have in common."""

    binding: Any
    _lineup: Lineup
    _closed = False

    @property
    def report(self) -> Report:
        """What the latest run came to so far; until its end `still_running` is what runs now."""
        return self._lineup.report

    def _checked(self, queue: str | QueueInfo, handler: Callable[..., Any], *how: Any) -> Handling:
        """Check a queue and its handler, with the options of `handling`, before it is added."""
        self._check_open()
        work = handling(handler, self.binding.config, *how)
        self._lineup.check(name_of(queue))
        return work

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidStateError(f"this {type(self).__name__}", "closed", "used")


@contextmanager
def stopping_on_signals(loop: Loop) -> Iterator[None]:
    """Have SIGTERM and SIGINT stop the loop, where this is the main thread; restored at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        loop.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _knowing(handler: Callable[..., Any]) -> Callable[[QueueMessage], bool]:
    return handler.knows if isinstance(handler, Handlers) else lambda _: True
