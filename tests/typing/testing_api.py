"""What type checkers must see of `pgqrs.testing`; never run, only checked by mypy and pyright."""

import datetime as dt
from typing import assert_type

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

import pgqrs
from pgqrs import testing
from pgqrs.testing import aio


def handler(message: pgqrs.QueueMessage) -> None: ...


async def later(message: pgqrs.QueueMessage, session: AsyncSession) -> None: ...


def sync(engine: Engine, connection: Connection, queue: pgqrs.QueueInfo) -> None:
    with testing.rolled_back(engine, sessionmaker(engine)) as session:
        assert_type(session, Session)
    report = testing.work(session, queue, handler, session=sessionmaker(), at_most=1, raises=True)
    assert_type(report, pgqrs.Report)
    testing.move_clock(connection, dt.timedelta(hours=1))
    found = testing.assert_enqueued(session, "q", {"a": 1}, delay=60, message_type="m")
    assert_type(found, pgqrs.MessageInfo)
    assert_type(testing.enqueued(engine, queue, containing={"a": 1}), list[pgqrs.MessageInfo])
    testing.assert_not_enqueued(engine, queue, priority="high")  # type: ignore[arg-type]


async def asyncio(engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]) -> None:
    async with aio.rolled_back(engine) as session:
        assert_type(session, AsyncSession)
    assert_type(await aio.work(session, "q", later, session=sessions), pgqrs.Report)
    await aio.move_clock(session, 60)
    assert_type(await aio.assert_enqueued(session, "q"), pgqrs.MessageInfo)
    assert_type(await aio.enqueued(session, "q", priority=5), list[pgqrs.MessageInfo])
    await aio.assert_not_enqueued(session, "q", headers={"a": 1})
