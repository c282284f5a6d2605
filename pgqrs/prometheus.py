"""Metrics for Prometheus: a collector for a registry of `prometheus_client`.

Needs the extra `pgqrs[prometheus]`. Everything is measured when it is scraped, and costs nothing
until then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pgqrs._version import __version__
from pgqrs.admin import Admin
from pgqrs.config import Config
from pgqrs.errors import PgqrsError
from pgqrs.overview import SystemStats
from pgqrs.queue_metrics import QueueMetrics
from pgqrs.types import WorkerStats

__all__ = ["QueueCollector"]

_log: Final = logging.getLogger("pgqrs.prometheus")
_STATES: Final = ("pending", "delayed", "locked")
_STATUSES: Final = ("ready", "suspended", "stopped", "stale")


class QueueCollector(Collector):
    """Measures all queues, workers and tables of one schema each time it is asked.

    `bind` is what `Admin` takes. When the database cannot be measured `pgqrs_up` is 0, and nothing
    else is said; why, is in the log `pgqrs.prometheus`. Register it with
    `prometheus_client.REGISTRY.register(QueueCollector(config))`; registering asks nothing.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self._admin = Admin(bind, config)
        self._told: str | None = None

    def describe(self) -> list[Metric]:
        """Describe nothing beforehand: that would need the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Measure now."""
        began = time.perf_counter()
        try:
            stats, workers = self._admin.system_stats(), self._admin.worker_management()
        except PgqrsError as error:
            self._say(str(error))
            yield _gauge("up", "Whether pgqrs could be measured.", 0)
            return
        self._say(None)
        yield _gauge("up", "Whether pgqrs could be measured.", 1)
        took = time.perf_counter() - began
        yield _gauge("collection_seconds", "How long measuring took.", took)
        yield from _of_system(stats)
        yield from _of_queues(stats.by_queue)
        yield from _of_workers(workers)
        yield from _of_tables(stats)

    def close(self) -> None:
        """Free what it owns."""
        self._admin.close()

    def _say(self, trouble: str | None) -> None:
        if trouble != self._told and trouble is not None:
            _log.warning("cannot be measured: %s", trouble)
        self._told = trouble


def _of_system(stats: SystemStats) -> Iterator[Metric]:
    info = InfoMetricFamily("pgqrs", "Versions of pgqrs, its tables and the server.")
    about = {"version": __version__, "server_version": stats.server_version}
    about |= {"schema": stats.schema, "revision": stats.revision or ""}
    info.add_metric([], about)
    yield info
    if stats.enqueued_total is not None:
        said = "Ids given to messages, those of rolled-back transactions too."
        yield CounterMetricFamily("pgqrs_messages_enqueued", said, stats.enqueued_total)
    said = "Rows that left the table of messages, since the server's statistics were reset."
    yield CounterMetricFamily("pgqrs_messages_removed", said, stats.removed_total)


def _of_queues(every: tuple[QueueMetrics, ...]) -> Iterator[Metric]:
    messages = _labelled("messages", "Messages in a queue, up to 10,000 a state.", "state")
    unhandled = _labelled("unhandled_messages", "Messages of types without a handler.", "type")
    paused = _labelled("paused", "Whether a queue is paused.")
    archived = _labelled("archived_messages", "Archived messages, up to 10,000.")
    dead = _labelled("dead_messages", "Archived messages that ran out of attempts, up to 10,000.")
    age = _labelled("oldest_pending_age_seconds", "How long the oldest pending message waits.")
    came = _labelled("enqueued_per_second", "Messages that came, a second, in the last minute.")
    went = _labelled("archived_per_second", "Messages archived, a second, in the last minute.")
    for queue in every:
        name = queue.queue_name
        for state in _STATES:
            messages.add_metric([name, state], getattr(queue, state))
        for kind, number in queue.unhandled_types.items():
            unhandled.add_metric([name, kind], number)
        paused.add_metric([name], queue.paused)
        archived.add_metric([name], queue.archived)
        dead.add_metric([name], queue.dead)
        oldest = queue.oldest_pending_age
        age.add_metric([name], oldest.total_seconds() if oldest else 0)
        for family, rate in ((came, queue.rate_in), (went, queue.rate_out)):
            if rate is not None:
                family.add_metric([name], rate)
    yield from (messages, unhandled, paused, archived, dead, age, came, went)


def _of_workers(every: list[WorkerStats]) -> Iterator[Metric]:
    workers = _labelled("workers", "Workers of a queue; stale ones are counted twice.", "status")
    held = _labelled("held_messages", "Messages that workers of a queue hold.")
    for stats in every:
        for status in _STATUSES:
            workers.add_metric([stats.queue_name, status], getattr(stats, f"{status}_workers"))
        held.add_metric([stats.queue_name], stats.held_messages)
    yield from (workers, held)


def _of_tables(stats: SystemStats) -> Iterator[Metric]:
    said = {
        "table_bytes": "Size of a table without its indexes.",
        "index_bytes": "Size of the indexes of a table.",
        "live_rows": "Rows of a table, as the server's statistics have it.",
        "dead_rows": "Rows of a table that VACUUM has yet to clean, likewise.",
    }
    for field, words in said.items():
        name = field if field.startswith("table_") else f"table_{field}"
        family = GaugeMetricFamily(f"pgqrs_{name}", words, labels=["table"])
        for table in stats.tables:
            family.add_metric([table.table_name], getattr(table, field))
        yield family
    said_last = "When a table was last vacuumed."
    last = GaugeMetricFamily(
        "pgqrs_table_last_vacuum_timestamp_seconds", said_last, labels=["table"]
    )
    for table in stats.tables:
        if table.last_vacuum_at is not None:
            last.add_metric([table.table_name], table.last_vacuum_at.timestamp())
    yield last


def _gauge(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pgqrs_{name}", said, value)


def _labelled(name: str, said: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pgqrs_queue_{name}", said, labels=["queue", *more])
