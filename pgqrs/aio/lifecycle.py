"""A worker's life under asyncio: the twin of `pgqrs.lifecycle.LivingWorker`."""

from __future__ import annotations

from typing import TypeVar

from pgqrs.call import Call
from pgqrs.closing import AsyncClosing
from pgqrs.lifecycle import Lifecycle
from pgqrs.types import Duration, WorkerStatus

__all__ = ["AsyncLivingWorker"]

T = TypeVar("T")


class AsyncLivingWorker(AsyncClosing):
    """An asyncio worker's life: each method awaits the call of its name."""

    _life: Lifecycle

    async def status(self) -> WorkerStatus:
        """Give the status. Raises WorkerNotFoundError where the row was deleted."""
        return await self._live(self._life.status())

    async def heartbeat(self) -> None:
        """Say that this worker is alive, registering it if need be.

        Raises QueueNotFoundError, WorkerExistsError, DatabaseError.
        """
        await self._live(self._life.heartbeat())

    async def is_healthy(self, max_age: Duration) -> bool:
        """Say whether it is not stopped, and beat within `max_age`. Raises WorkerNotFoundError."""
        return await self._live(self._life.is_healthy(max_age))

    async def suspend(self) -> None:
        """Lease no more, at once; what is held may be finished.

        Raises WorkerNotFoundError, and InvalidStateError where it is stopped.
        """
        await self._live(self._life.suspend())

    async def resume(self) -> None:
        """Lease again. Raises WorkerNotFoundError, and InvalidStateError where it is stopped."""
        await self._live(self._life.resume())

    async def shutdown(self, *, release: bool = False) -> None:
        """Stop a suspended worker for good; one that is stopped stays so.

        Contract and errors are those of `pgqrs.Worker.shutdown`.
        """
        await self._live(self._life.shutdown(release=release))

    async def _live(self, call_: Call[T]) -> T:
        raise NotImplementedError
