"""Counts the tables anew, at rest, and judges what the metrics say of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, text

from pgqrs import Admin, QueueMetrics, SystemStats

COUNTS = ("pending", "delayed", "locked", "archived", "dead")
RECOUNT = text("""
SELECT q.queue_name, q.paused,
  count(*) FILTER (WHERE r.state = 0 OR r.vt <= now()) AS pending,
  count(*) FILTER (WHERE r.state = 1 AND r.vt > now()) AS delayed,
  count(*) FILTER (WHERE r.state = 2 AND r.vt > now()) AS locked,
  count(r.status) AS archived, count(*) FILTER (WHERE r.status = 'dead') AS dead
FROM pgqrs.pgqrs_queues q LEFT JOIN (
  SELECT queue_id, state, vt, NULL AS status FROM pgqrs.pgqrs_messages
  UNION ALL SELECT queue_id, NULL, NULL, status FROM pgqrs.pgqrs_archive
) r ON r.queue_id = q.id GROUP BY q.id ORDER BY q.queue_name
""")
"""Counts every row of every queue, with nothing to help it."""


def recount(admin: Admin) -> list[str]:
    """Compare all metrics with the tables, while nobody changes them and nothing comes due."""
    with admin.pool.connect() as connection:
        counted = connection.execute(RECOUNT).all()
    faults = []
    for exact in (False, True):
        stats, every = admin.system_stats(exact=exact), admin.all_queues_metrics(exact=exact)
        single = [admin.queue_metrics(row.queue_name, exact=exact) for row in counted]
        for found in (every, single, stats.by_queue):
            faults += count_faults(found, counted)
        faults += total_faults(stats, counted)
    return faults


def count_faults(found: Iterable[QueueMetrics], counted: Iterable[Row[Any]]) -> list[str]:
    """Say where metrics of queues, by name, are not what was counted; capped ones may be less."""
    faults = []
    for metrics, row in zip(found, counted, strict=True):
        for name in ("queue_name", "paused", *COUNTS):
            said, there = getattr(metrics, name), getattr(row, name)
            if name in COUNTS and metrics.limit is not None:
                there = min(there, metrics.limit)
            if said != there:
                faults.append(f"metrics differ: {row.queue_name} {name} {said}, not {there}")
        if (metrics.oldest_pending_at is None) != (row.pending == 0):
            faults.append(f"metrics differ: {row.queue_name} {metrics.oldest_pending_at}")
    return faults


def total_faults(stats: SystemStats, counted: Iterable[Row[Any]]) -> list[str]:
    """Say which totals are not the sums of what was counted, as far as no count was capped."""
    rows = list(counted)
    wanted = {name: sum(getattr(row, name) for row in rows) for name in COUNTS}
    wanted |= {"queues": len(rows), "paused_queues": sum(row.paused for row in rows)}
    return [
        f"totals differ: {name} {getattr(stats, name)}, not {there}"
        for name, there in wanted.items()
        if getattr(stats, name) != there and not (stats.capped and name in COUNTS)
    ]
