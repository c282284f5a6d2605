"""What an admin does with queues and workers, as calls for the sync and asyncio classes alike."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Connection

from pgqrs.access import Access
from pgqrs.call import Call, call
from pgqrs.checks import checked_name
from pgqrs.config import Config
from pgqrs.forking import forget_in_child
from pgqrs.lifecycle import Lifecycle
from pgqrs.operations import ids, lifecycle, maintain, queues, rights, supervise, workers
from pgqrs.operations.maintain import MaintenanceTerms
from pgqrs.operations.queues import QueueOptions
from pgqrs.operations.views import checked_for_views, make
from pgqrs.overview import SystemStats, system_stats
from pgqrs.queue_metrics import QueueMetrics
from pgqrs.types import (
    Duration,
    Finding,
    Maintenance,
    QueueInfo,
    WorkerHealth,
    WorkerInfo,
    WorkerStats,
    span,
)

__all__ = ["AdminSteps"]


class AdminSteps:
    """Each method checks its arguments and gives the call that does it."""

    def __init__(self, config: Config) -> None:
        self.schema = config.schema_
        self.worker_id: int | None = None
        self._stale = dt.timedelta(seconds=config.stale_after_seconds)
        self._terms = MaintenanceTerms(config.max_attempts, self._stale)
        forget_in_child(self)

    def life(self) -> Lifecycle:
        """Give the calls of this admin's own life as a worker."""
        return Lifecycle(self.schema, self._identify)

    def after_fork_in_child(self) -> None:
        """Forget the row, which is the parent's."""
        self.worker_id = None

    def creating(
        self, name: str, options: QueueOptions, *, exist_ok: bool, views: bool
    ) -> Call[QueueInfo]:
        """Create a queue, and its views. Raises ValueError."""
        named, checked = checked_name(name), queues.checked_options(options)
        create = call(queues.create, self.schema, named, checked, exist_ok=exist_ok)
        if not views:
            return create
        checked_for_views(named)

        def create_with_views(connection: Connection) -> QueueInfo:
            queue = create.step(connection)
            make(connection, self.schema, queue)
            return queue

        return Call(create_with_views, changes=True, together=True)

    def updating(self, name: str, options: QueueOptions) -> Call[QueueInfo]:
        """Change options of a queue. Raises ValueError."""
        return call(queues.update, self.schema, name, queues.checked_options(options))

    def pausing(self, name: str, *, paused: bool) -> Call[QueueInfo]:
        """Pause a queue, or resume it."""
        return call(queues.update, self.schema, name, {"paused": paused})

    def finding(self, name: str) -> Call[QueueInfo]:
        """Look a queue up."""
        return call(queues.find, self.schema, name)

    def listing(self) -> Call[list[QueueInfo]]:
        """List all queues."""
        return call(queues.everyone, self.schema)

    def emptying(self, name: str) -> list[Call[Any]]:
        """Delete all of a queue's messages and history, in batches that are each a commit.

        Where the queue could not be deleted then, that is said first.
        """
        deletable = call(queues.check_deletable, self.schema, name)
        return [deletable, self.purging(name), self.purging_archive(name, None)]

    def deleting(self, name: str, *, force: bool) -> Call[None]:
        """Delete a queue, with what came in since it was emptied when `force`."""
        drop = call(queues.delete, self.schema, name, force=force)
        return Call(drop.step, changes=True, together=True)

    def purging(self, name: str) -> Call[int]:
        """Delete a queue's messages."""
        return call(queues.purge, self.schema, name)

    def purging_archive(self, name: str | None, older_than: Duration | None) -> Call[int]:
        """Delete archived messages. Raises ValueError."""
        age = None if older_than is None else span(older_than)
        return call(queues.purge_archive, self.schema, name, older_than=age)

    def measuring(self, name: str, *, exact: bool) -> Call[QueueMetrics]:
        """Measure one queue."""
        limit = None if exact else queues.COUNT_LIMIT
        return call(queues.metrics, self.schema, name, limit)

    def measuring_all(self, *, exact: bool) -> Call[list[QueueMetrics]]:
        """Measure all queues."""
        return call(queues.all_metrics, self.schema, None if exact else queues.COUNT_LIMIT)

    def measuring_everything(self, *, exact: bool) -> Call[SystemStats]:
        """Measure queues, workers, tables and the server."""
        limit = None if exact else queues.COUNT_LIMIT
        return call(system_stats, self.schema, limit, self._stale)

    def listing_workers(self, queue: str | None) -> Call[list[WorkerInfo]]:
        """List workers."""
        return call(supervise.everyone, self.schema, queue)

    def counting_workers(self, queue: str) -> Call[WorkerStats]:
        """Count the workers of a queue."""
        return call(supervise.stats, self.schema, queue, self._stale)

    def counting_all_workers(self) -> Call[list[WorkerStats]]:
        """Count the workers of every queue."""
        return call(supervise.all_stats, self.schema, self._stale)

    def examining(self, timeout: Duration | None, queue: str | None) -> Call[list[WorkerHealth]]:
        """Say which workers beat lately. Raises ValueError."""
        return call(supervise.health, self.schema, queue, self._age(timeout))

    def reclaiming(self, queue: str | None, older_than: Duration | None) -> Call[list[int]]:
        """Stop stale workers and end their leases. Raises ValueError."""
        return call(supervise.reclaim, self.schema, queue, self._age(older_than))

    def releasing(self, worker_id: int) -> Call[list[int]]:
        """End the leases of a worker."""
        return call(supervise.release, self.schema, worker_id)

    def purging_workers(self, older_than: Duration) -> Call[int]:
        """Delete workers long gone. Raises ValueError."""
        return call(supervise.purge, self.schema, span(older_than))

    def deleting_worker(self, worker_id: int) -> Call[None]:
        """Delete a stopped worker."""
        return call(supervise.delete, self.schema, worker_id)

    def maintaining(self) -> Call[Maintenance]:
        """Do one round of maintenance, but for the VACUUM."""
        return call(maintain.maintain, self.schema, self._terms)

    def diagnosing(self, *, fix: bool) -> Call[list[Finding]]:
        """Examine everything that a connection can tell."""
        from pgqrs.doctor import Terms, examine  # loads Alembic, which workers can do without

        return call(examine, Terms(self.schema, self._stale), fix=fix)

    def granting(self, access: Access | str, role: str, *, dry_run: bool) -> Call[str]:
        """Give a role what an access takes. Raises ValueError."""
        grant = call(rights.grant, self.schema, Access(access), role, dry_run=dry_run)
        return Call(grant.step, changes=not dry_run, together=True)

    def revoking(self, role: str, *, dry_run: bool) -> Call[str]:
        """Take all rights of a role away."""
        revoke = call(rights.revoke, self.schema, role, dry_run=dry_run)
        return Call(revoke.step, changes=not dry_run, together=True)

    def bumping_ids(self) -> Call[dict[str, int]]:
        """Go on with ids past those in use."""
        return call(ids.bump, self.schema)

    def vacuuming(self) -> Call[bool]:
        """Vacuum the messages, outside of a transaction."""
        return call(maintain.vacuum, self.schema)

    def leaving(self) -> Call[None]:
        """Stop this admin's own worker."""
        worker_id, self.worker_id = self.worker_id, None
        return call(workers.stop, self.schema, worker_id or 0)

    def _age(self, given: Duration | None) -> dt.timedelta:
        return self._stale if given is None else span(given)

    def _identify(self, connection: Connection) -> int:
        if self.worker_id is None:
            self.worker_id = lifecycle.register_admin(connection, self.schema)
        return self.worker_id
