"""The functions of `pgqrs.testing` for asyncio: each prepares the same call and awaits it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Unpack, cast

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session

from pgqrs import models
from pgqrs.aio import AsyncConsumer
from pgqrs.aio.binding import AsyncBinding, AsyncConnectionBinding, AsyncSessionBinding, bound
from pgqrs.call import Call, call
from pgqrs.config import Config
from pgqrs.message_info import MessageInfo
from pgqrs.runner import Report
from pgqrs.running import Sessions, handling
from pgqrs.testing.bench import Bench, here, joining
from pgqrs.testing.expectation import ANY, Expectation, Traits
from pgqrs.testing.steps import listing, moving
from pgqrs.types import Duration, QueueInfo

__all__ = [
    "assert_enqueued",
    "assert_not_enqueued",
    "enqueued",
    "move_clock",
    "rolled_back",
    "work",
]


@asynccontextmanager
async def rolled_back(
    engine: AsyncEngine, make_session: Callable[..., AsyncSession] = AsyncSession
) -> AsyncIterator[AsyncSession]:
    """Give an AsyncSession whose commits are savepoints; as `pgqrs.testing.rolled_back`."""
    async with engine.connect() as connection, connection.begin() as everything:
        try:
            async with make_session(**joining(connection)) as session:
                yield session
        finally:
            await everything.rollback()


async def work(
    bind: Any,
    queue: str | QueueInfo,
    handler: Callable[..., Any],
    *,
    session: Sessions | None = None,
    batch_size: int | None = None,
    at_most: int | None = None,
    raises: bool = False,
    config: Config | None = None,
) -> Report:
    """Work at a queue here and now until nothing is due; as `pgqrs.testing.work`.

    Coroutine functions are awaited one after the other; plain ones are called on the event loop.
    """
    async with _InlineConsumer(bind, queue, config=config) as consumer:
        return await consumer.work(handler, session, batch_size, at_most, raises=raises)


async def move_clock(bind: Any, by: Duration, *, config: Config | None = None) -> None:
    """Let time pass; as `pgqrs.testing.move_clock`."""
    async with _bound_to(bind, config) as binding:
        await binding.run(moving(binding.schema, by))


async def enqueued(
    bind: Any,
    queue: str | QueueInfo,
    payload: Any = ANY,
    *,
    config: Config | None = None,
    **traits: Unpack[Traits],
) -> list[MessageInfo]:
    """Give the messages in a queue that are as expected; as `pgqrs.testing.enqueued`."""
    expected = Expectation(payload, traits)
    return list(filter(expected.fits, await _messages(bind, queue, config)))


async def assert_enqueued(
    bind: Any,
    queue: str | QueueInfo,
    payload: Any = ANY,
    *,
    config: Config | None = None,
    **traits: Unpack[Traits],
) -> MessageInfo:
    """Give the oldest message in a queue that is so; as `pgqrs.testing.assert_enqueued`."""
    __tracebackhide__ = True
    expected = Expectation(payload, traits)
    return expected.found_in(queue, await _messages(bind, queue, config))


async def assert_not_enqueued(
    bind: Any,
    queue: str | QueueInfo,
    payload: Any = ANY,
    *,
    config: Config | None = None,
    **traits: Unpack[Traits],
) -> None:
    """Raise AssertionError where a message is so; as `pgqrs.testing.assert_not_enqueued`."""
    __tracebackhide__ = True
    expected = Expectation(payload, traits)
    expected.missing_in(queue, await _messages(bind, queue, config))


async def _messages(bind: Any, queue: str | QueueInfo, config: Config | None) -> list[MessageInfo]:
    async with _bound_to(bind, config) as binding:
        return await binding.run(listing(binding.schema, queue))


class _InlineConsumer(AsyncConsumer):
    """The twin of `pgqrs.testing.inline.InlineConsumer`."""

    async def work(
        self,
        handler: Callable[..., Any],
        session: Sessions | None,
        batch_size: int | None,
        at_most: int | None,
        *,
        raises: bool,
    ) -> Report:
        config, joined = self.binding.config, self.binding.is_joined
        how = handling(handler, config, 1, 0, False, batch_size, None, session)
        if joined and session is not None:
            how = here(how, await _connection_of(self.binding))
        bench = Bench(self._steps, how, at_most, raises=raises)
        if session is not None and not bench.is_async:
            raise TypeError("plain functions with sessions are worked by pgqrs.testing.work")
        while (task := await self._run(Call(bench.next))) is not None:
            await bench.work_later(task)
        if joined:  # its row is in the transaction, and nobody closes it there
            await self._run(call(self._steps.stop))
        return bench.report()


@asynccontextmanager
async def _bound_to(bind: Any, config: Config | None) -> AsyncIterator[AsyncBinding]:
    binding = bound(bind, config)
    try:
        yield binding
    finally:
        await binding.close()


async def _connection_of(binding: AsyncBinding) -> Any:
    if isinstance(binding, AsyncSessionBinding):
        given = binding.session
        session: AsyncSession = given() if isinstance(given, async_scoped_session) else given
        return await session.connection(bind_arguments={"mapper": models.Message})
    return cast("AsyncConnectionBinding", binding).connection
