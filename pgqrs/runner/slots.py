"""Where handlers run: threads for plain functions, an event loop for coroutine functions.

A thread cannot be stopped from outside, so its slot stays taken until it ends; a coroutine is
cancelled at its time limit.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from pgqrs.runner.task import Task

__all__ = ["Context", "HandlerTimeoutError", "LoopSlots", "Slots", "ThreadSlots", "context"]

Finished = Callable[[Task, Any], None]
"""Told what a handler returned or raised, in whatever thread it ended."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler works at: for logs, and to know how long it may take."""

    queue: str
    message_id: int
    attempt: int
    deadline: float | None
    """On the monotonic clock: when the time limit ends, if there is one."""


context: Final[contextvars.ContextVar[Context | None]] = contextvars.ContextVar(
    "pgqrs_context", default=None
)
"""The message a handler works at (of a batch the first), in its thread or task."""


class HandlerTimeoutError(TimeoutError):
    """A handler overran its time limit, and was cancelled."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__(f"the handler took longer than its limit of {seconds} seconds")


class Slots(Protocol):
    """A number of places in which handlers run."""

    def start(self, task: Task, about: Context) -> None:
        """Begin a task; there is a free place."""

    def cancel(self, task: Task) -> bool:
        """Stop a task if that is possible; says whether it is."""
        ...

    def close(self) -> None:
        """Start no more."""


class ThreadSlots:
    """Daemon threads that each run one plain function at a time."""

    def __init__(self, handler: Callable[[Any], Any], places: int, finished: Finished) -> None:
        self._handler = handler
        self._finished = finished
        self._places = places
        self._threads: list[threading.Thread] = []
        self._waiting: queue.SimpleQueue[tuple[Task, Context] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def start(self, task: Task, about: Context) -> None:
        """Begin a task; a thread is started when none is idle."""
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._places:
            thread = threading.Thread(target=self._work, name="pgqrs-handler", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._waiting.put((task, about))

    def cancel(self, task: Task) -> bool:  # noqa: ARG002 - whichever it is
        """Say that a thread cannot be stopped."""
        return False

    def close(self) -> None:
        """End the threads, each after what it is doing."""
        for _ in self._threads:
            self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            task, about = item
            context.set(about)
            try:
                result = self._handler(task.argument)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the handler's
                result = error
            context.set(None)
            self._idle.release()
            self._finished(task, result)


class LoopSlots:
    """Tasks on an event loop: the caller's, or one of our own in a thread."""

    def __init__(
        self,
        handler: Callable[[Any], Awaitable[Any]],
        finished: Finished,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._handler = handler
        self._finished = finished
        self._own = None if loop is not None else asyncio.new_event_loop()
        self._loop = loop or self._own or asyncio.new_event_loop()
        self._tasks: dict[Task, asyncio.Task[Any]] = {}
        if self._own is not None:
            run = threading.Thread(target=self._run_own, name="pgqrs-handlers", daemon=True)
            run.start()

    def start(self, task: Task, about: Context) -> None:
        """Begin a task on the loop."""
        self._loop.call_soon_threadsafe(self._begin, task, about)

    def cancel(self, task: Task) -> bool:
        """Cancel a task; what it says of it comes as its result."""
        self._loop.call_soon_threadsafe(self._cancel, task)
        return True

    def close(self) -> None:
        """End the loop, if it is our own."""
        if self._own is not None:
            self._own.call_soon_threadsafe(self._own.stop)

    def _run_own(self) -> None:
        if self._own is not None:
            self._own.run_forever()
            self._own.close()

    def _begin(self, task: Task, about: Context) -> None:
        scope = contextvars.copy_context()
        scope.run(context.set, about)
        running = self._loop.create_task(self._work(task), context=scope)
        self._tasks[task] = running
        # A task that is cancelled before it began never comes to its own end.
        running.add_done_callback(partial(self._done, task))

    def _cancel(self, task: Task) -> None:
        running = self._tasks.get(task)
        if running is not None:
            running.cancel()

    async def _work(self, task: Task) -> Any:
        try:
            return await self._handler(task.argument)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the handler's
            return error

    def _done(self, task: Task, running: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        result = asyncio.CancelledError() if running.cancelled() else running.result()
        self._finished(task, result)
