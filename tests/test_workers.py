"""The rows of workers: made when first needed, shared, taken over, stopped and swept."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from waiting import ask, crowd, until

from pgqrs import (
    Admin,
    Config,
    Consumer,
    InvalidStateError,
    Producer,
    QueueInfo,
    WorkerExistsError,
    WorkerRole,
    WorkerStatus,
)

ROWS: Final = "SELECT count(*) FROM pgqrs.pgqrs_workers"
RUNNING: Final = f"{ROWS} WHERE shutdown_at IS NULL"
AGE: Final = (
    "UPDATE pgqrs.pgqrs_workers SET heartbeat_at = heartbeat_at - interval '1 hour',"
    " shutdown_at = shutdown_at - interval '1 hour'"
)


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> QueueInfo:
    return admin.create_queue("q")


def age(engine: Engine) -> None:
    """Move the clock of every worker: all that they did was an hour ago."""
    with engine.begin() as connection:
        connection.execute(text(AGE))


def test_nothing_before_the_first_operation(engine: Engine, config: Config) -> None:
    """Making objects connects to nothing, closing them neither; the first operation registers."""
    nowhere = Config.from_dsn("postgresql://127.0.0.1:1/nowhere")
    with Producer(nowhere, "q") as producer, Consumer(nowhere, "q", "h", 1) as consumer:
        assert (producer.worker_id, consumer.worker_id) == (None, None)
    with Producer(config, "q") as producer:
        assert ask(engine, ROWS) == 0
        message = producer.enqueue({})
        assert message.producer_worker_id == producer.worker_id
        assert ask(engine, ROWS) == 1


def test_what_a_row_says(admin: Admin, queue: QueueInfo) -> None:
    """A row says whose it is: queue, role, host, process, and the port where one was given."""
    with Producer(admin, queue) as producer, Consumer(admin, queue, "far", 7) as consumer:
        producer.enqueue({})
        consumer.dequeue()
        mine, far = sorted(admin.workers(), key=lambda worker: worker.id)
    assert (mine.id, mine.queue_id, mine.role) == (
        producer.worker_id or mine.id,
        queue.id,
        WorkerRole.PRODUCER,
    )
    assert (mine.hostname, mine.port, mine.pid) == (socket.gethostname(), None, os.getpid())
    assert (far.hostname, far.port, far.pid) == ("far", 7, os.getpid())
    assert (far.role, far.status) == (WorkerRole.CONSUMER, WorkerStatus.READY)


def test_order_of_arguments(admin: Admin, queue: QueueInfo, config: Config) -> None:
    """An engine, a queue, a host, a port and a configuration, in this order."""
    with Producer(admin.pool, queue, "localhost", 3000, config) as producer:
        producer.enqueue({"task": "process"})
        [worker] = admin.workers()
        assert (worker.hostname, worker.port, worker.role) == ("localhost", 3000, "producer")
        assert producer.queue == "q"


def test_half_an_address(config: Config) -> None:
    """A host without a port, or the reverse, is no address."""
    for address in (("host", None), (None, 1)):
        with pytest.raises(ValueError, match="a hostname and a port, or neither"):
            Producer(config, "q", *address)


def test_one_row_for_process_queue_and_role(admin: Admin, config: Config, engine: Engine) -> None:
    """Objects of one engine, queue and role share a row, stopped when the last of them closes."""
    admin.create_queue("other")
    producers = [Producer(bind, "q") for bind in (config, config, admin, admin.pool)]
    consumers = [Consumer(producers[0], "q"), Consumer(config, "q")]
    other = Producer(config, "other")
    for producer in [*producers, other]:
        producer.enqueue({})
    for consumer in consumers:
        consumer.dequeue()
    assert len({producer.worker_id for producer in producers}) == 1
    assert consumers[0].worker_id == consumers[1].worker_id
    assert ask(engine, RUNNING) == 3
    for producer in producers[:-1]:
        producer.close()
        producer.close()
    assert ask(engine, RUNNING) == 3
    producers[-1].close()
    assert ask(engine, RUNNING) == 2
    assert consumers[0].dequeue() is not None
    for worker in [*consumers, other]:
        worker.close()
    assert ask(engine, RUNNING) == 0


def test_engines_do_not_share(engine: Engine, config: Config) -> None:
    """Another engine is another worker, though it be the same process."""
    with Producer(engine, "q") as one, Producer(config, "q") as other:
        assert one.enqueue({}).producer_worker_id != other.enqueue({}).producer_worker_id


@pytest.mark.parametrize("bind", ["engine", "config"])
def test_after_the_last_closed(
    request: pytest.FixtureRequest, admin: Admin, engine: Engine, bind: str
) -> None:
    """A worker that comes after the last one closed has a new row, and leases at once."""
    given = request.getfixturevalue(bind)
    ids = set()
    for _ in range(3):
        with Producer(given, "q") as producer, Consumer(given, "q") as consumer:
            producer.enqueue({})
            message = consumer.dequeue()
            assert message is not None
            consumer.archive(message)
            ids |= {producer.worker_id, consumer.worker_id}
    assert len(ids) == 6
    assert ask(engine, RUNNING) == 0
    assert admin.queue_metrics("q").archived == 3


def test_live_address_is_taken(config: Config, admin: Admin, engine: Engine) -> None:
    """A live worker with the same host and port refuses another, which then has done nothing."""
    with Consumer(config, "q", "h", 1) as first, Consumer(engine, "q", "h", 1) as second:
        first.dequeue()
        with pytest.raises(WorkerExistsError, match="h:1 on queue 'q'") as caught:
            second.dequeue()
        assert (caught.value.hostname, caught.value.port, caught.value.queue) == ("h", 1, "q")
        assert second.worker_id is None
        admin.create_queue("other")
        with Producer(engine, "q", "h", 1) as role, Consumer(engine, "other", "h", 1) as queue:
            role.enqueue({})
            queue.dequeue()
        first.close()
        assert second.dequeue() is not None


def test_stale_address_is_taken_over(config: Config, engine: Engine, admin: Admin) -> None:
    """A stale worker's address goes to a new row; the old one is stopped, and told so."""
    with Consumer(config, "q", "h", 1) as old, Consumer(engine, "q", "h", 1) as new:
        old.dequeue()
        age(engine)
        new.dequeue()
        assert new.worker_id != old.worker_id
        by_id = {worker.id: worker for worker in admin.workers()}
        assert by_id[old.worker_id or 0].status == "stopped"
        assert by_id[old.worker_id or 0].shutdown_at is not None
        assert by_id[new.worker_id or 0].status == "ready"
        with Producer(config, "q") as producer:
            producer.enqueue({})
        assert old.dequeue() is None
        assert new.dequeue() is not None


def at_once(count: int, act: Callable[[], Any]) -> list[Any]:
    """Have so many threads do the same at the same time; gives what they gave or raised."""
    barrier = threading.Barrier(count)
    given: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            given.append(act())
        except Exception as error:  # noqa: BLE001 - to be looked at by the test
            given.append(error)

    with crowd() as start:
        start(count, run)
    return given


@pytest.mark.parametrize("address", [(None, None), ("h", 1)])
def test_threads_register_once(
    config: Config, engine: Engine, address: tuple[str | None, int | None]
) -> None:
    """Threads that share an object from the start make one row, and none of them is refused."""
    with Producer(config, "q", *address) as producer:
        messages = at_once(8, lambda: producer.enqueue({}))
        assert {message.producer_worker_id for message in messages} == {producer.worker_id}
        assert ask(engine, ROWS) == 1


def test_threads_with_objects_of_their_own(config: Config, engine: Engine) -> None:
    """Threads that each make an object make one row all the same."""
    with Admin(config):
        producers = [Producer(config, "q") for _ in range(8)]
        waiting = iter(producers)
        assert (
            len({one.producer_worker_id for one in at_once(8, lambda: next(waiting).enqueue(1))})
            == 1
        )
        assert ask(engine, ROWS) == 1
        at_once(8, lambda: producers.pop().close())
        assert ask(engine, RUNNING) == 0


def test_only_one_gets_an_address(config: Config, engine: Engine) -> None:
    """Of several that ask for one address at once exactly one gets it."""
    consumers = [Consumer(config, "q", "h", 1) for _ in range(8)]
    waiting = iter(consumers)
    given = at_once(8, lambda: next(waiting).dequeue())
    assert given.count(None) == 1
    assert sum(type(one) is WorkerExistsError for one in given) == 7
    assert ask(engine, ROWS) == 1
    for consumer in consumers:
        consumer.close()


def test_short_lives_leave_no_trail(config: Config, engine: Engine) -> None:
    """Who registers sweeps what stopped long ago here; others' rows and recent ones stay."""
    with Producer(engine, "q", "here", 5) as fixed, Consumer(engine, "q") as consumer:
        fixed.enqueue(1)
        consumer.dequeue()
        with Producer(engine, "q") as first:
            first.enqueue(1)
        with engine.begin() as connection:
            moved = "UPDATE pgqrs.pgqrs_workers SET hostname = 'elsewhere' WHERE id = :id"
            connection.execute(text(moved), {"id": fixed.enqueue(1).producer_worker_id})
        fixed.close()
        kept = ask(engine, ROWS) - 1
        age(engine)
        for _ in range(3):
            with Producer(config, "q") as short:
                short.enqueue(1)
            assert ask(engine, ROWS) == kept + 1
            age(engine)
        with Producer(config, "q") as last, Producer(engine, "q") as late:
            last.enqueue(1)
            late.enqueue(1)
            assert ask(engine, ROWS) == kept + 2


def test_producer_beats_with_its_operations(dsn: str, engine: Engine) -> None:
    """A producer needs no thread: an operation an interval after the last beat carries one."""
    beaten = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE heartbeat_at > now() - interval '9 s'"
    for interval, beats in ((0.000_001, 1), (3600, 0)):
        config = Config.from_dsn(dsn, heartbeat_interval_seconds=interval)
        with Producer(config, "q") as producer:
            producer.enqueue({})
            age(engine)
            producer.enqueue({})
            assert ask(engine, beaten) == beats
            age(engine)
            producer.heartbeat()
            assert ask(engine, beaten) == 1


def test_leaving_a_block(config: Config, engine: Engine, admin: Admin) -> None:
    """Leaving a `with` block gives back what this object holds, at no attempt's cost, and stops."""
    with Producer(config, "q") as producer, Consumer(config, "q") as other:
        producer.batch_enqueue([1, 2, 3])
        assert other.dequeue() is not None
        with Consumer(config, "q") as consumer:
            consumer.dequeue_batch(2)
            assert admin.queue_metrics("q").locked == 3
        assert admin.queue_metrics("q").locked == 1
        again = other.dequeue_batch(2)
        assert [message.attempts for message in again] == [1, 1]
        assert ask(engine, RUNNING) == 2
    assert ask(engine, RUNNING) == 0
    with pytest.raises(InvalidStateError, match="closed"):
        consumer.dequeue()


def test_leaving_a_block_by_an_error(config: Config, engine: Engine, admin: Admin) -> None:
    """On an exception leases are left to run out, so that they count; the worker is stopped."""
    with Producer(config, "q") as producer:
        producer.enqueue(1)
    with contextlib.suppress(ZeroDivisionError), Consumer(config, "q") as consumer:
        assert consumer.dequeue() is not None
        raise ZeroDivisionError
    assert admin.queue_metrics("q").locked == 1
    assert ask(engine, RUNNING) == 0


def test_objects_that_nobody_closed(url: URL, dsn: str, engine: Engine) -> None:
    """What was never closed is collected, with the host's engine; the next one uses its row."""
    config = Config.from_dsn(dsn, heartbeat_interval_seconds=0.02)
    engines = [create_engine(url)]

    def use() -> int | None:
        producer = Producer(engines[0], "q", config=config)
        consumer = Consumer(engines[0], "q", config=config)
        message = producer.enqueue({})
        assert consumer.dequeue() is not None
        return message.producer_worker_id

    assert use() == use()
    assert ask(engine, RUNNING) == 2
    gone = weakref.ref(engines[0])
    engines.pop().dispose()
    until(lambda: gc.collect() >= 0 and gone() is None)
