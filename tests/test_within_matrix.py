"""Every kind of transaction, by every driver, with every operation and every end of it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import pytest
from host import Base, Order, Watch, state_of
from sqlalchemy import Connection, Engine, create_engine, insert
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pgqrs import Admin, Config, Consumer, Producer, aio
from pgqrs.models import Model

pytestmark = pytest.mark.matrix

Act = Callable[[Any, Any, Any], Any]
# (a producer within, a consumer within, a message that is held)
ACTS: Final[dict[str, Act]] = {
    "enqueue": lambda p, _, __: p.enqueue({"a": ["é", None, 1.5]}),
    "enqueue_delayed": lambda p, _, __: p.enqueue_delayed({}, 60),
    "batch_enqueue": lambda p, _, __: p.batch_enqueue([1, "2", None]),
    "batch_enqueue in chunks": lambda p, _, __: p.batch_enqueue(range(7)),
    "postpone": lambda p, _, held: p.extend_visibility(held, 9999),
    "dequeue": lambda _, c, __: c.dequeue(3600),
    "dequeue_batch": lambda _, c, __: c.dequeue_batch(2, 3600),
    "archive": lambda _, c, held: c.archive(held, output={"é": [1]}),
    "archive by id": lambda _, c, held: c.archive(held.id),
    "archive_batch": lambda _, c, held: c.archive_batch([held]),
    "archive_and_dequeue": lambda _, c, held: c.archive_and_dequeue([held], 1, 3600),
    "delete": lambda _, c, held: c.delete(held),
    "delete_batch": lambda _, c, held: c.delete_batch([held]),
    "extend": lambda _, c, held: c.extend_visibility(held, 9999),
    "release": lambda _, c, held: c.release(held),
    "release many": lambda _, c, held: c.release([held], 5),
    "fail": lambda _, c, held: c.fail(held, "no", 60),
}
ENDS: Final = ("commit", "rollback", "savepoint", "savepoint rolled back")

KINDS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "Session": ("psycopg", Session),
    "scoped_session": ("psycopg", lambda host: scoped_session(sessionmaker(host))),
    "Connection": ("psycopg", lambda host: host.connect()),
    "Session with binds": ("psycopg", lambda host: Session(binds={Base: host, Model: host})),
    "Session by psycopg2": ("psycopg2", Session),
    "Connection by psycopg2": ("psycopg2", lambda host: host.connect()),
    "AsyncSession": ("psycopg async", AsyncSession),
    "async_scoped_session": (
        "psycopg async",
        lambda host: async_scoped_session(async_sessionmaker(host), asyncio.current_task),
    ),
    "AsyncConnection": ("psycopg async", lambda host: host.connect()),
    "AsyncSession by asyncpg": ("asyncpg", AsyncSession),
    "AsyncConnection by asyncpg": ("asyncpg", lambda host: host.connect()),
}


def fail(_: Any) -> NoReturn:
    raise AssertionError("the host's JSON hooks are for the host's columns")


async def got(value: Any) -> Any:
    """Give a value, or what is awaited: so that one test serves both worlds."""
    return await value if inspect.isawaitable(value) else value


async def sync_connection_of(joined: Any) -> Connection:
    if isinstance(joined, AsyncConnection):
        assert joined.sync_connection is not None
        return joined.sync_connection
    if isinstance(joined, Connection):
        return joined
    connection = await got(joined.connection(bind_arguments={"mapper": Order}))
    return connection if isinstance(connection, Connection) else connection.sync_connection


def settings_of(connection: Connection) -> Any:
    """All that could be changed of a connection without a statement, and what is checked out."""
    return (
        dict(connection.get_execution_options()),
        dict(connection.engine.get_execution_options()),
        connection.connection.dbapi_connection.autocommit,  # type: ignore[union-attr]
        connection.get_transaction(),
        connection.get_nested_transaction(),
        connection.engine.pool.status(),
    )


@dataclass
class Play:
    """A producer and a consumer on an engine, and what they do within a host's transactions."""

    looking: Engine
    host: Any
    watch: Watch
    producer: Any
    consumer: Any

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, looking: Engine, driver: str, *, own: Config | None) -> AsyncIterator[Play]:
        """On an engine of pgqrs's own, or where there is no configuration on the host's."""
        awaited = driver.endswith(("async", "asyncpg"))
        url = looking.url.set(drivername=f"postgresql+{driver.partition(' ')[0]}")
        create: Any = create_async_engine if awaited else create_engine
        host = create(url, json_serializer=fail, json_deserializer=fail)
        kinds = (aio.AsyncProducer, aio.AsyncConsumer) if awaited else (Producer, Consumer)
        make_producer, make_consumer = kinds
        producer: Any = make_producer(own or host, "q", config=own or SETTINGS)
        consumer: Any = make_consumer(own or host, "q", config=own or SETTINGS)
        watch = Watch(host.sync_engine if isinstance(host, AsyncEngine) else host)
        yield cls(looking, host, watch, producer, consumer)
        await got(consumer.close())
        await got(producer.close())
        await got(host.dispose())

    async def held(self, count: int) -> Any:
        """Give messages that the consumer holds; two more are due."""
        await got(self.producer.batch_enqueue(range(count + 2)))
        return iter(await got(self.consumer.dequeue_batch(count, 3600)))

    async def act(self, act: Act, joined: Any, message: Any) -> None:
        """Do something within, and see that nothing is done to the host's objects."""
        connection = await sync_connection_of(joined)
        before = settings_of(connection)
        self.watch.seen.clear()
        within = self.producer.within(joined), self.consumer.within(joined)
        await got(act(*within, message))
        assert self.watch.seen == []
        assert settings_of(connection) == before

    async def perform(self, name: str, end: str, joined: Any, message: Any) -> None:
        """Act between two of the host's own rows, end it, and compare with what others see."""
        before = state_of(self.looking)
        await got(joined.execute(insert(Order)))
        savepoint = await got(joined.begin_nested()) if end.startswith("savepoint") else None
        await self.act(ACTS[name], joined, message)
        if end == "savepoint rolled back":
            await got(savepoint.rollback())
        elif savepoint is not None:
            await got(savepoint.commit())
        assert state_of(self.looking) == before
        await got(joined.rollback() if end == "rollback" else joined.commit())
        orders, messages = state_of(self.looking)
        assert orders == before[0] + (end != "rollback")
        assert (messages == before[1]) == ("roll" in end)


SETTINGS: Final = Config.from_dsn(
    "postgresql:///unused",
    heartbeat_interval_seconds=3600,  # nobody changes what is compared
    stale_after_seconds=7200,
    enable_listen_notify=False,
    enqueue_chunk_rows=3,
    max_batch_size=100,
)


@pytest.fixture
def looking(engine: Engine, admin: Admin) -> Engine:
    Base.metadata.create_all(engine)
    admin.create_queue("q")
    return engine


@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_in_every_transaction(looking: Engine, dsn: str, kind: str) -> None:
    """Done with the host's own rows or not at all, and nothing is done to the host's objects."""
    driver, join = KINDS[kind]
    given = SETTINGS.model_dump(include=SETTINGS.model_fields_set - {"dsn"})
    own = Config.from_dsn(dsn, **given) if "Connection" in kind else None

    async def main() -> None:
        async with Play.of(looking, driver, own=own) as play:
            for end in ENDS:
                held = await play.held(len(ACTS))
                for name in ACTS:
                    joined = join(play.host)
                    if isinstance(joined, AsyncConnection):
                        await joined.start()
                    if isinstance(joined, Session):
                        play.watch.over(joined)
                    await play.perform(name, end, joined, next(held))
                    await got(joined.remove() if "scoped" in kind else joined.close())

    asyncio.run(main())


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_every_operation_on_an_engine_of_another_driver(looking: Engine, driver: str) -> None:
    """All that producers and consumers do works on engines of psycopg2 and asyncpg too."""

    async def main() -> None:
        async with Play.of(looking, driver, own=None) as play:
            held = await play.held(len(ACTS))
            for name, act in ACTS.items():
                before = state_of(looking)
                await got(act(play.producer, play.consumer, next(held)))
                assert state_of(looking) != before, name
            message = await got(play.producer.enqueue({"é": [None, 1]}, priority=9))
            leased = await got(play.consumer.poll(10))
            assert (leased.id, leased.payload) == (message.id, {"é": [None, 1]})
            assert (await got(play.consumer.archive(leased, output="é"))).output == "é"

    asyncio.run(main())


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_a_consumer_runs_on_an_engine_of_another_driver(looking: Engine, driver: str) -> None:
    """`run` waits on a connection of psycopg, to where the engine's URL leads."""

    async def main() -> None:
        async with Play.of(looking, driver, own=None) as play:
            await got(play.producer.enqueue({"by": driver}))

            def work(message: Any) -> Any:
                play.consumer._lineup.stop()
                return message.payload

            run = play.consumer.run
            report = await (run(work) if driver == "asyncpg" else asyncio.to_thread(run, work))
            assert report.completed == 1

    asyncio.run(main())
