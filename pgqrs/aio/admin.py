"""Look after queues, workers and the schema under asyncio: the twin of `pgqrs.admin`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar, Unpack

from sqlalchemy.ext.asyncio import AsyncEngine

from pgqrs.access import Access
from pgqrs.admin_steps import AdminSteps
from pgqrs.aio.admin_messages import AsyncMessageAdmin
from pgqrs.aio.binding import AsyncBinding, AsyncEngineBinding, bound
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

__all__ = ["AsyncAdmin"]

T = TypeVar("T")


class AsyncAdmin(AsyncMessageAdmin):
    """Looks after queues and workers, and installs the schema, under asyncio.

    `bind` is a Config, DSN, URL, AsyncEngine, async_sessionmaker or another object of this package;
    with an AsyncSession or AsyncConnection everything but the schema is done within its
    transaction. The constructor does no I/O. Every method raises UnavailableError and
    SchemaMissingError where they apply.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self.binding: AsyncBinding = bound(bind, config)
        self._steps = AdminSteps(self.binding.config)
        self._messages = MessageSteps(self.binding.config)
        self._life = self._steps.life()

    @property
    def pool(self) -> AsyncEngine:
        """The engine behind this object. Raises TypeError within a transaction of yours."""
        return self._on_an_engine().engine

    @property
    def worker_id(self) -> int | None:
        """The id of this admin's own worker row; None until a call of its life registers it."""
        return self._steps.worker_id

    async def install(self, dry_run: bool = False) -> str:  # noqa: FBT001, FBT002 - as documented
        """Bring the tables to the newest revision; give the SQL, unexecuted, when `dry_run`.

        Contract and errors are those of `pgqrs.Admin.install`.
        """
        from pgqrs import migrations

        return await self._apart(migrations.install, dry_run=dry_run)

    async def uninstall(self, dry_run: bool = False) -> str:  # noqa: FBT001, FBT002 - as documented
        """Drop pgqrs's tables with all they hold, and the schema if it is empty then.

        Contract and errors are those of `pgqrs.Admin.uninstall`.
        """
        from pgqrs import migrations

        return await self._apart(migrations.uninstall, dry_run=dry_run)

    async def verify(self) -> list[Finding]:
        """Say what of the schema is missing or different, with what mends it."""
        from pgqrs.verification import verify

        return await self.binding.run(call(verify, self.binding.schema))

    async def grant(self, access: Access | str, role: str, *, dry_run: bool = False) -> str:
        """Give a role of the server what an access takes; give the SQL, unexecuted, when `dry_run`.

        Contract and errors are those of `pgqrs.Admin.grant`.
        """
        return await self.binding.run(self._steps.granting(access, role, dry_run=dry_run))

    async def revoke(self, role: str, *, dry_run: bool = False) -> str:
        """Take all rights of a role on the schema and pgqrs's tables and views away.

        Contract and errors are those of `pgqrs.Admin.revoke`.
        """
        return await self.binding.run(self._steps.revoking(role, dry_run=dry_run))

    async def create_queue(
        self,
        name: str,
        *,
        exist_ok: bool = False,
        views: bool = False,
        **options: Unpack[QueueOptions],
    ) -> QueueInfo:
        """Create a queue; options left out follow the configuration.

        Contract and errors are those of `pgqrs.Admin.create_queue`.
        """
        creating = self._steps.creating(name, options, exist_ok=exist_ok, views=views)
        return await self.binding.run(creating)

    async def update_queue(self, name: str, **options: Unpack[QueueOptions]) -> QueueInfo:
        """Change options of a queue; those left out stay.

        Contract and errors are those of `pgqrs.Admin.update_queue`.
        """
        return await self.binding.run(self._steps.updating(name, options))

    async def get_queue(self, name: str) -> QueueInfo:
        """Look a queue up. Raises QueueNotFoundError."""
        return await self.binding.run(self._steps.finding(name))

    async def list_queues(self) -> list[QueueInfo]:
        """List all queues, by name."""
        return await self.binding.run(self._steps.listing())

    async def delete_queue(self, name: str, force: bool = False) -> None:  # noqa: FBT001, FBT002
        """Delete a queue and its workers.

        Contract and errors are those of `pgqrs.Admin.delete_queue`.
        """
        for emptying in self._steps.emptying(name) if force else ():
            await self.binding.run(emptying)
        await self.binding.run(self._steps.deleting(name, force=force))

    async def pause_queue(self, name: str) -> QueueInfo:
        """Lease no more of this queue's messages, at once. Raises QueueNotFoundError."""
        return await self.binding.run(self._steps.pausing(name, paused=True))

    async def resume_queue(self, name: str) -> QueueInfo:
        """Lease this queue's messages again. Raises QueueNotFoundError."""
        return await self.binding.run(self._steps.pausing(name, paused=False))

    async def purge_queue(self, name: str) -> int:
        """Delete the messages a queue has now, leased ones too; gives how many.

        Contract and errors are those of `pgqrs.Admin.purge_queue`.
        """
        return await self.binding.run(self._steps.purging(name))

    async def purge_archive(
        self, name: str | None = None, older_than: Duration | None = None
    ) -> int:
        """Delete archived messages, of one queue or all, of one age or any; gives how many.

        Contract and errors are those of `pgqrs.Admin.purge_archive`.
        """
        return await self.binding.run(self._steps.purging_archive(name, older_than))

    async def queue_metrics(self, name: str, *, exact: bool = False) -> QueueMetrics:
        """Measure a queue; counts stop at 10,000 unless `exact`. Raises QueueNotFoundError."""
        return await self.binding.run(self._steps.measuring(name, exact=exact))

    async def all_queues_metrics(self, *, exact: bool = False) -> list[QueueMetrics]:
        """Measure every queue, by name; counts stop at 10,000 unless `exact`."""
        return await self.binding.run(self._steps.measuring_all(exact=exact))

    async def system_stats(self, *, exact: bool = False) -> SystemStats:
        """Measure everything: totals of queues and workers, sizes of tables, versions.

        The counts of each queue stop at 10,000 unless `exact`.
        """
        return await self.binding.run(self._steps.measuring_everything(exact=exact))

    async def workers(self, queue: str | None = None) -> list[WorkerInfo]:
        """List the workers of one queue, or all of them, by id; stopped ones too."""
        return await self.binding.run(self._steps.listing_workers(queue))

    async def worker_stats(self, queue: str) -> WorkerStats:
        """Count the workers of a queue by status, and what they hold.

        Contract and errors are those of `pgqrs.Admin.worker_stats`.
        """
        return await self.binding.run(self._steps.counting_workers(queue))

    async def worker_management(self) -> list[WorkerStats]:
        """Count the workers of every queue, by its name: the overview of `worker_stats`."""
        return await self.binding.run(self._steps.counting_all_workers())

    async def worker_health(
        self,
        timeout: Duration | None = None,
        queue: str | None = None,
    ) -> list[WorkerHealth]:
        """Say of each worker that is not stopped when it beat last, and what it holds.

        Contract and errors are those of `pgqrs.Admin.worker_health`.
        """
        return await self.binding.run(self._steps.examining(timeout, queue))

    async def reclaim_messages(
        self, queue: str | None = None, older_than: Duration | None = None
    ) -> list[int]:
        """Stop workers without a heartbeat for `older_than`, and make what they hold due now.

        Contract and errors are those of `pgqrs.Admin.reclaim_messages`.
        """
        return await self.binding.run(self._steps.reclaiming(queue, older_than))

    async def release_worker_messages(self, worker_id: int) -> list[int]:
        """Make what a worker holds due now, whoever it is; gives the ids of the messages.

        Contract and errors are those of `pgqrs.Admin.release_worker_messages`.
        """
        return await self.binding.run(self._steps.releasing(worker_id))

    async def purge_workers(self, older_than: Duration) -> int:
        """Delete workers that hold nothing and gave no sign of life for `older_than`; how many."""
        return await self.binding.run(self._steps.purging_workers(older_than))

    async def delete_worker(self, worker_id: int) -> None:
        """Delete a worker's row; the history keeps its id.

        Contract and errors are those of `pgqrs.Admin.delete_worker`.
        """
        await self.binding.run(self._steps.deleting_worker(worker_id))

    async def diagnose(self, *, fix: bool = False) -> list[Finding]:
        """Examine everything that queues depend on; say what is amiss, with what mends it.

        Contract and errors are those of `pgqrs.Admin.diagnose`.
        """
        from pgqrs.doctor import of_hearing

        if fix and self.binding.is_joined:
            raise TypeError("mending needs a connection outside of a transaction of yours")
        found = await self.binding.run(self._steps.diagnosing(fix=fix))
        if isinstance(self.binding, AsyncEngineBinding):
            found += await asyncio.to_thread(of_hearing, self.binding.apart, self.binding.config)
        return found

    async def bump_ids(self) -> dict[str, int]:
        """Go on with ids past the highest in use; gives that by table, where it was needed.

        For after a restore of the rows alone, before anybody enqueues.
        """
        return await self.binding.run(self._steps.bumping_ids())

    async def maintain(self) -> Maintenance:
        """Do one round of what running workers do every `cleanup_interval_seconds`.

        Contract and errors are those of `pgqrs.Admin.maintain`.
        """
        done = await self.binding.run(self._steps.maintaining())
        if self.binding.is_joined:
            return done
        with suppress(QueryTimeoutError):  # autovacuum has more time
            done = replace(done, vacuumed=await self.binding.run(self._steps.vacuuming()))
        return done

    async def close(self) -> None:
        """Stop its own worker, if it registered one, and free what it owns. Idempotent."""
        try:
            if self._steps.worker_id is not None:
                await self.binding.run(self._steps.leaving())
        finally:
            await self.binding.close()

    async def _live(self, call_: Call[T]) -> T:
        return await self.binding.run(call_)

    def _on_an_engine(self) -> AsyncEngineBinding:
        if not isinstance(self.binding, AsyncEngineBinding):
            raise TypeError(
                "an AsyncAdmin on a session or connection has no engine: bind it to one"
            )
        return self.binding

    async def _apart(self, step: Callable[..., str], *, dry_run: bool) -> str:
        # Alembic is not made for asyncio: it runs in a thread, on a sync connection.
        engine = self._on_an_engine().apart()
        try:
            return await asyncio.to_thread(step, engine, self.binding.schema, dry_run=dry_run)
        finally:
            engine.dispose()
