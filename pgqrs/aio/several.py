"""Work several queues in one process under asyncio: the twin of `pgqrs.several`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from pgqrs.aio.binding import AsyncEngineBinding, bound
from pgqrs.aio.consumer import AsyncConsumer
from pgqrs.aio.running import run_loop
from pgqrs.closing import AsyncClosing
from pgqrs.config import Config
from pgqrs.runner import Report
from pgqrs.running import AnyRunner, Lineup, Sessions
from pgqrs.types import Duration, QueueInfo

__all__ = ["AsyncRunner"]


class AsyncRunner(AnyRunner, AsyncClosing):
    """Works several queues in one process, under asyncio: one thread and one connection for all.

    `bind` is a Config, DSN, URL, AsyncEngine, async_sessionmaker or another object of this package
    that is bound to one. Coroutine functions of all queues run on the event loop of `run`.
    Contract and errors are otherwise those of `pgqrs.Runner`.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        binding = bound(bind, config)
        if not isinstance(binding, AsyncEngineBinding):
            raise TypeError("an AsyncRunner needs an engine or configuration, not a transaction")
        self.binding = binding
        self._lineup = Lineup(f"this {type(self).__name__}")
        self._consumers = AsyncExitStack()

    def add(
        self,
        queue: str | QueueInfo,
        handler: Callable[..., Any],
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        batch: bool = False,
        batch_size: int | None = None,
        timeout: Duration | None = None,
        session: Sessions | None = None,
    ) -> None:
        """Add a queue and its handler; nothing is awaited, as nothing is sent.

        Contract and errors are those of `pgqrs.Runner.add`.
        """
        how = (concurrency, prefetch, batch, batch_size, timeout, session)
        work = self._checked(queue, handler, *how)
        consumer = AsyncConsumer(self, queue)
        self._consumers.push_async_callback(consumer.close)
        self._lineup.add(consumer._steps, work)  # noqa: SLF001 - we run it

    async def run(self) -> Report:
        """Work all queues until told to stop, as `AsyncConsumer.run` does with one.

        Cancelling stops it in good order. Contract and errors are those of `pgqrs.Runner.run`.
        """
        self._check_open()
        here = asyncio.get_running_loop()
        with self._lineup.starting(self.binding.apart, self.binding.config, here) as loop:
            return await run_loop(loop)

    async def stop(self) -> None:
        """End a `run` from elsewhere, or the next as it begins; called again, end it at once."""
        self._lineup.stop()

    async def close(self) -> None:
        """Stop the workers that nobody else shares, and free what this object owns. Idempotent."""
        if not self._closed:
            self._closed = True
            async with AsyncExitStack() as all_of_it:
                all_of_it.push_async_callback(self.binding.close)
                await self._consumers.aclose()
