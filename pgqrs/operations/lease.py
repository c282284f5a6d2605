"""Lease due messages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.statements import lease as sql
from pgqrs.statements.columns import MESSAGE
from pgqrs.types import QueueMessage, WorkerStatus, message_of

__all__ = ["Lease", "Terms", "found", "lease"]

_MORE: Final = 3 + len(MESSAGE)  # where what other statements add to the rows begins


@dataclass(frozen=True, slots=True)
class Terms:
    """How to lease: how many, for how long, and the defaults where the queue has none."""

    size: int
    timeout: dt.timedelta | None
    default_timeout: dt.timedelta
    default_attempts: int

    def parameters(self, queue_id: int, worker_id: int) -> dict[str, Any]:
        """Give the parameters of the statement that leases."""
        return {
            "queue": queue_id,
            "worker": worker_id,
            "n": self.size,
            "timeout": self.timeout,
            "default_timeout": self.default_timeout,
            "default_attempts": self.default_attempts,
        }


@dataclass(frozen=True, slots=True)
class Lease:
    """What a lease gave, and what it read of worker and queue: None where there is no such row.

    `next_due` is read only where nothing was leased: in how long something is due by itself.
    """

    messages: list[QueueMessage]
    worker_status: WorkerStatus | None
    queue_paused: bool | None
    next_due: dt.timedelta | None = None

    @property
    def due_in(self) -> dt.timedelta | None:
        """In how long another lease may find something that is not there now, if that is known."""
        open_ = self.worker_status is WorkerStatus.READY and not self.queue_paused
        return self.next_due if open_ else None


def lease(
    connection: Connection, schema: str, queue_id: int, worker_id: int, terms: Terms
) -> Lease:
    """Lease up to `terms.size` due messages, the highest priority first, then the oldest."""
    rows = connection.execute(sql.lease(schema), terms.parameters(queue_id, worker_id)).all()
    return found(rows)


def found(rows: Sequence[Any]) -> Lease:
    """Make a lease of the rows that its statement gave."""
    status, paused, next_due, first = rows[0][:4]
    messages = [] if first is None else [message_of(*row[3:_MORE]) for row in rows]
    messages.sort(key=lambda message: (-message.priority, message.id))
    return Lease(messages, status and WorkerStatus(status), paused, next_due)
