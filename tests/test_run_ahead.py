"""Messages that are handed over before a handler is free: who has them, and for how long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from line import Line
from test_run_mishaps import running
from waiting import until

from pgqrs import Admin, Config, Consumer, Json, Producer, QueueMessage
from pgqrs.aio import AsyncConsumer
from pgqrs.runner.slots import ThreadSlots
from pgqrs.runner.task import Task, context


@pytest.fixture
def producer(admin: Admin, config: Config) -> Iterator[Producer]:
    admin.create_queue("q")
    with Producer(config, "q") as producer:
        yield producer


def task() -> Task:
    message: Any = type("Message", (), {"id": 1, "attempts": 1})()
    return Task([message], "q", batch=False, time_limit=None, until=float("inf"))


def test_as_many_threads_as_tasks() -> None:
    """Whatever came and went before, a task does not wait while places are free."""
    go, began = threading.Event(), threading.Semaphore(0)

    def handler(_: Any) -> None:
        began.release()
        go.wait(20)

    ended: list[Task] = []
    slots = ThreadSlots(handler, 3, lambda done, _result, _idle: ended.append(done))
    go.set()
    for count in range(1, 20):
        slots.start(task())
        until(lambda count=count: len(ended) == count)
    go.clear()
    while began.acquire(blocking=False):
        pass
    for _ in range(5):
        slots.start(task())
    for _ in range(3):
        assert began.acquire(timeout=20)
    assert slots.waiting() == 2
    assert len(slots.withdraw()) == 2
    go.set()
    until(lambda: len(ended) == 22)
    slots.close()


def test_a_handler_that_turns_slow_keeps_few(
    admin: Admin, config: Config, producer: Producer
) -> None:
    """What was leased ahead of quick handlers goes to others, and costs no attempt."""
    producer.batch_enqueue(range(600))
    go, slow = threading.Event(), threading.Event()

    def handler(message: QueueMessage) -> None:
        if message.payload >= 500:
            slow.set()
            go.wait(30)

    with running(config, handler) as (consumer, _):
        assert slow.wait(20)
        until(lambda: admin.queue_metrics("q").locked <= 11)
        with Consumer(config, "q", "elsewhere", 1) as other:
            theirs = [other.dequeue_batch(100), other.dequeue_batch(100)]
            assert sum(map(len, theirs)) >= 80
            assert {message.attempts for batch in theirs for message in batch} == {1}
        go.set()
        consumer.stop()


def test_what_was_asked_for_is_kept(admin: Admin, config: Config, producer: Producer) -> None:
    """Where the caller says how many are leased ahead, slow handlers have them too."""
    producer.batch_enqueue(range(100))
    go = threading.Event()
    with running(config, lambda _: go.wait(30), prefetch=40) as (consumer, _):
        until(lambda: admin.queue_metrics("q").locked == 41)
        time.sleep(0.5)
        assert admin.queue_metrics("q").locked == 41
        go.set()
        consumer.stop()


@pytest.mark.parametrize("settings", [{}, {"prefetch_count": 10}, {"prefetch_count": 120}])
def test_batches_are_whole(config: Config, producer: Producer, settings: dict[str, int]) -> None:
    """While there is enough, whatever is leased ahead."""
    producer.batch_enqueue(range(800))
    sizes: list[int] = []

    def handler(messages: list[QueueMessage]) -> None:
        sizes.append(len(messages))

    with running(config.model_copy(update=settings), handler, batch_size=50):
        until(lambda: sum(sizes) == 800)
    assert set(sizes) == {50}


def test_a_time_limit_counts_from_the_beginning(config: Config, producer: Producer) -> None:
    """Each coroutine is cancelled when its time is over, not when the loop looks next."""
    producer.batch_enqueue(range(12), max_attempts=1)
    late: list[float] = []

    async def handler(_: QueueMessage) -> None:
        about = context.get()
        assert about is not None
        assert about.deadline is not None
        try:
            await asyncio.sleep(60)
        finally:
            late.append(time.monotonic() - about.deadline)

    async def main() -> None:
        async with AsyncConsumer(config, "q") as consumer:
            run = asyncio.create_task(consumer.run(handler, timeout=0.2, prefetch=0))
            await asyncio.to_thread(until, lambda: len(late) == 12, 60)
            await consumer.stop()
            await run

    asyncio.run(main())
    assert min(late) >= 0
    assert sorted(late)[-2] < 2  # at worst five seconds if it is not looked at


def test_the_last_attempt_says_how_it_went(config: Config) -> None:
    """A stale attempt that ends together with the present one is lost, with all it says."""
    line = Line(config, "q", max_attempts=5)
    line.producer.enqueue(Json("once"))
    both, go = threading.Barrier(2, timeout=20), threading.Event()

    def handler(message: QueueMessage) -> dict[str, int]:
        if message.read_ct == 1:
            line.expire_all()
            with line.admin.pool.connect() as connection:
                connection.exec_driver_sql(
                    "UPDATE pgqrs.pgqrs_messages SET state = 0, vt = now() WHERE state = 2"
                )
        both.wait()
        go.wait(20)
        return {"attempt": message.read_ct}

    with running(config, handler, concurrency=2, prefetch=0) as (consumer, ended):
        until(lambda: both.n_waiting == 0 and line.waiting() and _second(line))
        go.set()
        until(line.archived)
        consumer.stop()
    (row,) = line.archived().values()
    assert (row.read_ct, row.output) == (2, {"attempt": 2})
    (report,) = ended
    assert (report.completed, report.lost) == (1, 1)
    line.close()


def _second(line: Line) -> bool:
    return [row.read_ct for row in line.waiting().values()] == [2]
