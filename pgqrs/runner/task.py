"""One handing-over: messages that a handler works at together, and what came of it."""

from __future__ import annotations

import contextvars
import datetime as dt
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pgqrs.operations.acknowledge import Fence, fence_of
from pgqrs.operations.settle import Failure, Finish, error_text, output_text
from pgqrs.outcome import Dead, Done, Retry
from pgqrs.types import QueueMessage, span

__all__ = [
    "NOT_BEGUN",
    "Acknowledged",
    "Context",
    "Failed",
    "Return",
    "Settlement",
    "Task",
    "context",
    "failure_of",
    "left_alone",
    "settled",
    "unstorable",
]

NOT_BEGUN: Final = object()
"""What came of a task whose lease may have run out before its turn came."""


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


@dataclass(frozen=True, slots=True)
class Return:
    """A lease that is given back because nothing was begun, due again after a while."""

    fence: Fence
    wait: dt.timedelta = dt.timedelta()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A message that was archived in the transaction of its handler, or was to be.

    `is_held`: whether it was; None where the commit may have been made or not, for `error`.
    """

    message: QueueMessage
    is_held: bool | None
    error: BaseException | None = None

    @classmethod
    def held(cls, task: Task) -> Acknowledged:
        """The message of this task is archived."""
        return cls(task.messages[0], is_held=True)

    @classmethod
    def lost(cls, task: Task) -> Acknowledged:
        """The lease was lost, and the transaction rolled back."""
        return cls(task.messages[0], is_held=False)

    @classmethod
    def unsure(cls, task: Task, error: BaseException) -> Acknowledged:
        """The commit ended with an error."""
        return cls(task.messages[0], is_held=None, error=error)

    @property
    def fence(self) -> Fence:
        """Which lease it is about."""
        return fence_of(self.message)


Settlement = Finish | Failure | Return | Acknowledged
"""How a lease ends: finished, failed, given back because it never started, or ended already."""

Failed = Callable[[QueueMessage, BaseException], None]
"""Told of an attempt that an exception ended."""


@dataclass(slots=True, eq=False)
class Task:
    """Messages for a handler: one, or a batch."""

    messages: Sequence[QueueMessage]
    queue: str
    batch: bool
    time_limit: float | None
    until: float
    """When the first of the leases runs out, on the monotonic clock."""
    begun_at: float | None = field(default=None, init=False)
    timed_out: bool = field(default=False, init=False)
    refused: bool = field(default=False, init=False)
    """Its result is no longer wanted: it overran and could not be stopped."""
    cancelled: bool = field(default=False, init=False)
    """It was cancelled because the process ends: it is given back if it did not finish."""
    ends: bool = field(default=False, init=False)
    """It is being archived in its handler's transaction, which keeps others from leasing it."""

    def begin(self) -> Context | None:
        """Note that the handler begins; None where the messages may be another's by now."""
        now = time.monotonic()
        if now >= self.until:
            return None
        self.begun_at = now
        first, limit = self.messages[0], self.time_limit
        deadline = None if limit is None else now + limit
        return Context(self.queue, first.id, first.attempts, deadline)

    @property
    def deadline(self) -> float | None:
        """When it is past its time limit, if it has begun and there is one."""
        if self.begun_at is None or self.time_limit is None:
            return None
        return self.begun_at + self.time_limit

    @property
    def argument(self) -> Any:
        """What the handler is called with."""
        return list(self.messages) if self.batch else self.messages[0]


def left_alone(tasks: Iterable[Task]) -> set[Fence]:
    """Give the leases that are extended no more: of tasks that overran, or are being ended."""
    return {fence_of(m) for task in tasks if task.timed_out or task.ends for m in task.messages}


def settled(task: Task, result: Any, failed: Failed) -> list[Settlement]:
    """Give how each lease of a task ends, from what its handler returned or raised.

    A batch handler returns None (all done), or a list with something for each message. `failed` is
    told of each attempt that an exception ended.
    """
    if isinstance(result, Acknowledged):
        return [result]
    if not task.batch:
        return [_settlement(task.messages[0], result, failed)]
    if result is None:
        return list(map(Finish, map(fence_of, task.messages)))
    if isinstance(result, BaseException | Dead | Retry):
        return [_settlement(message, result, failed) for message in task.messages]
    each = list(result) if isinstance(result, list | tuple) else []
    if len(each) != len(task.messages):
        wrong = TypeError("a batch handler returns None, or a list with an item for each message")
        return [_settlement(message, wrong, failed) for message in task.messages]
    return [_settlement(m, item, failed) for m, item in zip(task.messages, each, strict=True)]


def _settlement(message: QueueMessage, result: Any, failed: Failed) -> Settlement:
    if result is None:
        return Finish(fence_of(message))
    if not isinstance(result, BaseException):
        try:
            return _ending(fence_of(message), result)
        except Exception as error:  # noqa: BLE001 - what a handler hands over may be anything
            result = error
    return failure_of(message, result, failed)


def failure_of(message: QueueMessage, error: BaseException, failed: Failed) -> Failure:
    """Give the attempt that an exception ended, and tell of it."""
    failed(message, error)
    return Failure(fence_of(message), error_text(error))


def _ending(fence: Fence, result: Any) -> Settlement:
    if isinstance(result, Retry):
        wait = None if result.delay is None else span(result.delay)
        return Failure(fence, error_text(result.error), wait)
    if isinstance(result, Dead):
        return Finish(fence, "dead", error=error_text(result.reason))
    output = result.output if isinstance(result, Done) else result
    return Finish(fence, output=output_text(output))


def unstorable(settlement: Settlement, reason: str) -> Failure:
    """Give the failed attempt that takes the place of what the server would not store."""
    why = f"what the handler handed over cannot be stored: {reason}"
    return Failure(settlement.fence, error_text(why.encode("ascii", "backslashreplace").decode()))
