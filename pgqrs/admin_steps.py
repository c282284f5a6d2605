"""What an admin does with queues, prepared as calls for the sync and asyncio classes alike."""

from __future__ import annotations

from pgqrs.call import Call, call
from pgqrs.operations import queues
from pgqrs.types import ArchiveMode, Duration, QueueInfo, QueueMetrics, span

__all__ = ["AdminSteps"]


class AdminSteps:
    """Each method checks its arguments and gives the call that does it."""

    def __init__(self, schema: str) -> None:
        self.schema = schema

    def creating(
        self,
        name: str,
        visibility_timeout: Duration | None,
        max_attempts: int | None,
        archive_mode: ArchiveMode | str | None,
        *,
        exist_ok: bool,
    ) -> Call[QueueInfo]:
        """Create a queue. Raises ValueError."""
        options = queues.checked_options(visibility_timeout, max_attempts, archive_mode)
        named = queues.checked_name(name)
        return call(queues.create, self.schema, named, options, exist_ok=exist_ok)

    def updating(
        self,
        name: str,
        visibility_timeout: Duration | None,
        max_attempts: int | None,
        archive_mode: ArchiveMode | str | None,
    ) -> Call[QueueInfo]:
        """Change options of a queue. Raises ValueError."""
        options = queues.checked_options(visibility_timeout, max_attempts, archive_mode)
        return call(queues.update, self.schema, name, options)

    def pausing(self, name: str, *, paused: bool) -> Call[QueueInfo]:
        """Pause a queue, or resume it."""
        return call(queues.update, self.schema, name, {"paused": paused})

    def finding(self, name: str) -> Call[QueueInfo]:
        """Look a queue up."""
        return call(queues.find, self.schema, name)

    def listing(self) -> Call[list[QueueInfo]]:
        """List all queues."""
        return call(queues.everyone, self.schema)

    def emptying(self, name: str) -> list[Call[int]]:
        """Delete all of a queue's messages and history, in batches that are each a commit."""
        return [self.purging(name), self.purging_archive(name, None)]

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
