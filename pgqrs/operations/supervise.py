"""Look after the workers of a queue, and clear up after those that died."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection

from pgqrs.errors import (
    InvalidStateError,
    QueueNotFoundError,
    WorkerHasPendingMessagesError,
    WorkerNotFoundError,
)
from pgqrs.operations import workers
from pgqrs.statements import supervise as sql
from pgqrs.types import WorkerHealth, WorkerInfo, WorkerStats, WorkerStatus

__all__ = ["all_stats", "delete", "everyone", "health", "purge", "reclaim", "release", "stats"]


def everyone(connection: Connection, schema: str, queue: str | None) -> list[WorkerInfo]:
    """List the workers of one queue, or all, by id; stopped ones too."""
    rows = connection.execute(sql.everyone(schema, by_queue=queue is not None), _queue(queue))
    return [WorkerInfo(*row) for row in rows]


def health(
    connection: Connection, schema: str, queue: str | None, timeout: dt.timedelta
) -> list[WorkerHealth]:
    """Say of each worker that is not stopped whether it beat within `timeout`, by id."""
    statement = sql.health(schema, by_queue=queue is not None)
    rows = connection.execute(statement, {**_queue(queue), "age": timeout}).all()
    return [WorkerHealth(WorkerInfo(*row[:-3]), *row[-3:]) for row in rows]


def stats(
    connection: Connection, schema: str, queue: str, stale_after: dt.timedelta
) -> WorkerStats:
    """Count the workers of one queue. Raises QueueNotFoundError."""
    parameters = {"queue": queue, "age": stale_after}
    row = connection.execute(sql.stats(schema, by_queue=True), parameters).one_or_none()
    if row is None:
        raise QueueNotFoundError(queue)
    return WorkerStats(*row)


def all_stats(connection: Connection, schema: str, stale_after: dt.timedelta) -> list[WorkerStats]:
    """Count the workers of every queue, by its name."""
    rows = connection.execute(sql.stats(schema, by_queue=False), {"age": stale_after})
    return [WorkerStats(*row) for row in rows]


def reclaim(
    connection: Connection, schema: str, queue: str | None, older_than: dt.timedelta
) -> list[int]:
    """Stop workers without a heartbeat for `older_than`, and end their leases; gives the ids."""
    statement = sql.reclaim(schema, by_queue=queue is not None)
    parameters = {**_queue(queue), "age": older_than}
    return sorted(connection.execute(statement, parameters).scalars())


def release(connection: Connection, schema: str, worker_id: int) -> list[int]:
    """End what a worker holds now, whoever it is; gives the ids. Raises WorkerNotFoundError."""
    ended = sorted(connection.execute(sql.expire_leases(schema), {"me": worker_id}).scalars())
    if not ended:
        workers.get(connection, schema, worker_id)
    return ended


def purge(connection: Connection, schema: str, older_than: dt.timedelta) -> int:
    """Delete workers that hold nothing and gave no sign of life for `older_than`; how many."""
    return len(connection.execute(sql.purge(schema), {"age": older_than}).scalars().all())


def delete(connection: Connection, schema: str, worker_id: int) -> None:
    """Delete a worker.

    Raises WorkerNotFoundError, InvalidStateError where it is not stopped, and
    WorkerHasPendingMessagesError where it holds messages.
    """
    row = connection.execute(sql.remove(schema), {"me": worker_id}).one_or_none()
    if row is None:
        raise WorkerNotFoundError(worker_id)
    status, held, gone = tuple(row)
    if gone is not None:
        return
    if status != WorkerStatus.STOPPED:
        raise InvalidStateError(f"worker {worker_id}", status, "deleted: shut it down first")
    raise WorkerHasPendingMessagesError(worker_id, held)


def _queue(queue: str | None) -> dict[str, str]:
    return {} if queue is None else {"queue": queue}
