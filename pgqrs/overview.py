"""How pgqrs stands as a whole: totals over its queues and workers, its tables, and the server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.models import tables
from pgqrs.operations import queues
from pgqrs.queue_metrics import QueueMetrics
from pgqrs.statements import system as sql

__all__ = ["SystemStats", "TableStats", "system_stats"]

_SUMS: Final = ("pending", "delayed", "locked", "archived", "dead", "rate_in", "rate_out")
_WORKERS: Final = ("ready_workers", "suspended_workers", "stopped_workers", "stale_workers")


@dataclass(frozen=True, slots=True)
class TableStats:
    """How large one of the tables is, and when it was last cleaned.

    `live_rows` and `dead_rows` are what the server's statistics say, which may be old.
    """

    table_name: str
    live_rows: int
    dead_rows: int
    table_bytes: int
    index_bytes: int
    last_vacuum_at: dt.datetime | None
    last_analyze_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class SystemStats:
    """How everything in one schema stands: sums over its queues, workers, tables, the server.

    Counts and rates are sums of those in `QueueMetrics`; each queue's counts stop at `limit`.
    `enqueued_total` is how many ids messages have been given, those of rolled-back transactions
    too; None where this role may not see it. `removed_total` counts the rows that left the table of
    messages, for whatever reason, since the server's statistics were reset. Both only grow, and
    cost nothing to keep.
    """

    schema: str
    revision: str | None
    database: str
    server_version: str
    queues: int
    paused_queues: int
    pending: int
    delayed: int
    locked: int
    archived: int
    dead: int
    capped: bool
    oldest_pending_age: dt.timedelta | None
    rate_in: float
    rate_out: float
    enqueued_total: int | None
    removed_total: int
    ready_workers: int
    suspended_workers: int
    stopped_workers: int
    stale_workers: int
    tables: tuple[TableStats, ...]
    by_queue: tuple[QueueMetrics, ...]
    """What the sums are made of, by name."""

    @property
    def total_messages(self) -> int:
        """Messages in all queues: pending, delayed and locked."""
        return self.pending + self.delayed + self.locked


def system_stats(
    connection: Connection, schema: str, limit: int | None, stale_after: dt.timedelta
) -> SystemStats:
    """Measure everything in `schema`; the counts of each queue stop at `limit`."""
    every = queues.all_metrics(connection, schema, limit)
    database, version, given, removed = connection.execute(sql.server(schema)).one()
    workers = connection.execute(sql.workers(schema), {"age": stale_after}).one()
    names = [table.name for table in tables(schema)]
    sizes = connection.execute(sql.every_table(), {"schema": schema, "names": names})
    return SystemStats(
        schema=schema,
        revision=_revision(connection, schema),
        database=database,
        server_version=version,
        enqueued_total=given,
        removed_total=removed,
        tables=tuple(TableStats(*row) for row in sizes),
        by_queue=tuple(every),
        **_of_queues(every),
        **dict(zip(_WORKERS, workers, strict=True)),
    )


def _of_queues(every: Sequence[QueueMetrics]) -> dict[str, Any]:
    ages = [age for queue in every if (age := queue.oldest_pending_age) is not None]
    return {
        "queues": len(every),
        "paused_queues": sum(queue.paused for queue in every),
        "capped": any(queue.capped for queue in every),
        "oldest_pending_age": max(ages, default=None),
        **{name: sum(getattr(queue, name) or 0 for queue in every) for name in _SUMS},
    }


def _revision(connection: Connection, schema: str) -> str | None:
    from pgqrs.migrations import installed  # loads Alembic, which workers can do without

    found = installed(connection, schema)
    return None if found is None else found.revision
