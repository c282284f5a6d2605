"""The life of workers, and how an admin looks after them."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import text

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer, WorkerHandle, WorkerRole, WorkerStatus
from pgqrs.aio import AsyncAdmin, AsyncConsumer, AsyncWorkerHandle

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
    with Consumer(config, "q", "host", 1) as consumer:
        yield consumer


def make_stale(admin: Admin, worker_id: int | None) -> None:
    """Move a worker's clock: its last heartbeat was an hour ago."""
    with admin.pool.connect() as connection:
        statement = "UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '1 hour'"
        connection.execute(text(f"{statement} WHERE id = :id"), {"id": worker_id})


def make_older(admin: Admin, worker_id: int | None) -> None:
    """Move a worker's clock: it was stopped two hours ago."""
    with admin.pool.connect() as connection:
        statement = "UPDATE pgqrs.pgqrs_workers SET shutdown_at = now() - interval '2 hours'"
        connection.execute(text(f"{statement} WHERE id = :id"), {"id": worker_id})


def test_ready_suspended_stopped(consumer: Consumer) -> None:
    """A worker goes from ready to suspended and back, and from suspended to stopped for good."""
    assert consumer.worker_id is None
    assert consumer.status() is WorkerStatus.READY
    consumer.suspend()
    consumer.suspend()
    assert consumer.status() is WorkerStatus.SUSPENDED
    consumer.resume()
    assert consumer.status() is WorkerStatus.READY
    with pytest.raises(pgqrs.InvalidStateError) as caught:
        consumer.shutdown()
    assert caught.value.current == "ready"
    consumer.suspend()
    consumer.shutdown()
    consumer.shutdown()
    assert consumer.status() is WorkerStatus.STOPPED
    for step in (consumer.suspend, consumer.resume):
        with pytest.raises(pgqrs.InvalidStateError):
            step()


def test_a_suspended_consumer_leases_nothing(consumer: Consumer, producer: Producer) -> None:
    """Suspension acts on the very next dequeue, and resuming too; what is held may be finished."""
    producer.batch_enqueue([1, 2])
    held = consumer.dequeue()
    assert held is not None
    consumer.suspend()
    assert consumer.dequeue() is None
    consumer.archive(held)
    consumer.resume()
    assert consumer.dequeue() is not None


def test_shutdown_is_refused_while_messages_are_held(
    admin: Admin, consumer: Consumer, producer: Producer
) -> None:
    """The error has their count; `release` gives them back, at no attempt's cost."""
    producer.batch_enqueue([1, 2, 3])
    consumer.dequeue_batch(2)
    consumer.suspend()
    with pytest.raises(pgqrs.WorkerHasPendingMessagesError) as caught:
        consumer.shutdown()
    assert caught.value.count == 2
    assert consumer.status() is WorkerStatus.SUSPENDED
    consumer.shutdown(release=True)
    assert consumer.status() is WorkerStatus.STOPPED
    messages = pgqrs.Messages(admin).list()
    assert [(m.read_ct, m.attempts) for m in messages] == [(1, 0), (1, 0), (0, 0)]
    assert admin.queue_metrics("q").pending == 3


def test_a_handle_is_any_worker(admin: Admin, consumer: Consumer, producer: Producer) -> None:
    """From elsewhere a worker is looked at, suspended, resumed and stopped by its id."""
    producer.enqueue(1)
    consumer.heartbeat()
    assert consumer.worker_id is not None
    with WorkerHandle(admin, consumer.worker_id) as handle:
        assert handle.worker_id == consumer.worker_id
        handle.suspend()
        assert consumer.dequeue() is None
        handle.resume()
        assert consumer.dequeue() is not None
        assert handle.is_healthy(60)
        make_stale(admin, consumer.worker_id)
        assert not handle.is_healthy(60)
        assert handle.is_healthy(dt.timedelta(hours=2))
        handle.heartbeat()
        assert handle.is_healthy(60)
        with pytest.raises(pgqrs.InvalidStateError):
            handle.shutdown(release=True)
        assert handle.status() is WorkerStatus.READY


def test_a_worker_that_is_not_there(admin: Admin) -> None:
    """Whatever is asked of an unknown id is WorkerNotFoundError, but for a heartbeat."""
    handle = WorkerHandle(admin, 404)
    for ask in (handle.status, handle.suspend, handle.resume, handle.shutdown):
        with pytest.raises(pgqrs.WorkerNotFoundError):
            ask()
    with pytest.raises(pgqrs.WorkerNotFoundError):
        handle.is_healthy(1)
    with pytest.raises(pgqrs.WorkerNotFoundError):
        admin.release_worker_messages(404)
    with pytest.raises(pgqrs.WorkerNotFoundError):
        admin.delete_worker(404)


def test_an_admin_is_a_worker_too(config: Config, admin: Admin) -> None:
    """It registers for calls of its own life only, and is stopped when closed."""
    with Admin(config) as other:
        other.list_queues()
        assert (other.worker_id, admin.workers()) == (None, [])
        assert other.status() is WorkerStatus.READY
        assert [worker.role for worker in admin.workers()] == [WorkerRole.ADMIN]
        assert other.is_healthy(60)
    assert [worker.status for worker in admin.workers()] == [WorkerStatus.STOPPED]


def test_workers_are_listed_and_counted(
    admin: Admin, consumer: Consumer, producer: Producer
) -> None:
    """workers, worker_stats, worker_management and worker_health agree with what was done."""
    admin.create_queue("other")
    producer.batch_enqueue([1, 2, 3])
    consumer.dequeue_batch(2)
    roles = [worker.role for worker in admin.workers("q")]
    assert roles == [WorkerRole.PRODUCER, WorkerRole.CONSUMER]
    assert admin.workers("other") == []
    make_stale(admin, producer.worker_id)
    consumer.suspend()
    stats = admin.worker_stats("q")
    assert (stats.total_workers, stats.ready_workers, stats.suspended_workers) == (2, 1, 1)
    assert (stats.stopped_workers, stats.stale_workers, stats.held_messages) == (0, 1, 2)
    assert [each.queue_name for each in admin.worker_management()] == ["other", "q"]
    assert admin.worker_management()[1].total_workers == 2
    sick, well = admin.worker_health()
    assert (sick.worker.id, sick.healthy, sick.held_messages) == (producer.worker_id, False, 0)
    assert (well.worker.id, well.healthy, well.held_messages) == (consumer.worker_id, True, 2)
    assert sick.heartbeat_age > dt.timedelta(minutes=59)
    assert all(each.healthy for each in admin.worker_health(timeout=7200, queue="q"))
    with pytest.raises(pgqrs.QueueNotFoundError):
        admin.worker_stats("nix")


def test_reclaim_takes_from_the_stale_only(
    config: Config, admin: Admin, consumer: Consumer, producer: Producer
) -> None:
    """A stale worker is stopped and its leases are due at once, as attempts that count."""
    producer.batch_enqueue(["1", "2"])
    lost = consumer.dequeue()
    with Consumer(config, "q", "host", 2) as alive:
        kept = alive.dequeue()
        assert lost is not None
        assert kept is not None
        assert admin.reclaim_messages() == []
        make_stale(admin, consumer.worker_id)
        assert admin.reclaim_messages(queue="q") == [lost.id]
        assert consumer.status() is WorkerStatus.STOPPED
        again = alive.dequeue()
        assert again is not None
        assert (again.id, again.attempts) == (lost.id, 2)
        with pytest.raises(pgqrs.LeaseLostError):
            consumer.archive(lost)
        alive.archive_batch([kept, again])


def test_release_takes_from_whoever_it_is(
    config: Config, admin: Admin, consumer: Consumer, producer: Producer
) -> None:
    """What a living worker holds is due at once; the holder may finish it until it is leased."""
    first, second = producer.batch_enqueue(["1", "2"])
    consumer.dequeue_batch(2)
    assert consumer.worker_id is not None
    assert admin.release_worker_messages(consumer.worker_id) == [first.id, second.id]
    with Consumer(config, "q", "host", 2) as other:
        taken = other.dequeue()
        assert taken is not None
        assert consumer.archive_batch([first.id, second.id]) == [False, True]
        other.archive(taken)


def test_reclaimed_and_exhausted_is_dead(
    config: Config, admin: Admin, consumer: Consumer, producer: Producer
) -> None:
    """A message whose last attempt is reclaimed is buried by the next lease, not leased again."""
    sent = producer.enqueue("1", max_attempts=1)
    consumer.dequeue()
    make_stale(admin, consumer.worker_id)
    assert admin.reclaim_messages() == [sent.id]
    with Consumer(config, "q", "host", 2) as other:
        assert other.dequeue() is None
    assert pgqrs.Archive(admin).get(sent.id).status == "dead"


def test_workers_are_deleted_only_when_they_are_done(
    admin: Admin, consumer: Consumer, producer: Producer
) -> None:
    """delete_worker and purge_workers spare whoever is alive or holds something."""
    producer.enqueue(1)
    consumer.dequeue()
    worker_id = consumer.worker_id
    assert worker_id is not None
    with pytest.raises(pgqrs.InvalidStateError):
        admin.delete_worker(worker_id)
    assert admin.purge_workers(older_than=60) == 0
    with admin.pool.connect() as connection:
        stop = "UPDATE pgqrs.pgqrs_workers SET status = 'stopped', shutdown_at = now()"
        connection.execute(text(f"{stop} WHERE id = :id"), {"id": worker_id})
    with pytest.raises(pgqrs.WorkerHasPendingMessagesError) as caught:
        admin.delete_worker(worker_id)
    assert caught.value.count == 1
    make_older(admin, worker_id)
    assert admin.purge_workers(older_than=60) == 0
    admin.release_worker_messages(worker_id)
    admin.purge_queue("q")
    assert admin.purge_workers(older_than=60) == 1
    assert [worker.id for worker in admin.workers()] == [producer.worker_id]


def test_the_same_under_asyncio(config: Config, admin: Admin) -> None:
    """The asyncio classes live the same life."""

    async def main() -> None:
        async with AsyncConsumer(config, "q") as consumer, AsyncAdmin(config) as boss:
            assert await consumer.status() is WorkerStatus.READY
            assert consumer.worker_id is not None
            async with AsyncWorkerHandle(config, consumer.worker_id) as handle:
                await handle.suspend()
                assert await consumer.status() is WorkerStatus.SUSPENDED
                await handle.shutdown()
                assert not await handle.is_healthy(60)
            assert await boss.status() is WorkerStatus.READY
            assert [stats.stopped_workers for stats in await boss.worker_management()] == [1]
            assert len(await boss.worker_health()) == 1
            assert await boss.reclaim_messages() == []
            await boss.delete_worker(consumer.worker_id)

    asyncio.run(main())
    assert [worker.role for worker in admin.workers()] == [WorkerRole.ADMIN]
