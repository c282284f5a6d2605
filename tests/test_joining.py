"""What is looked at before a transaction of the caller's is used: autocommit and isolation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest
from host import Base, is_usable, order, state_of
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from pgqrs import Admin, Config, Consumer, InvalidStateError, Producer, migrations
from pgqrs.aio import AsyncProducer
from pgqrs.models import Model

pytestmark = pytest.mark.matrix

RUNNING: Final = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE shutdown_at IS NULL"


@pytest.fixture
def host(engine: Engine, admin: Admin) -> Engine:
    """The host's engine on a database with its table and a queue."""
    Base.metadata.create_all(engine)
    admin.create_queue("q")
    return engine


def by_option(host: Engine) -> Connection:
    return host.connect().execution_options(isolation_level="AUTOCOMMIT")


def by_the_engine(host: Engine) -> Connection:
    return create_engine(host.url, isolation_level="AUTOCOMMIT").connect()


def by_psycopg2(host: Engine) -> Connection:
    url = host.url.set(drivername="postgresql+psycopg2")
    return create_engine(url, isolation_level="AUTOCOMMIT").connect()


@pytest.mark.parametrize("connect", [by_option, by_the_engine, by_psycopg2])
def test_autocommit_is_warned_of_once(
    host: Engine, config: Config, connect: Callable[[Engine], Connection]
) -> None:
    """What is done within a connection in autocommit is done at once, and its host is told once."""
    with Producer(config, "q") as producer, connect(host) as connection:
        with pytest.warns(RuntimeWarning, match="AUTOCOMMIT has no transaction to join"):
            producer.within(connection).enqueue(1)
        assert len(state_of(host)[1]) == 1
        producer.within(connection).enqueue(2)  # a warning would be an error
        Producer(connection, "q").enqueue(3)
        producer.within(Session(connection)).enqueue(4)
        assert len(state_of(host)[1]) == 4
    connection.engine.dispose()


def test_autocommit_as_bind_is_warned_of(host: Engine) -> None:
    """So is a Connection or AsyncSession in autocommit as bind; an engine in autocommit is fine."""
    engine = create_engine(host.url, isolation_level="AUTOCOMMIT")
    with Producer(engine, "q") as producer:
        producer.enqueue(1)
    with Session(engine) as session, pytest.warns(RuntimeWarning, match="AUTOCOMMIT"):
        Admin(session).create_queue("r")
    engine.dispose()

    async def main() -> None:
        for driver in ("psycopg", "asyncpg"):
            url = host.url.set(drivername=f"postgresql+{driver}")
            engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
            async with AsyncSession(engine) as session:
                with pytest.warns(RuntimeWarning, match="AUTOCOMMIT"):
                    await AsyncProducer(session, "q").enqueue(1)
                await AsyncProducer(session, "q").enqueue(1)
            await engine.dispose()

    asyncio.run(main())


def set_by_sql(host: Engine, level: str) -> Connection:
    connection = host.connect()
    connection.execute(text(f"SET TRANSACTION ISOLATION LEVEL {level}"))
    return connection


def set_by_option(host: Engine, level: str) -> Connection:
    return host.connect().execution_options(isolation_level=level)


def set_by_the_server(host: Engine, level: str) -> Connection:
    with host.begin() as connection:
        database = host.url.database
        connection.execute(
            text(f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'")
        )
    host.dispose()
    return host.connect()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("begin", [set_by_sql, set_by_option, set_by_the_server])
def test_a_consumer_acts_in_read_committed_only(
    host: Engine, config: Config, level: str, begin: Callable[[Engine, str], Connection]
) -> None:
    """In a snapshot leases cannot be trusted, so a consumer refuses and the transaction goes on."""
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue([1, 2])
        message = consumer.dequeue()
        assert message is not None
        with begin(host, level) as connection:
            within = consumer.within(connection)
            for act in (
                within.dequeue,
                lambda: within.archive(message),
                lambda: within.extend_visibility(message, 60),
                lambda: within.release([message]),
                lambda: Consumer(connection, "q").dequeue(),
            ):
                with pytest.raises(InvalidStateError, match=f"{level}.*READ COMMITTED") as caught:
                    act()
                assert (caught.value.current, caught.value.wanted) == (level, "READ COMMITTED")
            producer.within(connection).enqueue({})
            order(connection)
            assert is_usable(connection)
            connection.commit()
        assert state_of(host)[0] == 1
        consumer.archive(message)


def test_isolation_is_asked_for_once_in_a_transaction(host: Engine, config: Config) -> None:
    """However much a consumer does there; and on an engine nobody asks."""
    sent: list[str] = []
    event.listen(host, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue(range(6))
        messages = consumer.dequeue_batch(6)
        with host.connect() as connection:
            for message in messages:
                consumer.within(connection).archive(message)
                if message.payload == 2:
                    connection.commit()
            with connection.begin_nested():
                producer.within(connection).enqueue(1)
            connection.commit()
        assert [line for line in sent if "isolation" in line] == ["SHOW transaction_isolation"] * 2
        assert len(sent) == 6 + 2 + 3  # with the savepoint and its release


def test_what_is_owed_is_not_paid_on_the_callers_session(host: Engine, config: Config) -> None:
    """A producer that owes a notification sends it by itself, never in a transaction it joins."""
    threads: set[int] = set()
    event.listen(host, "before_cursor_execute", lambda *_: threads.add(threading.get_ident()))
    with Producer(config, "q") as producer, Session(host) as session:
        producer.enqueue(1)
        producer._steps.bell._owed = True  # as after a burst
        here = producer.within(session)
        here.enqueue(2)
        assert here._ringer is None
        session.commit()
    assert threads == {threading.get_ident()}


def test_several_schemas_in_one_transaction(host: Engine, dsn: str, config: Config) -> None:
    """Two installations in one database are two: in one process, engine, and transaction."""
    other = Config.from_dsn(dsn, schema="other")
    migrations.install(host, schema="other")
    with Admin(other) as admin, Session(host) as session:
        admin.create_queue("q")
        here = Producer(host, "q", config=config), Consumer(host, "q", config=config)
        there = Producer(host, "q", config=other), Consumer(host, "q", config=other)
        for number, (producer, _) in enumerate((here, there)):
            producer.within(session).enqueue(number)
        session.commit()
        for number, (producer, consumer) in enumerate((here, there)):
            message = consumer.dequeue()
            assert message is not None
            assert message.payload == number
            consumer.within(session).archive(message)
            session.commit()
            assert consumer.dequeue() is None
            consumer.close()
            producer.close()
        assert admin.queue_metrics("q").archived == 1


def test_async_sessionmaker_with_binds(host: Engine) -> None:
    """An async_sessionmaker with a bind for each model gives that of pgqrs's models."""

    async def main() -> None:
        engine = create_async_engine(host.url)
        maker: Any = async_sessionmaker(binds={Model: engine})
        async with AsyncProducer(maker, "q") as producer:
            await producer.enqueue(1)
        await engine.dispose()

    asyncio.run(main())
    assert len(state_of(host)[1]) == 1
