"""The life of one worker: ready ⇄ suspended → stopped."""

from __future__ import annotations

import datetime as dt
import os
import socket

from sqlalchemy import Connection

from pgqrs.errors import (
    InvalidStateError,
    WorkerHasPendingMessagesError,
    WorkerNotFoundError,
)
from pgqrs.operations import workers
from pgqrs.statements import lifecycle as sql
from pgqrs.types import WorkerInfo, WorkerStatus

__all__ = ["give_back_all", "is_healthy", "register_admin", "resume", "shutdown", "suspend"]

_READY, _SUSPENDED = WorkerStatus.READY, WorkerStatus.SUSPENDED


def register_admin(connection: Connection, schema: str) -> int:
    """Add a worker of no queue for this process; gives its id."""
    place = {"host": socket.gethostname(), "process": os.getpid()}
    return int(connection.execute(sql.register_admin(schema), place).scalar_one())


def is_healthy(connection: Connection, schema: str, worker_id: int, max_age: dt.timedelta) -> bool:
    """Say whether a worker is not stopped and beat within `max_age`. Raises WorkerNotFoundError."""
    parameters = {"me": worker_id, "age": max_age}
    healthy = connection.execute(sql.is_healthy(schema), parameters).scalar_one_or_none()
    if healthy is None:
        raise WorkerNotFoundError(worker_id)
    return bool(healthy)


def suspend(connection: Connection, schema: str, worker_id: int) -> WorkerInfo:
    """Lease no more, at once. Raises WorkerNotFoundError, InvalidStateError where stopped."""
    return _set(connection, schema, worker_id, _SUSPENDED)


def resume(connection: Connection, schema: str, worker_id: int) -> WorkerInfo:
    """Lease again. Raises WorkerNotFoundError, InvalidStateError where stopped."""
    return _set(connection, schema, worker_id, _READY)


def shutdown(connection: Connection, schema: str, worker_id: int, *, release: bool) -> None:
    """Stop a suspended worker for good; one that is stopped stays so.

    Raises WorkerNotFoundError, InvalidStateError where it is not suspended, and
    WorkerHasPendingMessagesError where it holds messages, unless `release` gives them back.
    """
    if release and workers.get(connection, schema, worker_id).status is _SUSPENDED:
        give_back_all(connection, schema, worker_id)
    row = connection.execute(sql.shut_down(schema), {"me": worker_id}).one_or_none()
    if row is None:
        raise WorkerNotFoundError(worker_id)
    status, held, done = tuple(row)
    if done or status == WorkerStatus.STOPPED:
        return
    if status != _SUSPENDED:
        raise InvalidStateError(f"worker {worker_id}", status, "shut down: suspend it first")
    raise WorkerHasPendingMessagesError(worker_id, held)


def give_back_all(connection: Connection, schema: str, worker_id: int) -> list[int]:
    """Give back all that a worker holds, whoever it is; gives the ids of the messages."""
    return list(connection.execute(sql.give_back_all(schema), {"me": worker_id}).scalars())


def _set(connection: Connection, schema: str, worker_id: int, wanted: WorkerStatus) -> WorkerInfo:
    parameters = {"me": worker_id, "wanted": wanted.value, "allowed": [_READY, _SUSPENDED]}
    row = connection.execute(sql.set_status(schema), parameters).one_or_none()
    if row is not None:
        return WorkerInfo(*row)
    current = workers.get(connection, schema, worker_id).status
    raise InvalidStateError(f"worker {worker_id}", current, wanted)
