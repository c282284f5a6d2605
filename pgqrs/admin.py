"""Look after queues and the schema: on which connection. What is done is in `operations`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine

from pgqrs.admin_steps import AdminSteps
from pgqrs.binding import Binding, EngineBinding, bound
from pgqrs.call import call
from pgqrs.config import Config
from pgqrs.types import ArchiveMode, Duration, Finding, QueueInfo, QueueMetrics

__all__ = ["Admin"]


class Admin:
    """Creates, measures, pauses, empties and deletes queues, and installs the schema.

    `bind` is a Config, DSN, URL, Engine, sessionmaker or another pgqrs object; with a Session or
    Connection everything but the schema is done within its transaction. The constructor does no
    I/O. Every method raises UnavailableError and SchemaMissingError where they apply.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self.binding: Binding = bound(bind, config)
        self._steps = AdminSteps(self.binding.schema)

    @property
    def pool(self) -> Engine:
        """The engine behind this object. Raises TypeError within a transaction of yours."""
        if not isinstance(self.binding, EngineBinding):
            raise TypeError("an Admin on a Session or Connection has no engine: bind it to one")
        return self.binding.engine

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

    def create_queue(
        self,
        name: str,
        *,
        exist_ok: bool = False,
        visibility_timeout: Duration | None = None,
        max_attempts: int | None = None,
        archive_mode: ArchiveMode | str | None = None,
    ) -> QueueInfo:
        """Create a queue; options left None follow the configuration.

        `visibility_timeout` is seconds or a timedelta. `archive_mode` is full, meta (no payload,
        no output) or none (nothing, of what completed). Raises QueueExistsError unless `exist_ok`,
        which gives the queue as it is, and ValueError for a bad name or option.
        """
        call_ = self._steps.creating(
            name, visibility_timeout, max_attempts, archive_mode, exist_ok=exist_ok
        )
        return self.binding.run(call_)

    def update_queue(
        self,
        name: str,
        *,
        visibility_timeout: Duration | None = None,
        max_attempts: int | None = None,
        archive_mode: ArchiveMode | str | None = None,
    ) -> QueueInfo:
        """Change options of a queue; those left None stay. Raises QueueNotFoundError."""
        call_ = self._steps.updating(name, visibility_timeout, max_attempts, archive_mode)
        return self.binding.run(call_)

    def get_queue(self, name: str) -> QueueInfo:
        """Look a queue up. Raises QueueNotFoundError."""
        return self.binding.run(self._steps.finding(name))

    def list_queues(self) -> list[QueueInfo]:
        """List all queues, by name."""
        return self.binding.run(self._steps.listing())

    def delete_queue(self, name: str, force: bool = False) -> None:  # noqa: FBT001, FBT002
        """Delete a queue and its workers.

        Raises QueueNotFoundError, and QueueNotEmptyError while messages wait or history exists,
        unless `force`, which deletes those first, in batches.
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

    def close(self) -> None:
        """Free what this object owns. Idempotent."""
        self.binding.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
