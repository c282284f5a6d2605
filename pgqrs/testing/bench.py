"""Work at a queue one handing-over at a time, in whatever transaction: a run without its loop.

How messages are leased and settled, and what a handler may say of them, is the code of `run`.
Knows nothing of who waits: it is given a connection, and told what came of a task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from pgqrs.consumer_steps import ConsumerSteps
from pgqrs.errors import (
    InvalidStateError,
    MessageNotFoundError,
    PayloadError,
    WorkerNotFoundError,
)
from pgqrs.hook import traced_handler
from pgqrs.joining import check_isolation
from pgqrs.message import Handlers
from pgqrs.operations import intervene, workers
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.settle import Failure, Finish
from pgqrs.patience import Patience
from pgqrs.payload import decode
from pgqrs.runner import Lane, Report
from pgqrs.runner.settling import Settler
from pgqrs.runner.task import NOT_BEGUN, Failed, Return, Settlement, Task, context
from pgqrs.runner.within import is_async, work_of
from pgqrs.running import Handling
from pgqrs.types import QueueMessage

__all__ = ["Bench", "here", "joining"]

S = TypeVar("S", Finish, Failure, Return)

_AT_ONCE: Final = (KeyboardInterrupt, GeneratorExit)
_UNDONE: Final = "undone by a rollback that a handler made of the transaction of work()"
_WITH_SESSION: Final = "settled: a handler that rolls back works in a session of its own, session="


class Bench:
    """One queue and its handler: what waits for it, and what came of what it had.

    It gets `at_most` so many messages. The first exception that ends an attempt ends the work where
    it `raises`; what is no Exception, such as the failure of a test, always does. An interrupt
    leaves the lease to run out.
    """

    def __init__(
        self, steps: ConsumerSteps, work: Handling, at_most: int | None, *, raises: bool
    ) -> None:
        if at_most is not None and at_most < 1:
            raise ValueError(f"at_most is at least 1, not {at_most}")
        self.is_async = is_async(work.handler)
        self._places = _Places()
        knows = work.handler.knows if isinstance(work.handler, Handlers) else lambda _: True
        patience = Patience(steps.config.poll_interval_seconds)
        self._lane = _Lane(steps, work.room, patience, knows)
        self._lane.raises = raises
        self._lane.slots = self._places
        self._report = Report()
        self._left = at_most
        handler = traced_handler(steps.queue, work.handler, is_async=self.is_async)
        self._act = work_of(handler, steps, work.sessions)

    def next(self, connection: Connection) -> Task | None:
        """Settle what ended, lease, and give a task to work at; None where nothing is due."""
        lane, steps = self._lane, self._lane.steps
        settler = Settler(self._report)
        if steps.joined:
            check_isolation(connection)
            settler = _CarefulSettler(self._report, connection)
        lane.collect(stopping=False)
        settler.settle(connection, lane)
        while wanted := self._wanted():
            asked_at = time.monotonic()
            messages = steps.lease_for_run(connection, wanted).messages
            lane.took(messages, asked_at)
            lane.dispatch()
            settler.settle(connection, lane)  # what it does not know
            if tasks := self._places.withdraw():
                return self._taken(tasks[0])
            if not messages:
                break
        return None

    def work(self, task: Task) -> None:
        """Call the handler, a coroutine function on an event loop for the occasion."""
        result: Any = NOT_BEGUN
        with _about(task) as begins:
            try:
                if begins:
                    result = asyncio.run(self._act(task)) if self.is_async else self._act(task)
            except _AT_ONCE:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the handler's
                result = error
        self._lane.ended(task, result)

    async def work_later(self, task: Task) -> None:
        """Call the handler, and wait for it where it is a coroutine function."""
        result: Any = NOT_BEGUN
        with _about(task) as begins:
            try:
                if begins:
                    result = await self._act(task) if self.is_async else self._act(task)
            except _AT_ONCE:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the handler's
                result = error
        self._lane.ended(task, result)

    def report(self) -> Report:
        """Give what it came to. Raises what ended it, if anything did."""
        if self._lane.raised is not None:
            raise self._lane.raised
        return self._report

    def _wanted(self) -> int:
        if self._lane.raised is not None:
            return 0
        wanted = self._lane.wanted()
        return wanted if self._left is None else min(wanted, self._left)

    def _taken(self, task: Task) -> Task:
        if self._left is not None:
            self._left -= len(task.messages)
        return task


@contextmanager
def _about(task: Task) -> Iterator[bool]:
    """Have `pgqrs.context` say what a handler works at; gives whether it may begin."""
    about = task.begin()
    token = context.set(about)
    try:
        yield about is not None
    finally:
        context.reset(token)


class _Lane(Lane):
    """A lane that keeps the first exception that ends the work."""

    raised: BaseException | None = None
    raises = False

    def failed(self) -> Failed:
        tell = super().failed()

        def failed(message: QueueMessage, error: BaseException) -> None:
            self._keep(error)
            tell(message, error)

        return failed

    def replace(self, old: Settlement, new: Settlement) -> None:
        super().replace(old, new)
        if isinstance(old, Finish) and isinstance(new, Failure):  # the server refused its output
            self._keep(PayloadError(decode(new.error)))

    def _keep(self, error: BaseException) -> None:
        if self.raised is None and (self.raises or not isinstance(error, Exception)):
            self.raised = error


class _Places:
    """Slots in which nothing happens by itself: what is started waits to be taken out."""

    takes_ahead = False

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def start(self, task: Task) -> None:
        self._tasks.append(task)

    def waiting(self) -> int:
        return len(self._tasks)

    def hold_back(self) -> None:
        """Do nothing: nothing begins by itself."""

    def withdraw(self) -> list[Task]:
        tasks, self._tasks = self._tasks, []
        return tasks

    def cancel(self, task: Task) -> bool:  # noqa: ARG002 - whichever it is
        return False

    def close(self) -> None:
        self._tasks.clear()


class _CarefulSettler(Settler):
    """Settles in a transaction that goes on: behind a savepoint, for what the server refuses.

    Raises InvalidStateError where a lease was rolled back: it would be given again for ever.
    """

    def __init__(self, report: Report, connection: Connection) -> None:
        super().__init__(report)
        self._connection = connection

    def _each(self, lane: Lane, batch: Sequence[S], send: Callable[[Sequence[S]], None]) -> None:
        def carefully(some: Sequence[S]) -> None:
            with self._connection.begin_nested():
                send(some)

        super()._each(lane, batch, carefully)

    def _done(self, lane: Lane, batch: Sequence[Settlement], held: set[Fence]) -> None:
        super()._done(lane, batch, held)
        for fence in {each.fence for each in batch} - held:
            if self._is_undone(lane.steps, fence):
                lease = f"the lease of message {fence.message_id}"
                raise InvalidStateError(lease, _UNDONE, _WITH_SESSION)

    def _is_undone(self, steps: ConsumerSteps, fence: Fence) -> bool:
        """Say whether a lease that is lost was rolled back: else read counts never go down."""
        known = self._connection, steps.schema
        try:
            return intervene.find(*known, fence.message_id).read_ct < fence.read_ct
        except MessageNotFoundError:  # deleted, or enqueued in what was rolled back
            pass
        try:
            workers.get(*known, steps.register(self._connection)[1])
        except WorkerNotFoundError:
            return True
        return False


def joining(connection: Any) -> dict[str, Any]:
    """Give the options of a session in somebody's transaction: its commits are savepoints."""
    return {"bind": connection, "binds": {}, "join_transaction_mode": "create_savepoint"}


def here(work: Handling, connection: Any) -> Handling:
    """Give the same with sessions that are in the transaction of a connection."""
    sessions: Any = work.sessions and partial(work.sessions, **joining(connection))
    return replace(work, sessions=sessions)
