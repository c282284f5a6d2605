"""A message of the caller's transaction wakes when that commits: not before, and not otherwise."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import psycopg
import pytest
from bouncer import PROGRAM, bouncer
from host import Base, joined_of
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from waiting import PATIENCE, ask, until

from pgqrs import Admin, Config, Consumer, Producer
from pgqrs.aio import AsyncProducer
from pgqrs.statements.wake import channel_of

pytestmark = pytest.mark.matrix

CHANNEL: Final = channel_of("pgqrs", "q")


class Listener:
    """Hears what a waiting consumer would hear."""

    def __init__(self, url: URL) -> None:
        dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._other = psycopg.connect(dsn, autocommit=True)
        self._connection.execute(f'LISTEN "{CHANNEL}"')

    def heard(self) -> int:
        """Give how often it rang since the last time: all that was committed before this call."""
        mark = uuid.uuid4().hex
        self._other.execute("SELECT pg_notify(%s, %s)", (CHANNEL, mark))
        for rang, notification in enumerate(self._connection.notifies(timeout=PATIENCE)):
            if notification.payload == mark:
                return rang
        raise AssertionError("the mark did not come")

    def close(self) -> None:
        self._connection.close()
        self._other.close()


@pytest.fixture
def listener(url: URL) -> Iterator[Listener]:
    listener = Listener(url)
    yield listener
    listener.close()


@pytest.fixture(params=["directly", "through PgBouncer"])
def host(request: pytest.FixtureRequest, engine: Engine, admin: Admin) -> Iterator[Engine]:
    """The host's engine on a database with its table and a queue."""
    Base.metadata.create_all(engine)
    admin.create_queue("q")
    with ExitStack() as stack:
        if request.param != "directly":
            if PROGRAM is None:
                pytest.skip("PgBouncer is not installed")
            dsn = stack.enter_context(bouncer(engine.url))
            engine = create_engine(
                Config.from_dsn(dsn).url, connect_args={"prepare_threshold": None}
            )
            stack.callback(engine.dispose)
        yield engine


@pytest.mark.parametrize("kind", ["session", "connection"])
def test_the_commit_wakes(host: Engine, config: Config, listener: Listener, kind: str) -> None:
    """Once for each transaction with a due message, however many there are in it."""
    with Producer(config, "q") as producer:
        joined = joined_of(kind, host)
        here = producer.within(joined)

        def ended(end: Any) -> int:
            assert listener.heard() == 0
            end()
            return listener.heard()

        for _ in range(2):
            here.enqueue(1)
        here.batch_enqueue([1, 2])
        assert ended(joined.commit) == 1
        here.enqueue(1)
        assert ended(joined.rollback) == 0
        here.enqueue_delayed(1, 60)
        assert ended(joined.commit) == 0
        savepoint = joined.begin_nested()
        here.enqueue(1)
        savepoint.rollback()
        assert ended(joined.commit) == 0
        savepoint = joined.begin_nested()
        here.enqueue(1)
        assert ended(savepoint.commit) == 0
        assert ended(joined.commit) == 1
        joined.close()


def test_the_commit_of_an_async_session_wakes(
    url: URL, admin: Admin, config: Config, listener: Listener
) -> None:
    """So under asyncio, by psycopg and by asyncpg."""
    admin.create_queue("q")

    async def main() -> None:
        for driver in ("psycopg", "asyncpg"):
            engine = create_async_engine(url.set(drivername=f"postgresql+{driver}"))
            async with AsyncProducer(config, "q") as producer, AsyncSession(engine) as session:
                for end, rings in ((session.rollback, 0), (session.commit, 1)):
                    await producer.within(session).enqueue(1)
                    assert listener.heard() == 0
                    await end()
                    assert listener.heard() == rings
            await engine.dispose()

    asyncio.run(main())


def test_a_two_phase_commit_wakes_nobody(
    engine: Engine, admin: Admin, config: Config, listener: Listener
) -> None:
    """PostgreSQL prepares no transaction that notifies, so none does, and the poll finds it."""
    admin.create_queue("q")
    if ask(engine, "SHOW max_prepared_transactions") == "0":
        pytest.skip("the server prepares no transactions")
    with Producer(config, "q") as producer, Session(engine, twophase=True) as session:
        producer.within(session).enqueue(1)
        producer.within(session).batch_enqueue([2, 3])
        session.commit()
    assert listener.heard() == 0
    assert admin.queue_metrics("q").pending == 3


@contextmanager
def running(config: Config) -> Iterator[tuple[Consumer, list[int]]]:
    seen: list[int] = []
    with Consumer(config, "q") as consumer:
        thread = threading.Thread(target=consumer.run, args=(lambda m: seen.append(m.payload),))
        thread.start()
        try:
            yield consumer, seen
        finally:
            consumer.stop()
            thread.join(PATIENCE)


def is_waiting(consumer: Consumer) -> bool:
    """Say whether it found nothing, and will not look again by itself for long."""
    loop = consumer._lineup._loop
    return loop is not None and loop.lanes[0].patience.remaining() > PATIENCE


def test_a_run_is_woken_by_the_commit(host: Engine, dsn: str) -> None:
    """A run that would look again in a minute begins as soon as the host has committed."""
    config = Config.from_dsn(dsn, poll_interval_seconds=60)
    with running(config) as (consumer, seen), Producer(config, "q") as producer:
        until(lambda: is_waiting(consumer))
        for number, kind in enumerate(("session", "connection")):
            joined = joined_of(kind, host)
            producer.within(joined).enqueue(number)
            joined.commit()
            until(lambda want=number + 1: len(seen) == want)
            joined.close()


def test_without_notifications_the_poll_finds_it(host: Engine, dsn: str) -> None:
    """Nothing depends on being woken."""
    config = Config.from_dsn(dsn, enable_listen_notify=False, poll_interval_seconds=0.05)
    with running(config) as (_, seen), Producer(config, "q") as producer:
        joined = joined_of("session", host)
        producer.within(joined).enqueue(1)
        joined.commit()
        until(lambda: seen == [1])
        joined.close()
