"""`poll` and iteration, and `run` under asyncio: waiting that ends when there is something."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from waiting import until

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer, QueueMessage
from pgqrs.aio import AsyncConsumer, AsyncProducer
from pgqrs.bell import INTERVAL, Bell
from pgqrs.patience import Patience, backoff

pytestmark = pytest.mark.matrix


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> pgqrs.QueueInfo:
    return admin.create_queue("q")


@pytest.fixture
def slow(dsn: str) -> Config:
    """A configuration under which only a notification comes in time."""
    return Config.from_dsn(dsn, poll_interval_seconds=60)


@pytest.fixture
def producer(config: Config) -> Iterator[Producer]:
    with Producer(config, "q") as producer:
        yield producer


def is_listening(admin: Admin) -> bool:
    with admin.pool.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        return bool(
            connection.scalar(text(f"{query} AND state = 'idle' AND query LIKE 'WITH me%'"))
        )


def test_poll_gives_what_is_there_or_comes(admin: Admin, slow: Config, producer: Producer) -> None:
    """What is there is given at once, what comes while waiting when it comes."""
    producer.enqueue(1)
    got: list[Any] = []
    with Consumer(slow, "q") as consumer:
        first = consumer.poll(0)
        assert first is not None
        consumer.archive(first)
        assert consumer.poll(0) is None
        thread = threading.Thread(target=lambda: got.append(consumer.poll(30)))
        thread.start()
        until(lambda: is_listening(admin))
        producer.enqueue(2)
        thread.join(20)
        assert got[0].payload == 2
        consumer.archive(got[0].id)


def test_poll_ends_at_its_timeout_and_by_stop(slow: Config) -> None:
    """With nothing to come, poll gives None: after its timeout, or when stopped."""
    with Consumer(slow, "q") as consumer:
        assert consumer.poll(0.2) is None
        threading.Timer(0.2, consumer.stop).start()
        assert consumer.poll() is None
        assert consumer.poll(0) is None


def test_poll_wakes_for_what_comes_due(slow: Config, producer: Producer) -> None:
    """A message that becomes due ends the waiting, long before the next poll."""
    producer.enqueue_delayed(1, 0.5)
    with Consumer(slow, "q") as consumer:
        assert consumer.poll(30) is not None


def test_iteration(slow: Config, producer: Producer) -> None:
    """A consumer can be iterated over, and stopped from within."""
    producer.batch_enqueue(range(3))
    seen = []
    with Consumer(slow, "q") as consumer:
        for message in consumer:
            seen.append(message.payload)
            consumer.archive(message)
            if len(seen) == 3:
                consumer.stop()
    assert seen == [0, 1, 2]


def test_poll_outlives_its_connection(admin: Admin, dsn: str, producer: Producer) -> None:
    """When the backend is killed while it waits, poll connects again and finds what came."""
    config = Config.from_dsn(dsn, poll_interval_seconds=0.2)
    got: list[Any] = []
    with Consumer(config, "q") as consumer:
        thread = threading.Thread(target=lambda: got.append(consumer.poll(30)))
        thread.start()
        until(lambda: is_listening(admin))
        with admin.pool.connect() as connection:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(text(f"{query} WHERE {others}"))
        producer.enqueue(1)
        thread.join(20)
        assert got[0].payload == 1


def test_poll_needs_an_engine(config: Config, admin: Admin) -> None:
    """Within a transaction of the caller's there is nothing to wait on: a TypeError says so."""
    with Consumer(config, "q") as consumer, admin.pool.connect() as connection:
        within = consumer.within(connection)
        with pytest.raises(TypeError, match="engine"):
            within.poll(0)


def test_the_same_under_asyncio(slow: Config, config: Config, admin: Admin) -> None:
    """AsyncConsumer polls, iterates and runs; cancelling a poll loses no message."""

    async def main() -> None:
        async with AsyncProducer(config, "q") as producer, AsyncConsumer(slow, "q") as consumer:
            assert await consumer.poll(0) is None
            waiting = asyncio.create_task(consumer.poll(30))
            await asyncio.sleep(0.2)
            await producer.enqueue(1)
            first = await waiting
            assert first is not None
            await consumer.archive(first)
            cancelled = asyncio.create_task(consumer.poll())
            await asyncio.sleep(0.2)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await producer.enqueue(2)
            async for message in consumer:
                await consumer.archive(message)
                break
            await run_under_asyncio(producer, consumer)

    async def run_under_asyncio(producer: AsyncProducer, consumer: AsyncConsumer) -> None:
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        async def handler(message: QueueMessage) -> None:
            assert asyncio.get_running_loop() is loop
            seen.append(message.payload)
            if len(seen) == 100:
                await consumer.stop()

        working = asyncio.create_task(consumer.run(handler, concurrency=10))
        await producer.batch_enqueue(range(100))
        report = await asyncio.wait_for(working, 30)
        assert sorted(seen) == list(range(100))
        assert report.completed == 100

    asyncio.run(main())
    assert admin.queue_metrics("q").archived == 102


def test_cancelling_a_run_ends_it_in_order(config: Config, admin: Admin) -> None:
    """Cancelling the task of a run lets handlers finish and settles what they did."""

    async def main() -> None:
        started = asyncio.Event()

        async def handler(_message: QueueMessage) -> str:
            started.set()
            await asyncio.sleep(0.3)
            return "done"

        async with AsyncProducer(config, "q") as producer, AsyncConsumer(config, "q") as consumer:
            await producer.enqueue(1)
            working = asyncio.create_task(consumer.run(handler))
            await started.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working

    asyncio.run(main())
    assert [message.output for message in pgqrs.Archive(admin).list()] == ["done"]


def test_the_bell_rings_the_first_and_owes_the_rest() -> None:
    """Of a burst the first insert notifies; the others owe one, until it is paid or time is up."""
    now = [100.0]
    bell = Bell(clock=lambda: now[0])
    assert bell.rings_along()
    assert not bell.owes()
    assert not bell.rings_along()
    assert not bell.rings_along()
    assert bell.owes()
    assert bell.due_in() == pytest.approx(INTERVAL)
    now[0] += INTERVAL
    assert bell.due_in() == 0
    assert bell.rings_along()
    assert not bell.owes()
    bell.rings_along()
    bell.paid()
    assert not bell.owes()


def test_patience() -> None:
    """Full leases look again at once, others after the interval, when due, or when woken."""
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])
    assert patience.remaining() == 0
    patience.found(5, 5, None)
    assert patience.remaining() == 0
    patience.found(4, 5, None)
    assert 9 <= patience.remaining() <= 11
    patience.found(0, 5, pgqrs.types.span(2))
    assert patience.remaining() == 2
    patience.found(0, 5, pgqrs.types.span(0))
    assert 0 < patience.remaining() < 0.1
    patience.found(0, 5, None)
    patience.woken()
    assert patience.remaining() == 0
    patience.found(0, 5, None)
    now[0] += 11
    assert patience.remaining() == 0


def test_backoff_grows_to_its_limit() -> None:
    """Pauses between attempts to connect double, each give or take a half, up to the longest."""
    pauses = backoff(0.1, 5)
    for nominal in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5):
        assert nominal * 0.5 <= next(pauses) <= nominal * 1.5
