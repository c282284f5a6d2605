"""Register workers, keep them alive and stop them."""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from pgqrs.errors import QueueNotFoundError, WorkerExistsError, WorkerNotFoundError
from pgqrs.policy import QueuePolicy
from pgqrs.statements import workers as sql
from pgqrs.types import WorkerInfo, WorkerRole

__all__ = ["Address", "Place", "beat", "get", "register", "stop"]


@dataclass(frozen=True, slots=True)
class Address:
    """What a worker is registered as: a place on a queue. Without a port it is the process."""

    queue: str
    role: WorkerRole
    hostname: str | None = None
    port: int | None = None


class Place(NamedTuple):
    """Where a worker has its row."""

    queue_id: int
    worker_id: int
    policy: QueuePolicy = QueuePolicy.STANDARD
    """The queue's, which stays."""


def register(
    connection: Connection, schema: str, address: Address, stale_after: dt.timedelta
) -> Place:
    """Add a worker.

    Raises QueueNotFoundError, or WorkerExistsError where a live worker has this host and port.
    """
    hostname = address.hostname or socket.gethostname()
    parameters = {
        "queue": address.queue,
        "kind": address.role.value,
        "host": hostname,
        "number": address.port,
        "process": os.getpid(),
        "stale": stale_after,
    }
    row = connection.execute(sql.register(schema), parameters).one_or_none()
    if row is None:
        raise QueueNotFoundError(address.queue)
    queue_id, worker_id, policy = row
    if worker_id is None:
        raise WorkerExistsError(hostname, address.port or 0, address.queue)
    return Place(queue_id, worker_id, QueuePolicy(policy or QueuePolicy.STANDARD))


def beat(connection: Connection, schema: str, worker_ids: Collection[int]) -> set[int]:
    """Say that these workers are alive; gives those that are not stopped."""
    return set(connection.execute(sql.beat(schema), {"mine": list(worker_ids)}).scalars())


def stop(connection: Connection, schema: str, worker_id: int) -> None:
    """Mark a worker stopped; one that is already stopped or gone stays so."""
    connection.execute(sql.stop(schema), {"me": worker_id})


def get(connection: Connection, schema: str, worker_id: int) -> WorkerInfo:
    """Look a worker up. Raises WorkerNotFoundError."""
    row = connection.execute(sql.get(schema), {"me": worker_id}).one_or_none()
    if row is None:
        raise WorkerNotFoundError(worker_id)
    return WorkerInfo(*row)
