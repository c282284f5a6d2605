"""Look after queues, workers and the schema: on which connection; what, is in `AdminSteps`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar, Unpack

from sqlalchemy import Engine

from pgqrs.access import Access
from pgqrs.admin_messages import MessageAdmin
from pgqrs.admin_steps import AdminSteps
from pgqrs.binding import Binding, EngineBinding, bound
from pgqrs.call import Call, call
from pgqrs.config import Config
from pgqrs.errors import QueryTimeoutError
from pgqrs.message_steps import MessageSteps
from pgqrs.operations.queues import QueueOptions
from pgqrs.overview import SystemStats
from pgqrs.queue_metrics import QueueMetrics
from pgqrs.types import (
    Duration,
    Finding,
    Maintenance,
    QueueInfo,
    WorkerHealth,
    WorkerInfo,
    WorkerStats,
)

__all__ = ["Admin"]

T = TypeVar("T")


class Admin(MessageAdmin):
    """Looks after queues and workers, and installs the schema.

    `bind` is a Config, DSN, URL, Engine, sessionmaker or another pgqrs object; with a Session or
    Connection everything but the schema is done within its transaction. The constructor does no
    I/O. Every method raises UnavailableError and SchemaMissingError where they apply.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self.binding: Binding = bound(bind, config)
        self._steps = AdminSteps(self.binding.config)
        self._messages = MessageSteps(self.binding.config)
        self._life = self._steps.life()

    @property
    def pool(self) -> Engine:
        """The engine behind this object. Raises TypeError within a transaction of yours.

        One of pgqrs's own is in autocommit, and its placeholders are PostgreSQL's (`$1`): that
        matters to `exec_driver_sql` and to listeners, which get parameters by position.
        """
        if not isinstance(self.binding, EngineBinding):
            raise TypeError("an Admin on a Session or Connection has no engine: bind it to one")
        return self.binding.engine

    @property
    def worker_id(self) -> int | None:
        """The id of this admin's own worker row; None until a call of its life registers it."""
        return self._steps.worker_id

    def install(self, dry_run: bool = False) -> str:  # noqa: FBT001, FBT002 - as documented
        """Bring the tables to the newest revision; give the SQL, unexecuted, when `dry_run`.

        Safe to repeat, and from several processes at once. Needs an engine.
        """
        from pgqrs import migrations

        return migrations.install(self.pool, self.binding.schema, dry_run=dry_run)

    def uninstall(self, dry_run: bool = False) -> str:  # noqa: FBT001, FBT002 - as documented
        """Drop pgqrs's tables with all they hold, and the schema if it is empty then.

        Gives the SQL, unexecuted when `dry_run`; where nothing is installed, nothing happens.
        """
        from pgqrs import migrations

        return migrations.uninstall(self.pool, self.binding.schema, dry_run=dry_run)

    def verify(self) -> list[Finding]:
        """Say what of the schema is missing or different, with what mends it."""
        from pgqrs.verification import verify

        return self.binding.run(call(verify, self.binding.schema))

    def grant(self, access: Access | str, role: str, *, dry_run: bool = False) -> str:
        """Give a role of the server what an access takes; give the SQL, unexecuted, when `dry_run`.

        Safe to repeat: to be done again after an upgrade, and where views were made. Needs the
        owner of the tables; comments at the head of the SQL name the views of others, which are
        left to them. Raises RoleNotFoundError, SchemaMissingError, DatabaseError where this role
        may not grant, and ValueError where the other owns the tables.
        """
        return self.binding.run(self._steps.granting(access, role, dry_run=dry_run))

    def revoke(self, role: str, *, dry_run: bool = False) -> str:
        """Take all rights of a role on the schema and pgqrs's tables and views; as `grant`.

        Comments at the head of the SQL say through what the role has rights still. Raises also
        DatabaseError where others granted it some, and ValueError where it owns views.
        """
        return self.binding.run(self._steps.revoking(role, dry_run=dry_run))

    def create_queue(
        self,
        name: str,
        *,
        exist_ok: bool = False,
        views: bool = False,
        **options: Unpack[QueueOptions],
    ) -> QueueInfo:
        """Create a queue; options left out follow the configuration.

        Options: see `QueueOptions`. With `views` it also has the views `q_<name>` and `a_<name>` to
        look at, as `queues` shows all of them. Raises QueueExistsError unless `exist_ok`, which
        gives the queue as it is, QueueNotFoundError where there is no such dead letter queue, and
        ValueError for a bad name or option.
        """
        creating = self._steps.creating(name, options, exist_ok=exist_ok, views=views)
        return self.binding.run(creating)

    def update_queue(self, name: str, **options: Unpack[QueueOptions]) -> QueueInfo:
        """Change options of a queue; those left out stay.

        Raises QueueNotFoundError, of this queue or of the dead letter queue, and ValueError.
        """
        return self.binding.run(self._steps.updating(name, options))

    def get_queue(self, name: str) -> QueueInfo:
        """Look a queue up. Raises QueueNotFoundError."""
        return self.binding.run(self._steps.finding(name))

    def list_queues(self) -> list[QueueInfo]:
        """List all queues, by name."""
        return self.binding.run(self._steps.listing())

    def delete_queue(self, name: str, force: bool = False) -> None:  # noqa: FBT001, FBT002
        """Delete a queue, its workers and views.

        Raises QueueNotFoundError, QueueInUseError where it is the dead letter queue of another,
        DatabaseError where another role made the views and this one does not own the schema, and
        QueueNotEmptyError while messages wait or history exists, unless `force`, which deletes
        those first, in batches.
        """
        for emptying in self._steps.emptying(name) if force else ():
            self.binding.run(emptying)
        self.binding.run(self._steps.deleting(name, force=force))

    def pause_queue(self, name: str) -> QueueInfo:
        """Lease no more of this queue's messages, at once. Raises QueueNotFoundError."""
        return self.binding.run(self._steps.pausing(name, paused=True))

    def resume_queue(self, name: str) -> QueueInfo:
        """Lease this queue's messages again. Raises QueueNotFoundError."""
        return self.binding.run(self._steps.pausing(name, paused=False))

    def purge_queue(self, name: str) -> int:
        """Delete the messages a queue has now, leased ones too; gives how many.

        In batches that are each a commit, so that consumers and producers go on meanwhile. A
        holder whose message was purged gets LeaseLostError. Raises QueueNotFoundError.
        """
        return self.binding.run(self._steps.purging(name))

    def purge_archive(self, name: str | None = None, older_than: Duration | None = None) -> int:
        """Delete archived messages, of one queue or all, of one age or any; gives how many.

        In batches that are each a commit. Raises QueueNotFoundError.
        """
        return self.binding.run(self._steps.purging_archive(name, older_than))

    def queue_metrics(self, name: str, *, exact: bool = False) -> QueueMetrics:
        """Measure a queue; counts stop at 10,000 unless `exact`. Raises QueueNotFoundError."""
        return self.binding.run(self._steps.measuring(name, exact=exact))

    def all_queues_metrics(self, *, exact: bool = False) -> list[QueueMetrics]:
        """Measure every queue, by name; counts stop at 10,000 unless `exact`."""
        return self.binding.run(self._steps.measuring_all(exact=exact))

    def system_stats(self, *, exact: bool = False) -> SystemStats:
        """Measure everything: totals of queues and workers, sizes of tables, versions.

        The counts of each queue stop at 10,000 unless `exact`.
        """
        return self.binding.run(self._steps.measuring_everything(exact=exact))

    def workers(self, queue: str | None = None) -> list[WorkerInfo]:
        """List the workers of one queue, or all of them, by id; stopped ones too."""
        return self.binding.run(self._steps.listing_workers(queue))

    def worker_stats(self, queue: str) -> WorkerStats:
        """Count the workers of a queue by status, and what they hold.

        Raises QueueNotFoundError.
        """
        return self.binding.run(self._steps.counting_workers(queue))

    def worker_management(self) -> list[WorkerStats]:
        """Count the workers of every queue, by its name: the overview of `worker_stats`."""
        return self.binding.run(self._steps.counting_all_workers())

    def worker_health(
        self, timeout: Duration | None = None, queue: str | None = None
    ) -> list[WorkerHealth]:
        """Say of each worker that is not stopped when it beat last, and what it holds.

        It is healthy if that is within `timeout` (`stale_after_seconds` of the configuration).
        """
        return self.binding.run(self._steps.examining(timeout, queue))

    def reclaim_messages(
        self, queue: str | None = None, older_than: Duration | None = None
    ) -> list[int]:
        """Stop workers without a heartbeat for `older_than`, and make what they hold due now.

        Their attempts count. Gives the ids of the messages. `older_than` is
        `stale_after_seconds` unless given; expired leases are due without this.
        """
        return self.binding.run(self._steps.reclaiming(queue, older_than))

    def release_worker_messages(self, worker_id: int) -> list[int]:
        """Make what a worker holds due now, whoever it is; gives the ids of the messages.

        Their attempts count. Raises WorkerNotFoundError.
        """
        return self.binding.run(self._steps.releasing(worker_id))

    def purge_workers(self, older_than: Duration) -> int:
        """Delete workers that hold nothing and gave no sign of life for `older_than`; how many."""
        return self.binding.run(self._steps.purging_workers(older_than))

    def delete_worker(self, worker_id: int) -> None:
        """Delete a worker's row; the history keeps its id.

        Raises WorkerNotFoundError, InvalidStateError where it is not stopped, and
        WorkerHasPendingMessagesError where it holds messages.
        """
        self.binding.run(self._steps.deleting_worker(worker_id))

    def diagnose(self, *, fix: bool = False) -> list[Finding]:
        """Examine everything that queues depend on; say what is amiss, with what mends it.

        With `fix` what can be mended safely is: ids, dead rows, statistics, stale workers. Checks
        that need a connection of their own are left out within a transaction of yours, where
        `fix` is a TypeError.
        """
        from pgqrs.doctor import of_hearing

        if fix and self.binding.is_joined:
            raise TypeError("mending needs a connection outside of a transaction of yours")
        found = self.binding.run(self._steps.diagnosing(fix=fix))
        if isinstance(self.binding, EngineBinding):
            found += of_hearing(self.binding.apart, self.binding.config)
        return found

    def bump_ids(self) -> dict[str, int]:
        """Go on with ids past the highest in use; gives that by table, where it was needed.

        For after a restore of the rows alone, before anybody enqueues.
        """
        return self.binding.run(self._steps.bumping_ids())

    def maintain(self) -> Maintenance:
        """Do one round of what running workers do every `cleanup_interval_seconds`.

        Moves messages whose last attempt ran out to the archive, lets those wait again that workers
        without a heartbeat let run out, deletes what is older than its queue's retention and the
        rows of workers gone for a day, and vacuums the table of messages where this role may: that
        needs a connection outside of a transaction, and is left out within one of yours.
        """
        done = self.binding.run(self._steps.maintaining())
        if self.binding.is_joined:
            return done
        with suppress(QueryTimeoutError):  # autovacuum has more time
            done = replace(done, vacuumed=self.binding.run(self._steps.vacuuming()))
        return done

    def close(self) -> None:
        """Stop its own worker, if it registered one, and free what it owns. Idempotent."""
        try:
            if self._steps.worker_id is not None:
                self.binding.run(self._steps.leaving())
        finally:
            self.binding.close()

    def _live(self, call_: Call[T]) -> T:
        return self.binding.run(call_)
