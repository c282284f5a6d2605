"""Lease messages and acknowledge them under asyncio: the twin of `pgqrs.consumer`."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, overload

from pgqrs.aio.binding import AsyncEngineBinding
from pgqrs.aio.worker import AsyncBoundWorker
from pgqrs.consumer_steps import ConsumerSteps, Held
from pgqrs.heartbeat import Heartbeat, heartbeat_for
from pgqrs.types import ArchivedMessage, Duration, QueueMessage

__all__ = ["AsyncConsumer"]


class AsyncConsumer(AsyncBoundWorker[ConsumerSteps]):
    """Leases messages of one queue and acknowledges them, under asyncio.

    `bind` is a Config, DSN, URL, AsyncEngine, async_sessionmaker or another object of this package:
    then each call is a transaction of its own. With an AsyncSession or AsyncConnection every call
    is `within` it. `queue` is a name or QueueInfo. An explicit hostname and port register a worker
    of their own; otherwise one row is shared in the process. The constructor does no I/O.

    Leaving an `async with` block gives back what is still held, at no attempt's cost, and stops the
    worker; on an exception leases are left to run out, so that their attempts count.
    """

    _steps_type = ConsumerSteps

    async def dequeue(self, vt: Duration | None = None) -> QueueMessage | None:
        """Lease the next due message for `vt` (the queue's visibility timeout), or give None.

        Contract and errors are those of `pgqrs.Consumer.dequeue`.
        """
        messages = await self.dequeue_batch(1, vt)
        return messages[0] if messages else None

    async def dequeue_batch(self, size: int, vt: Duration | None = None) -> list[QueueMessage]:
        """Lease up to `size` due messages, `max_batch_size` at most; otherwise as `dequeue`."""
        messages = await self._run(self._steps.leasing(size, vt))
        if messages and isinstance(self._own, AsyncEngineBinding):
            heart = self._heartbeat(self._own)
            heart.keep(self._steps.ledger, self._steps.registration)
        return messages

    async def archive(
        self, message: Held, status: str = "completed", output: Any = None
    ) -> ArchivedMessage:
        """Finish a message: move it to the archive under `status`, with `output` (JSON) kept.

        Contract and errors are those of `pgqrs.Consumer.archive`.
        """
        return await self._run(self._steps.archiving(message, status, output))

    async def archive_batch(self, messages: Iterable[Held]) -> list[bool]:
        """Finish many as completed; says for each, in order, whether its lease was held."""
        return await self._run(self._steps.archiving_many(messages))

    async def delete(self, message: Held) -> None:
        """Finish a message without a trace. Raises LeaseLostError."""
        await self._run(self._steps.deleting(message))

    async def delete_batch(self, messages: Iterable[Held]) -> list[bool]:
        """Delete many; says for each, in order, whether its lease was held."""
        return await self._run(self._steps.deleting_many(messages))

    async def extend_visibility(self, message: Held, by: Duration) -> QueueMessage:
        """Push the end of an unexpired lease out to `by` from now; it is never shortened.

        Contract and errors are those of `pgqrs.Consumer.extend_visibility`.
        """
        return await self._run(self._steps.extending(message, by))

    async def fail(self, message: Held, error: Any, delay: Duration | None = None) -> bool:
        """End an attempt that failed: the message is due again later, or dead after its last.

        Contract and errors are those of `pgqrs.Consumer.fail`.
        """
        return await self._run(self._steps.failing(message, error, delay))

    @overload
    async def release(self, messages: Held, delay: Duration = 0) -> None: ...
    @overload
    async def release(self, messages: Iterable[Held], delay: Duration = 0) -> list[bool]: ...
    async def release(
        self, messages: Held | Iterable[Held], delay: Duration = 0
    ) -> list[bool] | None:
        """Give a lease (or many) back, due again after `delay`; it costs no attempt.

        Contract and errors are those of `pgqrs.Consumer.release`.
        """
        if isinstance(messages, int | QueueMessage):
            await self._run(self._steps.releasing(messages, delay))
            return None
        return await self._run(self._steps.releasing_many(messages, delay))

    async def close(self) -> None:
        """Give back what is still held, then stop the worker if nobody else shares it."""
        try:
            if not self._closed and self._own is self.binding and self._steps.ledger.fences():
                await self.binding.run(self._steps.releasing_all())
        finally:
            await self._let_go()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self._let_go()

    def _heartbeat(self, own: AsyncEngineBinding) -> Heartbeat:
        return heartbeat_for(own.place, own.apart, own.config.heartbeat_interval_seconds)

    async def _let_go(self) -> None:
        if isinstance(self._own, AsyncEngineBinding) and self._own is self.binding:
            self._heartbeat(self._own).drop(self._steps.ledger)
        await super().close()
