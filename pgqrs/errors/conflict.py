"""What clashes with what is there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pgqrs.errors.asking import PgqrsError

__all__ = [
    "ConflictError",
    "DuplicateMessageError",
    "QueueExistsError",
    "QueueInUseError",
    "QueueNotEmptyError",
    "ThrottledError",
    "WorkerExistsError",
]


class ConflictError(PgqrsError):
    """What is asked for clashes with what is there."""


class QueueExistsError(ConflictError):
    """A queue of this name is there already."""

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"queue {queue!r} exists already: choose another name, or allow it (exist_ok)"
        )
        self.queue = queue


class QueueNotEmptyError(ConflictError):
    """A queue still has messages waiting or archived: the counts are attributes."""

    def __init__(self, queue: str, messages: int, archived: int) -> None:
        super().__init__(
            f"queue {queue!r} still has {messages} messages and {archived} archived ones:"
            " purge them first, or delete it with force"
        )
        self.queue = queue
        self.messages = messages
        self.archived = archived


class QueueInUseError(ConflictError):
    """A queue is the dead letter queue of others: `users` are their names."""

    def __init__(self, queue: str, users: Sequence[str]) -> None:
        super().__init__(
            f"queue {queue!r} is the dead letter queue of {', '.join(map(repr, users))}:"
            " give them another one first, or none"
        )
        self.queue = queue
        self.users = tuple(users)


class WorkerExistsError(ConflictError):
    """A live worker already has this hostname and port on this queue."""

    def __init__(self, hostname: str, port: int, queue: str) -> None:
        super().__init__(
            f"a live worker is registered as {hostname}:{port} on queue {queue!r}: stop it, wait"
            " until its heartbeat is stale, or use another port"
        )
        self.hostname = hostname
        self.port = port
        self.queue = queue


class DuplicateMessageError(ConflictError):
    """Another message keeps this one out: it has the same `message_id`, or stands under its `key`.

    `index` is its place in a batch; none of that is enqueued.
    """

    def __init__(
        self,
        queue: str,
        message_id: str | None = None,
        key: str | None = None,
        index: int | None = None,
    ) -> None:
        by_id = f"has a message {message_id} already"
        by_key = f"has one under the key {key!r} already, and its policy allows no other"
        super().__init__(
            f"queue {queue!r} {by_key if message_id is None else by_id}{_item(index)}:"
            " nothing was enqueued; on_conflict='skip' (--skip-conflict) goes on without it"
        )
        self.queue = queue
        self.message_id = message_id
        self.key = key
        self.index = index


class ThrottledError(ConflictError):
    """The window of another message is not over; `retry_after` says when it is, if that is known.

    `key` is its singleton key, if it has one, and `index` its place in a batch.
    """

    retryable = True

    def __init__(
        self,
        queue: str,
        key: str | None,
        retry_after: dt.timedelta | None,
        index: int | None = None,
    ) -> None:
        under = "" if key is None else f" under the key {key!r}"
        when = "later" if retry_after is None else f"in {retry_after.total_seconds():g} seconds"
        super().__init__(
            f"the window of a message of queue {queue!r}{under} is not over{_item(index)}: nothing"
            f" was enqueued; try again {when}, or go on without it with on_conflict='skip'"
            " (--skip-conflict)"
        )
        self.queue = queue
        self.key = key
        self.retry_after = retry_after
        self.index = index


def _item(index: int | None) -> str:
    return "" if index is None else f" (item {index} of the batch)"
