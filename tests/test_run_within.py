"""`run(session=...)`: a handler's writes and the end of its message are one transaction."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from host import Base, Order
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool
from waiting import ask, until, wait_for
from within_client import POINTS

import pgqrs
from pgqrs import Admin, Config, Consumer, Dead, Done, Producer, QueueMessage, Retry, Runner
from pgqrs.aio import AsyncConsumer, AsyncRunner
from pgqrs.models import Archive
from pgqrs.runner import Report

pytestmark = pytest.mark.matrix

AGREE = (
    "SELECT (SELECT coalesce(array_agg(id::bigint ORDER BY id), '{}') FROM orders)"
    " = (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM pgqrs.pgqrs_archive"
    " WHERE status = 'completed')"
)
"""Whether there is an order for each message that is completed, and for no other."""
COMPLETED = "SELECT count(*) FROM pgqrs.pgqrs_archive WHERE status = 'completed'"


@pytest.fixture
def host(engine: Engine, admin: Admin) -> Engine:
    Base.metadata.create_all(engine)
    admin.create_queue("q")
    return engine


@pytest.fixture
def brisk(dsn: str) -> Config:
    return Config.from_dsn(dsn, retry_delay_seconds=0.01, poll_interval_seconds=0.05)


@pytest.fixture
def producer(host: Engine, brisk: Config) -> Iterator[Producer]:
    assert host is not None
    with Producer(brisk, "q") as producer:
        yield producer


@contextmanager
def working(
    config: Config, handler: Callable[..., Any], **options: Any
) -> Iterator[tuple[Consumer, list[Report]]]:
    """Run a handler in a thread; stopped at the end, when there is a report."""
    reports: list[Report] = []
    with Consumer(config, "q") as consumer:
        thread = threading.Thread(target=lambda: reports.append(consumer.run(handler, **options)))
        thread.start()
        try:
            yield consumer, reports
        finally:
            consumer.stop()
            thread.join(20)
            assert not thread.is_alive()


def write(message: QueueMessage, session: Any) -> Any:
    """Write what a handler writes, and say what the payload tells."""
    session.add(Order(id=message.id))
    if message.payload == "raises":
        raise LookupError("no such thing")
    if message.payload == "twice":
        return Retry(delay=0) if message.attempts == 1 else "second"
    return {"dead": Dead("never"), "done": Done([1]), "unstorable": "\0"}.get(message.payload)


async def write_later(message: QueueMessage, session: AsyncSession) -> Any:
    await session.execute(select(1))
    return write(message, session)


PAYLOADS = ("raises", "twice", "dead", "done", "unstorable", "plain")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg, awaited", "asyncpg"])
def test_written_with_the_end_of_the_message(
    host: Engine, brisk: Config, producer: Producer, driver: str
) -> None:
    """What completes is written, with its output; whatever else comes of it is rolled back."""
    url = host.url.set(drivername=f"postgresql+{driver.partition(',')[0]}")
    producer.batch_enqueue(map(pgqrs.Json, PAYLOADS), max_attempts=2)
    handler: Callable[..., Any]
    engine: Any
    if driver in ("psycopg", "psycopg2"):
        handler, engine = write, create_engine(url)
        maker = sessionmaker(engine)
    else:  # on an event loop that ends with the run, and connections with it
        handler, engine = write_later, create_async_engine(url, poolclass=NullPool)
        maker = async_sessionmaker(engine)
    with working(brisk, handler, session=maker, concurrency=2) as (_, reports):
        wait_for(host, "SELECT count(*) FROM pgqrs.pgqrs_archive", len(PAYLOADS))
    assert ask(host, AGREE)
    with Session(host) as session:
        kept = {row.payload: row for row in session.scalars(select(Archive))}
        assert {name: row.status for name, row in kept.items()} == {
            name: "completed" if name in ("twice", "done", "plain") else "dead" for name in PAYLOADS
        }
        assert (kept["done"].output, kept["twice"].output) == ([1], "second")
        assert kept["raises"].error["type"] == "LookupError"
        assert kept["raises"].read_ct == 2
        assert session.scalar(select(func.count()).select_from(Order)) == 3
    assert (reports[0].completed, reports[0].dead, reports[0].lost) == (3, 3, 0)
    if isinstance(engine, Engine):
        engine.dispose()


def test_a_lost_lease_takes_the_writes_back(
    host: Engine, brisk: Config, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that lost its lease while it worked writes nothing, and the report says so."""
    message = producer.enqueue(1)
    with Consumer(brisk, "q", "elsewhere", 1) as thief:

        def robbed(message: QueueMessage, session: Session) -> None:
            session.add(Order(id=message.id))
            session.flush()
            ask(host, "UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s' RETURNING 1")
            assert thief.dequeue(60) is not None

        with working(brisk, robbed, session=sessionmaker(host), prefetch=0) as (consumer, reports):
            until(lambda: consumer._lineup.report.lost)
        assert reports == [Report(lost=1)]
        assert "1 leases on queue q were lost" in caplog.text
        assert ask(host, "SELECT count(*) FROM orders") == 0
        thief.archive(message.id)


def test_a_worker_that_is_killed_leaves_no_half(
    host: Engine, dsn: str, brisk: Config, producer: Producer
) -> None:
    """Killed in the handler, or on either side of the commit: rows and archive never disagree."""
    program = str(Path(__file__).with_name("within_client.py"))
    with ExitStack() as stack:
        clients = []
        for point in POINTS:
            command = [sys.executable, program, dsn, point]
            client = subprocess.Popen(command, stdout=subprocess.PIPE)
            clients.append(stack.enter_context(client))
            stack.callback(client.kill)
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == b"ready\n"
        while any(client.poll() is None for client in clients):
            producer.batch_enqueue(range(5))
            assert ask(host, AGREE)
            time.sleep(0.01)  # so that there is no flood of them
        assert [client.returncode for client in clients] == [-9] * len(POINTS)
    assert ask(host, AGREE)
    ask(host, "UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s' RETURNING 1")
    with working(brisk, write, session=sessionmaker(host), concurrency=4):
        wait_for(host, "SELECT count(*) FROM pgqrs.pgqrs_messages", 0)
    assert ask(host, AGREE)
    assert ask(host, "SELECT count(*) FROM orders") == ask(host, COMPLETED) > len(POINTS)
    assert ask(host, "SELECT max(read_ct) FROM pgqrs.pgqrs_archive") > 1


def test_a_commit_without_a_reply_is_looked_for(
    host: Engine, brisk: Config, producer: Producer
) -> None:
    """Where the commit ends with an error, the archive says whether it was made."""
    maker = sessionmaker(host)
    seen: list[str] = []

    @event.listens_for(maker, "after_commit")
    def lose_the_reply(_: Session) -> None:
        if not seen:
            seen.append("made")
            raise OperationalError("COMMIT", None, Exception("the reply is lost"))

    @event.listens_for(maker, "before_commit")
    def lose_the_commit(session: Session) -> None:
        if seen == ["made"]:
            seen.append("not made")
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            ask(host, "SELECT pg_terminate_backend(:pid, 5000)", pid=pid)

    producer.batch_enqueue([1, 2])
    with working(brisk, write, session=maker) as (_, reports):
        wait_for(host, COMPLETED, 2)
    assert ask(host, AGREE)
    assert seen == ["made", "not made"]
    assert (reports[0].completed, reports[0].failed, reports[0].lost) == (2, 1, 0)


def test_a_long_commit_needs_no_extension(
    host: Engine, brisk: Config, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    """Leases are extended while a handler runs; while it commits, the row itself is kept."""
    maker = sessionmaker(host)
    expired = "SELECT vt < clock_timestamp() FROM pgqrs.pgqrs_messages"

    def last_long(message: QueueMessage, session: Session) -> None:
        until(lambda: ask(host, "SELECT vt > :vt FROM pgqrs.pgqrs_messages", vt=message.vt))
        session.add(Order(id=message.id))

    producer.enqueue(1)
    short = brisk.model_copy(update={"default_lock_time_seconds": 0.4})
    with Consumer(brisk, "q", "elsewhere", 1) as other:

        @event.listens_for(maker, "before_commit")
        def commit_slowly(_: Session) -> None:
            wait_for(host, expired, wanted=True)
            assert other.dequeue() is None

        with working(short, last_long, session=maker) as (_, reports):
            wait_for(host, COMPLETED)
    assert reports == [Report(completed=1)]
    assert ask(host, AGREE)
    assert "ran out" not in caplog.text
    assert "lost" not in caplog.text


def test_what_is_no_transaction_is_refused(host: Engine, brisk: Config, producer: Producer) -> None:
    """AUTOCOMMIT and snapshots fail the attempt before the handler; so does a handler's commit."""

    def commit(message: QueueMessage, session: Session) -> None:
        session.add(Order(id=message.id))
        session.commit()

    cases: list[tuple[str, Callable[..., Any], str]] = [
        ("AUTOCOMMIT", write, "in AUTOCOMMIT"),
        ("SERIALIZABLE", write, "only in READ COMMITTED"),
        ("READ COMMITTED", commit, "ended by the handler"),
    ]
    for level, handler, sentence in cases:
        message = producer.enqueue(1, max_attempts=1)
        engine = create_engine(host.url, isolation_level=level)
        with working(brisk, handler, session=sessionmaker(engine)) as (_, reports):
            wait_for(host, "SELECT count(*) FROM pgqrs.pgqrs_messages", 0)
        engine.dispose()
        assert (reports[0].completed, reports[0].dead) == (0, 1)
        error = "SELECT error->>'message' FROM pgqrs.pgqrs_archive WHERE id = :id"
        assert sentence in ask(host, error, id=message.id)
    assert ask(host, "SELECT count(*) FROM orders") == 1  # of the handler that committed


def test_options_that_do_not_fit(host: Engine, brisk: Config) -> None:
    """A session is for single messages, and of the handler's own kind."""
    sync, later = sessionmaker(host), async_sessionmaker(create_async_engine(host.url))
    with Consumer(brisk, "q") as consumer, Runner(brisk) as runner:
        with pytest.raises(ValueError, match="one message at a time"):
            consumer.run(write, session=sync, batch=True)
        with pytest.raises(TypeError, match="plain functions work with a sessionmaker"):
            runner.add("q", write, session=later)
        with pytest.raises(TypeError, match="coroutine functions work with a async_sessionmaker"):
            runner.add("q", write_later, session=sync)
        with pytest.raises(TypeError, match="session is a sessionmaker"):
            runner.add("q", write, session=host)  # type: ignore[arg-type]


class Bought(pgqrs.Message, message_type="bought"):
    name: str


def test_several_queues_and_typed_messages(host: Engine, brisk: Config, producer: Producer) -> None:
    """A Runner and an AsyncRunner take a session for each queue, and typed handlers get it."""
    handlers, handlers_later = pgqrs.Handlers(), pgqrs.Handlers()

    @handlers.on(Bought)
    def keep(message: QueueMessage[Bought], session: Session) -> None:
        session.add(Order(id=message.id, name=message.payload.name))

    @handlers_later.on(Bought)
    async def keep_later(message: QueueMessage[Bought], session: AsyncSession) -> None:
        session.add(Order(id=message.id, name=message.payload.name))

    producer.enqueue(Bought(name="book"))
    with Runner(brisk) as runner:
        runner.add("q", handlers, session=sessionmaker(host))
        thread = threading.Thread(target=runner.run)
        thread.start()
        wait_for(host, COMPLETED, 1)
        runner.stop()
        thread.join(20)

    async def main() -> None:
        engine = create_async_engine(host.url)
        maker = async_sessionmaker(engine)
        for number in (2, 3):
            producer.enqueue(Bought(name="pen"))
            async with AsyncRunner(brisk) as runner, AsyncConsumer(brisk, "q") as consumer:
                runner.add("q", handlers_later, session=maker)
                one: Any = runner if number == 2 else consumer
                run = one.run() if number == 2 else one.run(handlers_later, session=maker)
                running = asyncio.create_task(run)
                await asyncio.to_thread(wait_for, host, COMPLETED, number)
                await one.stop()
                await running
        await engine.dispose()

    asyncio.run(main())
    assert ask(host, AGREE)
    assert ask(host, "SELECT count(*) FROM orders WHERE name <> 'thing'") == 3
