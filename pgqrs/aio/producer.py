"""Add messages to a queue under asyncio: the twin of `pgqrs.producer`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal, TypeVar, Unpack, overload

from pgqrs.aio.worker import AsyncBoundWorker
from pgqrs.call import Call
from pgqrs.contents import Sending
from pgqrs.errors import PartlyEnqueuedError, PgqrsError
from pgqrs.new_message import MoreOptions, OnConflict
from pgqrs.producer_steps import ProducerSteps
from pgqrs.types import Duration, QueueMessage, RateLimitStatus

__all__ = ["AsyncProducer"]

T = TypeVar("T")


class AsyncProducer(AsyncBoundWorker[ProducerSteps]):
    """Adds messages to one queue, under asyncio.

    `bind` is a Config, DSN, URL, AsyncEngine, async_sessionmaker or another object of this package:
    then each call is a transaction of its own. With an AsyncSession or AsyncConnection every call
    is `within` it. `queue` is a name or QueueInfo. An explicit hostname and port register a worker
    of their own; otherwise one row is shared in the process. The constructor does no I/O.
    """

    _steps_type = ProducerSteps
    _ringing: asyncio.Task[None] | None = None

    @overload
    async def enqueue(
        self,
        payload: Any,
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        on_conflict: Literal["raise"] = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage: ...
    @overload
    async def enqueue(
        self,
        payload: Any,
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict,
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None: ...
    async def enqueue(
        self,
        payload: Any,
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None:
        """Add one message: one statement, one round trip.

        Contract and errors are those of `pgqrs.Producer.enqueue`.
        """
        sending = Sending(priority, delay, max_attempts, on_conflict, options)
        return await self._send(self._steps.enqueuing(payload, sending))

    @overload
    async def enqueue_delayed(
        self,
        payload: Any,
        delay: Duration,
        *,
        priority: int = 0,
        max_attempts: int | None = None,
        on_conflict: Literal["raise"] = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage: ...
    @overload
    async def enqueue_delayed(
        self,
        payload: Any,
        delay: Duration,
        *,
        priority: int = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict,
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None: ...
    async def enqueue_delayed(
        self,
        payload: Any,
        delay: Duration,
        *,
        priority: int = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None:
        """Add one message that is due after `delay`; otherwise as `enqueue`."""
        sending = Sending(priority, delay, max_attempts, on_conflict, options)
        return await self._send(self._steps.enqueuing(payload, sending))

    @overload
    async def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: Literal[True] = True,
        on_conflict: Literal["raise"] = "raise",
        **options: Unpack[MoreOptions],
    ) -> list[QueueMessage]: ...
    @overload
    async def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: Literal[True] = True,
        on_conflict: OnConflict,
        **options: Unpack[MoreOptions],
    ) -> list[QueueMessage | None]: ...
    @overload
    async def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: Literal[False],
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> int: ...
    async def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: bool = True,
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> Any:
        """Add many messages, with ids in the order given; otherwise as `enqueue`.

        Contract and errors are those of `pgqrs.Producer.batch_enqueue`.
        """
        sending = Sending(priority, delay, max_attempts, on_conflict, options)
        if atomic:
            return await self._send(self._steps.enqueuing_many(payloads, sending))
        parts, count = self._steps.enqueuing_in_parts(payloads, sending), 0
        try:
            for part in parts:
                messages = await self._send(part)
                count += len(messages) - messages.count(None)
        except Exception as error:  # also one of the iterable's own
            raise PartlyEnqueuedError(count, error) from error
        return count

    async def extend_visibility(self, message: QueueMessage | int, by: Duration) -> QueueMessage:
        """Postpone a waiting message that this producer added, or extend its present lease.

        Contract and errors are those of `pgqrs.Producer.extend_visibility`.
        """
        return await self._run(self._steps.extending(message, by))

    def rate_limit_status(self) -> RateLimitStatus | None:
        """Give how much this producer may send now; None without `max_enqueue_per_second`."""
        return self._steps.rate_limit_status()

    async def close(self) -> None:
        """Send the notification that is owed, and stop the worker if nobody else shares it."""
        if not self._closed:
            if self._ringing is not None and self._is_ringing():
                await asyncio.wait([self._ringing])  # it is over in a moment
            with suppress(PgqrsError):
                await self._ring()
        await super().close()

    async def _send(self, call_: Call[T]) -> T:
        result = await self._run(call_)
        if self._steps.bell.owes() and not self._is_ringing():
            self._ringing = asyncio.create_task(self._ring_soon())
        return result

    def _is_ringing(self) -> bool:
        # A task of another loop, which may be closed, neither ends nor can be waited for.
        task, here = self._ringing, asyncio.get_running_loop()
        return task is not None and task.get_loop() is here and not task.done()

    async def _ring_soon(self) -> None:
        await asyncio.sleep(self._steps.bell.due_in())
        with suppress(PgqrsError):
            await self._ring()

    async def _ring(self) -> None:
        if self._steps.bell.owes():
            self._steps.bell.paid()
            await self.binding.run(self._steps.ringing())
