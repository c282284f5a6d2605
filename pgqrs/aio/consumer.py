"""Lease messages and acknowledge them under asyncio: the twin of `pgqrs.consumer`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from functools import cached_property, partial
from types import TracebackType
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from pgqrs.aio.binding import AsyncEngineBinding
from pgqrs.aio.running import in_a_thread, run_loop
from pgqrs.aio.worker import AsyncBoundWorker
from pgqrs.consumer_steps import ConsumerSteps, Held, as_typed
from pgqrs.errors import PgqrsError
from pgqrs.heartbeat import Heartbeat, heartbeat_for
from pgqrs.polling import Poller
from pgqrs.runner import Report
from pgqrs.running import Lineup, Sessions, handling
from pgqrs.types import ArchivedMessage, Duration, QueueMessage, span
from pgqrs.worker import signing_off

__all__ = ["AsyncConsumer"]

B = TypeVar("B", bound=BaseModel)


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
    _poller: Poller | None = None
    _heart: Heartbeat | None = None

    @overload
    async def dequeue(self, vt: Duration | None = None) -> QueueMessage | None: ...
    @overload
    async def dequeue(
        self, vt: Duration | None = None, *, type: type[B]
    ) -> QueueMessage[B] | None: ...
    async def dequeue(
        self, vt: Duration | None = None, *, type: type[BaseModel] | None = None
    ) -> QueueMessage[Any] | None:
        """Lease the next due message for `vt` (the queue's visibility timeout), or give None.

        Contract and errors are those of `pgqrs.Consumer.dequeue`.
        """
        messages = await self._run(self._steps.leasing(1, vt))
        self._keep_alive(messages)
        return as_typed(messages, type)[0] if messages else None

    @overload
    async def dequeue_batch(self, size: int, vt: Duration | None = None) -> list[QueueMessage]: ...
    @overload
    async def dequeue_batch(
        self, size: int, vt: Duration | None = None, *, type: type[B]
    ) -> list[QueueMessage[B]]: ...
    async def dequeue_batch(
        self, size: int, vt: Duration | None = None, *, type: type[BaseModel] | None = None
    ) -> list[QueueMessage[Any]]:
        """Lease up to `size` due messages, `max_batch_size` at most; otherwise as `dequeue`."""
        messages = await self._run(self._steps.leasing(size, vt))
        self._keep_alive(messages)
        return as_typed(messages, type)

    async def poll(
        self,
        timeout: Duration | None = None,
        vt: Duration | None = None,
    ) -> QueueMessage | None:
        """Lease the next message, waiting for one up to `timeout` (None: until `stop`).

        Contract and errors are those of `pgqrs.Consumer.poll`.
        """
        seconds = None if timeout is None else span(timeout).total_seconds()
        poller, lease = self._waiting(), self._steps.waiting(vt)
        waiting = in_a_thread(partial(poller.poll, lease, seconds))
        try:
            messages = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            poller.stop()
            with suppress(PgqrsError):
                found = await waiting
                poller.resume()
                await self._run(self._steps.releasing_many(found, 0))
            raise
        self._keep_alive(messages)
        return messages[0] if messages else None

    async def __aiter__(self) -> AsyncIterator[QueueMessage]:
        """Give messages as they come, until `stop`; each is to be acknowledged by the caller."""
        while (message := await self.poll()) is not None:
            yield message

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

    async def archive_and_dequeue(
        self, messages: Iterable[Held], size: int = 1, vt: Duration | None = None
    ) -> tuple[list[bool], list[QueueMessage]]:
        """Finish many as completed and lease up to `size` due messages, in one statement.

        Contract and errors are those of `pgqrs.Consumer.archive_and_dequeue`.
        """
        archived, leased = await self._run(self._steps.exchanging(messages, size, vt))
        self._keep_alive(leased)
        return archived, leased

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

    async def run(
        self,
        handler: Callable[..., Any],
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        batch: bool = False,
        batch_size: int | None = None,
        timeout: Duration | None = None,
        session: Sessions | None = None,
    ) -> Report:
        """Work the queue until told to stop: lease, call `handler`, settle, over and over.

        Coroutine functions run on this event loop, plain ones in threads; the server is talked to
        from a thread, so a blocked loop loses no lease. With an async_sessionmaker as `session`
        they get an AsyncSession. Cancelling stops it in good order.
        Contract and errors are otherwise those of `pgqrs.Consumer.run`.
        """
        own = self._engine_of_mine()
        how = (concurrency, prefetch, batch, batch_size, timeout, session)
        work = handling(handler, own.config, *how)
        here = asyncio.get_running_loop()
        self._lineup.add(self._steps, work)
        with self._lineup.starting(own.apart, own.config, here) as loop:
            return await run_loop(loop)

    async def stop(self) -> None:
        """End a `run`, `poll` or iteration from elsewhere; called again, end a run at once.

        Where nothing is under way, the next ends as it begins.
        """
        if self._poller is None or self._lineup.is_running:
            self._lineup.stop()
        if self._poller is not None:
            self._poller.stop()

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

    async def close(self, *, release: bool = True) -> None:
        """Give back what is still held, then stop the worker if nobody else shares it.

        Contract and errors are those of `pgqrs.Consumer.close`.
        """
        try:
            if (
                release
                and not self._closed
                and self._own is self.binding
                and self._steps.ledger.fences()
            ):
                with signing_off():
                    await self.binding.run(self._steps.releasing_all())
        finally:
            await self._let_go()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(release=error is None)

    def _waiting(self) -> Poller:
        self._check_open()
        if self._poller is None:
            own = self._engine_of_mine()
            self._poller = Poller(self.queue, own.apart, own.config)
        return self._poller

    @cached_property
    def _lineup(self) -> Lineup:
        return Lineup(f"this {type(self).__name__}")

    def _engine_of_mine(self) -> AsyncEngineBinding:
        if not isinstance(self.binding, AsyncEngineBinding):
            raise TypeError("this needs a consumer that is bound to an engine or configuration")
        return self.binding

    def _keep_alive(self, messages: list[QueueMessage]) -> None:
        ledger = self._steps.ledger
        if not messages or (self._heart is not None and self._heart.keeps(ledger)):
            return
        if isinstance(self._own, AsyncEngineBinding):
            self._heart = self._heartbeat(self._own)
            self._heart.keep(ledger, self._steps.registration)

    def _heartbeat(self, own: AsyncEngineBinding) -> Heartbeat:
        return heartbeat_for(own.place, own.apart, own.config.heartbeat_interval_seconds)

    async def _let_go(self) -> None:
        if isinstance(self._own, AsyncEngineBinding) and self._own is self.binding:
            self._heartbeat(self._own).drop(self._steps.ledger)
        if self._poller is not None:
            await asyncio.to_thread(self._poller.close)
        await super().close()
