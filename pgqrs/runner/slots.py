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
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from pgqrs.runner.task import NOT_BEGUN, Task, context

__all__ = ["HandlerTimeoutError", "LoopSlots", "Slots", "ThreadSlots"]

Finished = Callable[[Task, Any, bool], None]
"""Told what a handler returned or raised, in whatever thread, and whether nothing more waits."""


class HandlerTimeoutError(TimeoutError):
    """A handler overran its time limit, and was cancelled."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__(f"the handler took longer than its limit of {seconds} seconds")


class Slots(Protocol):
    """A number of places in which handlers run."""

    takes_ahead: bool
    """Whether tasks may be started before a place is free, and withdrawn until they begin."""

    def start(self, task: Task) -> None:
        """Begin a task, now or when a place is free."""

    def waiting(self) -> int:
        """Give about how many tasks have not begun."""
        ...

    def hold_back(self) -> None:
        """Begin none of those from now on; for any thread, and for signal handlers."""

    def withdraw(self) -> list[Task]:
        """Take back the tasks that have not begun, and now never will."""
        ...

    def cancel(self, task: Task) -> bool:
        """Stop a task if that is possible; says whether it is."""
        ...

    def close(self) -> None:
        """Start no more."""


class ThreadSlots:
    """Daemon threads that each run one plain function at a time."""

    takes_ahead = True

    def __init__(self, work: Callable[[Task], Any], places: int, finished: Finished) -> None:
        self._act = work
        self._finished = finished
        self._places = places
        self._threads: list[threading.Thread] = []
        # Whoever takes a task out has it: a thread, or the loop that withdraws it.
        self._waiting: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._unended = 0
        self._counting = threading.Lock()
        self._held_back = False

    def start(self, task: Task) -> None:
        """Begin a task; a thread is started where there are fewer than tasks."""
        self._waiting.put(task)
        if len(self._threads) < min(self._places, self._count(1)):
            thread = threading.Thread(target=self._work, name="pgqrs-handler", daemon=True)
            self._threads.append(thread)
            thread.start()

    def waiting(self) -> int:
        """Give how many tasks wait for a thread."""
        return self._waiting.qsize()

    def hold_back(self) -> None:
        """Let threads give back what they take from now on."""
        self._held_back = True

    def withdraw(self) -> list[Task]:
        """Take back what no thread has taken."""
        tasks: list[Task] = []
        with suppress(queue.Empty):
            while (task := self._waiting.get_nowait()) is not None:
                tasks.append(task)
        self._count(-len(tasks))
        return tasks

    def cancel(self, task: Task) -> bool:  # noqa: ARG002 - whichever it is
        """Say that a thread cannot be stopped."""
        return False

    def close(self) -> None:
        """End the threads, each after what it is doing."""
        self.withdraw()
        for _ in self._threads:
            self._waiting.put(None)

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            result = self._result(task)
            self._count(-1)
            self._finished(task, result, self._waiting.empty())

    def _count(self, more: int) -> int:
        with self._counting:
            self._unended += more
            return self._unended

    def _result(self, task: Task) -> Any:
        about = None if self._held_back else task.begin()
        if about is None:
            return NOT_BEGUN
        context.set(about)
        try:
            return self._act(task)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the handler's
            return error
        finally:
            context.set(None)


class LoopSlots:
    """Tasks on an event loop: the caller's, or one of our own in a thread."""

    takes_ahead = False

    def __init__(
        self,
        work: Callable[[Task], Awaitable[Any]],
        finished: Finished,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._act = work
        self._finished = finished
        self._own = None if loop is not None else asyncio.new_event_loop()
        self._loop = loop or self._own or asyncio.new_event_loop()
        self._tasks: dict[Task, asyncio.Task[Any]] = {}
        if self._own is not None:
            run = threading.Thread(target=self._run_own, name="pgqrs-handlers", daemon=True)
            run.start()

    def start(self, task: Task) -> None:
        """Begin a task on the loop."""
        self._loop.call_soon_threadsafe(self._begin, task)

    def waiting(self) -> int:
        """Give none: what is started begins."""
        return 0

    def hold_back(self) -> None:
        """Do nothing: what is started begins."""

    def withdraw(self) -> list[Task]:
        """Give none: what is started begins."""
        return []

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

    def _begin(self, task: Task) -> None:
        about = task.begin()
        if about is None:
            self._finished(task, NOT_BEGUN, True)
            return
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
            return await self._act(task)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the handler's
            return error

    def _done(self, task: Task, running: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        result = asyncio.CancelledError() if running.cancelled() else running.result()
        self._finished(task, result, True)
