"""Behind PgBouncer in transaction mode, with fewer server connections than clients."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bouncer import PROGRAM, bouncer
from host import Base, Order
from settings import shows
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker
from waiting import BLOCKED, ask, crowd, locked, until, wait_for

import pgqrs
from pgqrs import (
    Admin,
    Config,
    Consumer,
    DatabaseError,
    Producer,
    QueryTimeoutError,
    QueueMessage,
)
from pgqrs.aio import AsyncProducer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


@pytest.fixture
def pooled(url: URL) -> Iterator[Config]:
    """A configuration that goes through PgBouncer to the fresh database."""
    with bouncer(url) as dsn:
        yield Config.from_dsn(dsn, pooler=True, poll_interval_seconds=0.1)


def test_a_message_lives_its_life(pooled: Config) -> None:
    """Everything a producer, a consumer and an admin do works through the pooler, many times."""
    with Admin(pooled) as admin, Producer(pooled, "q") as p, Consumer(pooled, "q") as c:
        admin.create_queue("q")
        assert admin.verify() == []
        for number in range(20):  # past the count from which a driver would prepare statements
            p.enqueue(number)
            message = c.dequeue()
            assert message is not None
            assert c.extend_visibility(message, 60).vt > message.vt
            c.archive(message, output=number)
        p.batch_enqueue(range(2500))
        leased = c.dequeue_batch(10)
        assert c.archive_batch(leased[:4]) == [True] * 4
        assert c.delete_batch(leased[4:6]) == [True] * 2
        assert c.release(leased[6:]) == [True] * 4
        assert admin.queue_metrics("q", exact=True).pending == 2494
        admin.delete_queue("q", force=True)


@shows("query_timeout_seconds")
def test_query_timeout(pooled: Config, engine: Engine) -> None:
    """A statement that takes longer is cancelled through the pooler, and the next one works."""
    config = pooled.model_copy(update={"query_timeout_seconds": 0.2})
    with Admin(config) as admin, Producer(config, "q") as producer:
        admin.create_queue("q")
        producer.enqueue(0)
        with locked(engine), pytest.raises(QueryTimeoutError, match="user request") as caught:
            producer.enqueue(1)
        assert caught.value.sqlstate == "57014"
        producer.enqueue(2)
        assert admin.queue_metrics("q").pending == 2

    async def enqueue() -> None:
        async with AsyncProducer(config, "q") as twin:
            await twin.enqueue(3)
            with locked(engine), pytest.raises(QueryTimeoutError):
                await twin.enqueue(4)
            await twin.enqueue(5)

    asyncio.run(enqueue())
    assert ask(engine, "SELECT count(*) FROM pgqrs.pgqrs_messages") == 4


def test_query_timeout_holds_where_no_server_is_free(pooled: Config, engine: Engine) -> None:
    """Who waits in the pooler cannot be cancelled there: the connection is cut, and made again."""
    config = pooled.model_copy(update={"query_timeout_seconds": 0.2})
    patient = pooled.model_copy(update={"query_timeout_seconds": 30})
    with Admin(patient) as admin, Producer(patient, "q") as slow, Producer(config, "q") as hasty:
        admin.create_queue("q")
        slow.enqueue(0)
        hasty.enqueue(0)
        with crowd() as start, locked(engine):
            start(2, lambda: slow.enqueue(1))
            wait_for(engine, BLOCKED, 2)  # and both connections of the pooler with them
            begun = time.monotonic()
            with pytest.raises(DatabaseError):
                hasty.enqueue(2)
            assert 2 < time.monotonic() - begun < 10
        hasty.enqueue(3)
        assert admin.queue_metrics("q").pending == 5


def test_more_clients_than_connections(pooled: Config) -> None:
    """Eight consumers on two server connections finish a backlog, each message once."""
    with Admin(pooled) as admin, Producer(pooled, "q") as producer:
        admin.create_queue("q")
        producer.batch_enqueue(range(400))
        done: list[int] = []

        def drain() -> None:
            with Consumer(pooled, "q") as consumer:
                while messages := consumer.dequeue_batch(5):
                    assert all(consumer.archive_batch(messages))
                    done.extend(message.payload for message in messages)

        threads = [threading.Thread(target=drain) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(done) == list(range(400))


def test_run_polls_where_listening_is_of_no_use(pooled: Config) -> None:
    """A run behind the pooler finds messages by polling; the session keeps nothing."""
    with Admin(pooled) as admin, Producer(pooled, "q") as p, Consumer(pooled, "q") as consumer:
        admin.create_queue("q")
        reports: list[pgqrs.Report] = []
        work = threading.Thread(target=lambda: reports.append(consumer.run(lambda m: m.payload)))
        work.start()
        try:
            for number in range(3):
                p.enqueue(number)
                until(lambda want=number + 1: admin.queue_metrics("q").archived == want)
        finally:
            consumer.stop()
            work.join(20)
        assert reports == [pgqrs.Report(completed=3)]


def test_work_that_is_seldom_done(pooled: Config) -> None:
    """Retries, dead letters, workers, maintenance and the end of a queue pass the pooler too."""
    with Admin(pooled) as admin, Producer(pooled, "q") as p, Consumer(pooled, "q") as c:
        admin.create_queue("dead")
        admin.create_queue("q", max_attempts=1, dead_letter="dead")
        p.enqueue_delayed(0, 60)
        p.enqueue(1)
        message = c.dequeue()
        assert message is not None
        assert c.fail(message, "no")
        assert [each.id for each in admin.dead_letters("q")] == [message.id]
        assert admin.replay_dead_letters("dead") == 1
        messages, finished = c.archive_and_dequeue([], 1)
        assert (messages, len(finished)) == ([], 1)
        c.heartbeat()
        c.suspend()
        assert c.dequeue() is None
        c.resume()
        assert admin.worker_stats("q").total_workers == 2
        admin.reclaim_messages("q")
        admin.maintain()
        assert admin.verify() == []


class Work:
    """Workers whose handlers write through the pooler, in the transaction of their message."""

    def __init__(self, config: Config, host: Engine) -> None:
        self.config = config
        self.maker = sessionmaker(host)
        self.consumers = [Consumer(config, "q", "here", number) for number in range(6)]
        self.reports: list[pgqrs.Report] = []
        self.sent = 0

    def handle(self, message: QueueMessage, session: Session) -> None:
        session.add(Order(id=message.id))  # once, or it is an error

    def work(self, consumer: Consumer) -> None:
        self.reports.append(consumer.run(self.handle, session=self.maker, concurrency=2))

    def send(self, seconds: float) -> None:
        """Add messages, alone, in batches and within transactions, some of them rolled back."""
        with Producer(self.config, "q") as producer:
            until_then = time.monotonic() + seconds
            while time.monotonic() < until_then:
                producer.enqueue(1)
                producer.batch_enqueue(range(9))
                with self.maker() as session:
                    producer.within(session).enqueue(2)
                    session.commit()
                    producer.within(session).enqueue(3)
                    session.rollback()
                self.sent += 11


def soak(url: URL, admin: Admin, seconds: float, **settings: Any) -> None:
    """Six workers and two producers on two server connections: nothing is lost or done twice."""
    admin.create_queue("q")
    with bouncer(url, size=2) as dsn, crowd() as start:
        config = Config.from_dsn(
            dsn,
            pooler=True,
            poll_interval_seconds=0.2,
            heartbeat_interval_seconds=1,
            stale_after_seconds=30,
            **settings,
        )
        host = create_engine(config.url, connect_args={"prepare_threshold": None})
        Base.metadata.create_all(host)
        work = Work(config, host)
        waiting = iter(work.consumers)
        start(6, lambda: work.work(next(waiting)))
        for thread in start(2, lambda: work.send(seconds)):
            thread.join()
        try:
            until(lambda: admin.queue_metrics("q").total_messages == 0, seconds + 60)
        finally:
            for consumer in work.consumers:
                consumer.stop()
        host.dispose()
    assert ask(admin.pool, "SELECT count(*) FROM orders") == work.sent
    assert sum(report.completed for report in work.reports) == work.sent
    assert sum(report.failed + report.lost for report in work.reports) == 0


@pytest.mark.parametrize("listens", [True, False])
def test_more_workers_than_connections(
    url: URL, dsn: str, admin: Admin, caplog: pytest.LogCaptureFixture, *, listens: bool
) -> None:
    """Whether or not there is a direct way for notifications: some seconds of what `soak` says."""
    caplog.set_level(logging.INFO, "pgqrs.run")
    soak(url, admin, 1.5, listen_dsn=dsn if listens else None)
    how = "listening on the connection of listen_dsn" if listens else "polling every 0.2 s only"
    assert caplog.text.count(how) == 6


@pytest.mark.soak
@pytest.mark.parametrize("listens", [True, False])
def test_more_workers_than_connections_for_long(
    url: URL, dsn: str, admin: Admin, *, listens: bool
) -> None:
    """The same for two minutes."""
    soak(url, admin, 120, listen_dsn=dsn if listens else None)
