"""What the database says of the demo: selects over pgqrs's own models, which are public."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Executable, func, select

from pgqrs.models import LEASED, tables

__all__ = [
    "ArchivedFile",
    "Tally",
    "archived_files",
    "busy_seconds",
    "leased_by",
    "read_counts",
    "tallies",
]


@dataclass(frozen=True, slots=True)
class Tally:
    """A consumer: what it holds now, and what it has archived."""

    worker_id: int
    pid: int
    holds: int
    archived: int


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A message of the demo in the archive, with what its consumer found out."""

    id: int
    path: str
    status: str
    read_ct: int
    consumer_worker_id: int
    output: dict[str, Any]


def tallies(connection: Connection, schema: str, queue_id: int) -> list[Tally]:
    """Say how each consumer of the queue stands, in the order they came."""
    t = tables(schema)
    rows = select(t.workers.c.id, t.workers.c.pid).where(
        t.workers.c.queue_id == queue_id, t.workers.c.role == "consumer"
    )
    holds = leased_by(connection, schema, queue_id)
    per_worker = select(t.archive.c.consumer_worker_id, func.count()).group_by(
        t.archive.c.consumer_worker_id
    )
    archived = _pairs(connection, per_worker.where(t.archive.c.queue_id == queue_id))
    return [
        Tally(worker, pid, len(holds.get(worker, ())), archived.get(worker, 0))
        for worker, pid in connection.execute(rows.order_by(t.workers.c.id))
    ]


def leased_by(connection: Connection, schema: str, queue_id: int) -> dict[int, dict[int, int]]:
    """Give the read counts of leased messages, by worker and message."""
    m = tables(schema).messages
    rows = connection.execute(
        select(m.c.consumer_worker_id, m.c.id, m.c.read_ct).where(
            m.c.queue_id == queue_id, m.c.state == LEASED, m.c.vt > func.now()
        )
    )
    held: dict[int, dict[int, int]] = {}
    for worker_id, message_id, read_ct in rows:
        held.setdefault(worker_id, {})[message_id] = read_ct
    return held


def read_counts(connection: Connection, schema: str, ids: Iterable[int]) -> dict[int, int]:
    """Give the read counts of those messages that are still in the queue."""
    m = tables(schema).messages
    return _pairs(connection, select(m.c.id, m.c.read_ct).where(m.c.id.in_(list(ids))))


def archived_files(connection: Connection, schema: str, queue_id: int) -> list[ArchivedFile]:
    """List what is in the archive, oldest first."""
    a = tables(schema).archive
    rows = select(
        a.c.id,
        a.c.payload["path"].as_string(),
        a.c.status,
        a.c.read_ct,
        a.c.consumer_worker_id,
        a.c.output,
    )
    found = connection.execute(rows.where(a.c.queue_id == queue_id).order_by(a.c.id))
    return [ArchivedFile(*row[:-1], output=row[-1] or {}) for row in found]


def busy_seconds(connection: Connection, schema: str, queue_id: int) -> float:
    """Give the seconds from the first lease to the last acknowledgement."""
    a = tables(schema).archive
    spent = func.max(a.c.archived_at) - func.min(a.c.dequeued_at)
    found = connection.scalar(select(spent).where(a.c.queue_id == queue_id))
    return found.total_seconds() if found else 0.0


def _pairs(connection: Connection, rows: Executable) -> dict[int, int]:
    return {row[0]: row[1] for row in connection.execute(rows)}
