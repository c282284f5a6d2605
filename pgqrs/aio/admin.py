"""Look after queues and the schema under asyncio: the twin of `pgqrs.admin`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sqlalchemy.ext.asyncio import AsyncEngine

from pgqrs.admin_steps import AdminSteps
from pgqrs.aio.binding import AsyncBinding, AsyncEngineBinding, bound
from pgqrs.call import call
from pgqrs.config import Config
from pgqrs.types import ArchiveMode, Duration, Finding, QueueInfo, QueueMetrics

__all__ = ["AsyncAdmin"]


class AsyncAdmin:
    """Creates, measures, pauses, empties and deletes queues, and installs the schema.

    `bind` is a Config, DSN, URL, AsyncEngine, async_sessionmaker or another object of this package;
    with an AsyncSession or AsyncConnection everything but the schema is done within its
    transaction. The constructor does no I/O. Every method raises UnavailableError and
    SchemaMissingError where they apply.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self.binding: AsyncBinding = bound(bind, config)
        self._steps = AdminSteps(self.binding.schema)

    @property
    def pool(self) -> AsyncEngine:
        """The engine behind this object. Raises TypeError within a transaction of yours."""
        return self._on_an_engine().engine

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

    async def create_queue(
        self,
        name: str,
        *,
        exist_ok: bool = False,
        visibility_timeout: Duration | None = None,
        max_attempts: int | None = None,
        archive_mode: ArchiveMode | str | None = None,
    ) -> QueueInfo:
        """Create a queue; options left None follow the configuration.

        Contract and errors are those of `pgqrs.Admin.create_queue`.
        """
        call_ = self._steps.creating(
            name, visibility_timeout, max_attempts, archive_mode, exist_ok=exist_ok
        )
        return await self.binding.run(call_)

    async def update_queue(
        self,
        name: str,
        *,
        visibility_timeout: Duration | None = None,
        max_attempts: int | None = None,
        archive_mode: ArchiveMode | str | None = None,
    ) -> QueueInfo:
        """Change options of a queue; those left None stay. Raises QueueNotFoundError."""
        call_ = self._steps.updating(name, visibility_timeout, max_attempts, archive_mode)
        return await self.binding.run(call_)

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

    async def close(self) -> None:
        """Free what this object owns. Idempotent."""
        await self.binding.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

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
