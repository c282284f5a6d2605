"""Start a worker process's loop for one consumer or several: handlers, signals, the end."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from sqlalchemy import Engine

from pgqrs.config import Config
from pgqrs.consumer_steps import ConsumerSteps
from pgqrs.message import Handlers
from pgqrs.patience import Patience
from pgqrs.runner import Lane, Loop, LoopSlots, ThreadSlots
from pgqrs.runner.lane import Room
from pgqrs.types import Duration, QueueMessage, span

__all__ = ["Handling", "handling", "loop_of", "stopping_on_signals"]


@dataclass(frozen=True, slots=True)
class Handling:
    """A handler, and how many messages it gets how."""

    handler: Callable[[Any], Any]
    room: Room


def handling(
    handler: Callable[[Any], Any],
    config: Config,
    concurrency: int,
    prefetch: int | None,
    batch: bool,  # noqa: FBT001
    batch_size: int | None,
    timeout: Duration | None,
) -> Handling:
    """Check the options of `run`. Raises ValueError."""
    if concurrency < 1:
        raise ValueError(f"concurrency is at least 1, not {concurrency}")
    ahead = config.prefetch_count if prefetch is None else prefetch
    size = (batch_size or config.max_batch_size) if batch or batch_size is not None else 0
    if ahead < 0 or size < 0:
        raise ValueError("prefetch and batch_size are not negative")
    limit = None if timeout is None else span(timeout).total_seconds()
    if isinstance(handler, Handlers) and size:
        raise ValueError("handlers by message type take one message at a time, not batches")
    return Handling(handler, Room(concurrency, size, ahead, limit))


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

        def finished(task: Any, result: Any, lane: Lane = lane) -> None:
            lane.ended(task, result)
            loop.wake()

        if _is_async(each.handler):
            lane.slots = LoopSlots(each.handler, finished, event_loop)
        else:
            lane.slots = ThreadSlots(each.handler, each.room.concurrency, finished)
    return loop


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


def _is_async(handler: Callable[[Any], Any]) -> bool:
    if isinstance(handler, Handlers):
        return handler.is_async
    called = getattr(handler, "__call__", None)  # noqa: B004 - of an object that is a handler
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)


def _knowing(handler: Callable[[Any], Any]) -> Callable[[QueueMessage], bool]:
    return handler.knows if isinstance(handler, Handlers) else lambda _: True
