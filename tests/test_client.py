"""One object for all queues: what the project's first sketch shows, and what it promises."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import URL

import pgqrs
from pgqrs import Admin, Config, CreateQueueOptions, PgqrsClient, ReadOptions
from pgqrs.aio import AsyncPgqrsClient


class EmailMessage(pgqrs.Message, message_type="email"):
    to: str
    subject: str
    body: str


EMAIL = EmailMessage(to="user@example.com", subject="Welcome!", body="Welcome to our service!")


@pytest.fixture
def empty(empty_url: URL) -> Config:
    return Config.from_dsn(empty_url.render_as_string(hide_password=False))


def test_first_sketch_runs(empty: Config) -> None:
    """Install, create, send, read as a type and archive by id, each with the queue's name."""
    client = PgqrsClient(empty)
    client.admin().install(dry_run=False)
    queue_opts = CreateQueueOptions("email_queue")
    assert client.admin().create_queue(queue_opts).queue_name == "email_queue"
    message_id = client.producer().enqueue("email_queue", EMAIL)
    messages = client.consumer().read_batch("email_queue", ReadOptions(), EmailMessage)
    assert [(m.id, m.payload, m.message_type) for m in messages] == [(message_id, EMAIL, "email")]
    for msg in messages:
        assert msg.payload.subject == "Welcome!"
        client.consumer().archive("email_queue", msg.id)
    assert client.admin().queue_metrics("email_queue").archived == 1
    client.close()


def test_every_call_of_the_sketch(config: Config) -> None:
    """Ids come back in order; reading takes its options; each end of a message is by id."""
    with PgqrsClient(config) as client:
        admin, producer, consumer = client.admin(), client.producer(), client.consumer()
        assert (client.admin(), client.producer(), client.consumer()) == (admin, producer, consumer)
        admin.create_queue(CreateQueueOptions("my_queue", max_attempts=7, exist_ok=True))
        assert [queue.max_attempts for queue in admin.list_queues()] == [7]
        first = producer.enqueue("my_queue", {"n": 1}, priority=9)
        ids = producer.batch_enqueue("my_queue", [{"n": n} for n in range(2, 7)])
        producer.enqueue_delayed("my_queue", {"later": True}, 60)
        assert ids == sorted(ids)
        one = consumer.read("my_queue", ReadOptions(lock_time=5))
        assert one is not None
        assert one.id == first
        assert round((one.vt - (one.dequeued_at or one.vt)).total_seconds(), 1) == 5
        longer = consumer.extend_lock("my_queue", first, 30)
        assert longer.vt > one.vt
        assert [m.id for m in consumer.read_batch("my_queue", ReadOptions(count=2))] == ids[:2]
        assert [m.id for m in consumer.read_batch("my_queue")] == ids[2:]
        assert consumer.read("my_queue") is None
        consumer.dequeue("my_queue", first)
        assert consumer.dequeue_batch("my_queue", [first, ids[0]]) == [False, True]
        assert consumer.archive_batch("my_queue", ids) == [False, True, True, True, True]
        metrics = admin.all_queues_metrics()
        assert [(m.delayed, m.locked, m.archived) for m in metrics] == [(1, 0, 4)]
        assert admin.purge_queue("my_queue") == 1
        admin.delete_queue("my_queue", force=True)


def test_fence_goes_with_the_client(config: Config, admin: Admin) -> None:
    """An id is acknowledged by the client that read it, in its queue, and by no other."""
    admin.create_queue("a")
    admin.create_queue("b")
    with PgqrsClient(config) as mine, PgqrsClient(config) as other:
        key = mine.producer().enqueue("a", 1)
        assert mine.consumer().read("a") is not None
        for consumer, queue in ((other.consumer(), "a"), (mine.consumer(), "b")):
            with pytest.raises(pgqrs.LeaseLostError):
                consumer.archive(queue, key)
        mine.consumer().archive("a", key)


def test_leaving_closes_all_of_it(config: Config, admin: Admin) -> None:
    """What was read is given back, on an exception left to run out; workers are stopped."""
    admin.create_queue("q")
    with PgqrsClient(config) as client:
        client.producer().batch_enqueue("q", [1, 2])
        client.consumer().read("q")
    assert admin.queue_metrics("q").pending == 2
    assert {str(worker.status) for worker in admin.workers()} == {"stopped"}
    with suppress(ZeroDivisionError), PgqrsClient(config) as failing:
        failing.consumer().read("q")
        _ = 1 / 0
    assert admin.queue_metrics("q").locked == 1
    client.close()
    for use in (lambda: client.producer().enqueue("q", 1), lambda: client.consumer().read("q")):
        with pytest.raises(pgqrs.InvalidStateError, match="closed"):
            use()


def test_what_cannot_be_meant_is_refused(config: Config, admin: Admin) -> None:
    """Options in two places, a batch without ids, a queue that is not there."""
    admin.create_queue("q")
    with PgqrsClient(config) as client:
        with pytest.raises(TypeError, match="or all beside a name"):
            client.admin().create_queue(CreateQueueOptions("x"), exist_ok=True)
        with pytest.raises(TypeError, match=r"atomic= is not for a client.*use a Producer"):
            client.producer().batch_enqueue("q", [1], atomic=False)
        with pytest.raises(TypeError, match="on_conflict= is not for a client"):
            client.producer().enqueue("q", 1, on_conflict="skip")
        with pytest.raises(pgqrs.QueueNotFound):
            client.producer().enqueue("nope", 1)
    assert "max_attempts" in repr(CreateQueueOptions("q", max_attempts=1))
    assert admin.queue_metrics("q").total_messages == 0


def test_twin_does_the_same(config: Config) -> None:
    """The sketch under asyncio: each call awaited."""

    async def main() -> Any:
        async with AsyncPgqrsClient(config) as client:
            await client.admin().create_queue(CreateQueueOptions("q", views=True))
            producer, consumer = client.producer(), client.consumer()
            ids = [await producer.enqueue("q", EMAIL), *await producer.batch_enqueue("q", [1, 2])]
            ids.append(await producer.enqueue_delayed("q", 3, 0))
            typed = await consumer.read("q", ReadOptions(), EmailMessage)
            assert typed is not None
            assert typed.payload == EMAIL
            await consumer.extend_lock("q", ids[0], 60)
            await consumer.archive("q", ids[0])
            assert [m.id for m in await consumer.read_batch("q")] == ids[1:]
            await consumer.dequeue("q", ids[1])
            done = await consumer.archive_batch("q", ids[1:3])
            done += await consumer.dequeue_batch("q", ids[2:])
            metrics = await client.admin().queue_metrics("q")
            await client.admin().delete_queue("q", force=True)
            return done, metrics.archived

    assert asyncio.run(main()) == ([False, True, False, True], 2)


def test_other_names_are_the_same_things() -> None:
    """What earlier documents call otherwise is the very same object."""
    same = {
        "Error": "PgqrsError",
        "InvalidState": "InvalidStateError",
        "QueueNotFound": "QueueNotFoundError",
        "WorkerNotFound": "WorkerNotFoundError",
        "PgqrsAdmin": "Admin",
        "PgqrsQueues": "Queues",
        "PgqrsWorkers": "Workers",
        "PgqrsMessages": "Messages",
        "PgqrsArchiveTable": "Archive",
    }
    for other, name in same.items():
        assert getattr(pgqrs, other) is getattr(pgqrs, name)
