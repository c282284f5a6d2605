"""Batches that stream: each chunk a transaction, memory bounded, and what is in when they break."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from waiting import ask

import pgqrs
from pgqrs import Admin, Config, PartlyEnqueuedError, PayloadError, Producer
from pgqrs.aio import AsyncProducer

COUNT = "SELECT count(*) FROM pgqrs.pgqrs_messages"
IN_ORDER = "SELECT array_agg((payload->>'n')::int ORDER BY id) FROM pgqrs.pgqrs_messages"
COMMITS = "SELECT count(DISTINCT xmin::text) FROM pgqrs.pgqrs_messages"


@pytest.fixture
def producer(admin: Admin, dsn: str) -> Iterator[Producer]:
    admin.create_queue("q")
    with Producer(Config.from_dsn(dsn, enqueue_chunk_rows=100), "q") as producer:
        yield producer


def numbers(count: int) -> Iterator[dict[str, int]]:
    return ({"n": n} for n in range(count))


def test_each_chunk_is_a_transaction_of_its_own(producer: Producer, engine: Engine) -> None:
    """In order, all of it, and the number is given."""
    assert producer.batch_enqueue(numbers(1050), atomic=False, priority=3) == 1050
    assert ask(engine, IN_ORDER) == list(range(1050))
    assert ask(engine, COMMITS) == 11
    assert producer.batch_enqueue([], atomic=False) == 0


def test_an_atomic_batch_is_one_transaction(producer: Producer, engine: Engine) -> None:
    """Also from an iterator."""
    assert len(producer.batch_enqueue(numbers(1050))) == 1050
    assert ask(engine, COMMITS) == 1


def test_it_is_read_no_further_than_needed(producer: Producer, engine: Engine) -> None:
    """What was read before is in when the next is asked for."""
    seen = []

    def reading() -> Iterator[dict[str, int]]:
        for n in range(300):
            if n % 100 == 50:
                seen.append(ask(engine, COUNT))
            yield {"n": n}

    producer.batch_enqueue(reading(), atomic=False)
    assert seen == [0, 100, 200]


def test_the_error_says_how_many_are_in(producer: Producer, engine: Engine) -> None:
    """The chunks before the bad payload are; its own and what follows are not."""

    def broken() -> Iterator[Any]:
        yield from numbers(250)
        yield {"bad": {1, 2}}
        yield from numbers(50)

    with pytest.raises(PartlyEnqueuedError, match=r"200 messages .* item 250 of the") as caught:
        producer.batch_enqueue(broken(), atomic=False)
    assert caught.value.enqueued == ask(engine, COUNT) == 200
    assert isinstance(caught.value.__cause__, PayloadError)
    assert not caught.value.retryable
    for payloads in (broken(), list(broken())):
        with pytest.raises(PayloadError, match="item 250 of the batch"):
            producer.batch_enqueue(payloads)
    with pytest.raises(PartlyEnqueuedError, match="item 250 of the batch") as again:
        producer.batch_enqueue(list(broken()), atomic=False)
    assert again.value.enqueued == 200
    assert ask(engine, COUNT) == 400
    with pytest.raises(ValueError, match="priority"):
        producer.batch_enqueue(numbers(1), atomic=False, priority=99_999)


def test_a_lost_server_is_worth_another_try(admin: Admin, config: Config) -> None:
    """The error is retryable where its cause is."""
    cause = pgqrs.UnavailableError("away")
    assert PartlyEnqueuedError(7, cause).retryable
    with Producer(config, "nowhere") as producer:
        with pytest.raises(PartlyEnqueuedError) as caught:
            producer.batch_enqueue(numbers(1), atomic=False)
        assert caught.value.enqueued == 0
        assert isinstance(caught.value.__cause__, pgqrs.QueueNotFoundError)
    assert admin.list_queues() == []


def test_within_a_transaction_it_is_still_the_callers(producer: Producer, engine: Engine) -> None:
    """A rollback takes all chunks back."""
    with Session(engine) as session:
        assert producer.within(session).batch_enqueue(numbers(250), atomic=False) == 250
        session.rollback()
    assert ask(engine, COUNT) == 0


def test_under_asyncio(producer: Producer, engine: Engine) -> None:
    """The twin streams too."""

    async def act() -> int:
        async with AsyncProducer(producer.binding.config, "q") as twin:
            return await twin.batch_enqueue(numbers(250), atomic=False)

    assert asyncio.run(act()) == 250
    assert ask(engine, COUNT) == 250


def test_memory_does_not_grow_with_the_length(producer: Producer) -> None:
    """Ten times the messages need no more memory."""
    body = "x" * 1000

    def peak(count: int) -> int:
        tracemalloc.start()
        producer.batch_enqueue(({"n": n, "body": body} for n in range(count)), atomic=False)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1000)
    assert peak(10_000) < 1.5 * peak(1000)
