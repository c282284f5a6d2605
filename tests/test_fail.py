"""Failed attempts: given back with a delay, the error kept, dead after the last."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer
from pgqrs.aio import AsyncConsumer
from pgqrs.operations.settle import error_text
from pgqrs.payload import decode

pytestmark = pytest.mark.matrix


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> pgqrs.QueueInfo:
    return admin.create_queue("q")


@pytest.fixture
def producer(config: Config) -> Iterator[Producer]:
    with Producer(config, "q") as producer:
        yield producer


@pytest.fixture
def consumer(config: Config) -> Iterator[Consumer]:
    with Consumer(config, "q") as consumer:
        yield consumer


def due_now(admin: Admin) -> None:
    """Move the clock: whatever waits is due."""
    with admin.pool.connect() as connection:
        connection.execute(text("UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s'"))


def leased(consumer: Consumer) -> pgqrs.QueueMessage:
    message = consumer.dequeue()
    assert message is not None
    return message


def wait_of(admin: Admin) -> float:
    """Give for how many seconds the only message is delayed from its failure on."""
    with admin.pool.connect() as connection:
        query = text("SELECT extract(epoch FROM vt - now())::float FROM pgqrs.pgqrs_messages")
        return float(connection.scalar(query))


def test_exactly_max_attempts_then_dead(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """A message that always fails is tried max_attempts times, and then kept as dead."""
    sent = producer.enqueue({"a": 1}, max_attempts=3)
    outcomes = []
    for _ in range(3):
        due_now(admin)
        message = leased(consumer)
        assert message.id == sent.id
        outcomes.append(consumer.fail(message, ValueError("no")))
    assert outcomes == [False, False, True]
    due_now(admin)
    assert consumer.dequeue() is None
    dead = pgqrs.Archive(admin).get(sent.id)
    assert (dead.status, dead.read_ct, dead.payload) == ("dead", 3, {"a": 1})
    assert (dead.error["type"], dead.error["message"]) == ("ValueError", "no")


def test_the_delay_doubles_up_to_its_limit(admin: Admin, dsn: str, producer: Producer) -> None:
    """The n-th failure waits delay times 2 to the n-1, give or take a fifth, up to the limit."""
    config = Config.from_dsn(
        dsn, retry_delay_seconds=10, retry_delay_max_seconds=50, max_attempts=9
    )
    with Consumer(config, "q") as consumer:
        producer.enqueue(1)
        for nominal in (10, 20, 40, 50, 50):
            due_now(admin)
            assert not consumer.fail(leased(consumer), "no")
            assert nominal * 0.8 - 2 <= wait_of(admin) <= nominal * 1.2


def test_a_fixed_delay_does_not_vary(admin: Admin, dsn: str, producer: Producer) -> None:
    """Without backoff each failure waits the same, and a delay of 0 is due at once."""
    fixed = Config.from_dsn(dsn, retry_delay_seconds=100, retry_backoff=False)
    with Consumer(fixed, "q") as consumer:
        producer.enqueue(1)
        for _ in range(3):
            due_now(admin)
            consumer.fail(leased(consumer), "no")
            assert 98 <= wait_of(admin) <= 100
        due_now(admin)
        consumer.fail(leased(consumer), "no", delay=0)
        assert consumer.dequeue() is not None


def test_the_queue_has_its_own_delays(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """What the queue says of retries goes before the configuration."""
    admin.update_queue("q", retry_delay=300, retry_backoff=False, max_attempts=2)
    producer.enqueue(1)
    consumer.fail(leased(consumer), "no")
    assert 298 <= wait_of(admin) <= 300
    due_now(admin)
    assert consumer.fail(leased(consumer), "no")


def test_the_caller_can_say_how_long(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """An explicit delay is taken as it is; a bad one is refused before anything is sent."""
    producer.enqueue(1)
    message = leased(consumer)
    with pytest.raises(ValueError, match="duration"):
        consumer.fail(message, "no", delay=-1)
    consumer.fail(message, "no", delay=dt.timedelta(hours=1))
    assert 3598 <= wait_of(admin) <= 3600


def test_releases_lose_no_attempt(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """Twenty leases given back and one failure of two allowed leave one attempt."""
    producer.enqueue(1, max_attempts=2)
    for _ in range(20):
        consumer.release(leased(consumer))
    assert not consumer.fail(leased(consumer), "no")
    due_now(admin)
    message = leased(consumer)
    assert (message.attempts, message.read_ct) == (2, 22)
    assert consumer.fail(message, "no")


def test_a_lost_lease_cannot_fail(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """Failing what another lease took over changes nothing and is LeaseLostError."""
    producer.enqueue(1)
    stale = leased(consumer)
    due_now(admin)
    again = leased(consumer)
    with pytest.raises(pgqrs.LeaseLostError):
        consumer.fail(stale, "no")
    consumer.archive(again)
    with pytest.raises(pgqrs.LeaseLostError):
        consumer.fail(again, "no")


def test_the_same_under_asyncio(config: Config, admin: Admin, producer: Producer) -> None:
    """The asyncio consumer fails messages alike."""
    sent = producer.enqueue(1, max_attempts=1)

    async def main() -> None:
        async with AsyncConsumer(config, "q") as consumer:
            message = await consumer.dequeue()
            assert message is not None
            assert await consumer.fail(message, {"code": 5})

    asyncio.run(main())
    assert pgqrs.Archive(admin).get(sent.id).error == {"code": 5}


@given(st.text())
def test_any_text_can_be_kept_of_an_error(message: str) -> None:
    """Whatever an exception says can be stored: NUL and half surrogates are replaced."""
    kept = error_text(ValueError(message))
    assert "\\u0000" not in kept
    kept.encode()
    assert decode(kept)["type"] == "ValueError"
