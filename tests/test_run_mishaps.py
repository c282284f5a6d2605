"""`run` when handlers, the server or somebody else do what nobody would expect."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine
from waiting import ask, until

import pgqrs
from pgqrs import Admin, Archive, Config, Consumer, Dead, Producer, QueueMessage, Report, Retry
from pgqrs.aio import AsyncConsumer


@pytest.fixture
def producer(admin: Admin, config: Config) -> Iterator[Producer]:
    admin.create_queue("q")
    with Producer(config, "q") as producer:
        yield producer


@contextmanager
def running(
    config: Config, handler: Callable[[Any], Any], **options: Any
) -> Iterator[tuple[Consumer, list[Any]]]:
    """Run in a thread; gives the consumer, and what the run gave or raised."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(consumer.run(handler, **options))
        except (pgqrs.PgqrsError, ValueError, RuntimeError) as error:
            ended.append(error)

    with Consumer(config, "q") as consumer:
        work = threading.Thread(target=run)
        work.start()
        try:
            yield consumer, ended
        finally:
            consumer.stop()
            work.join(30)
            assert not work.is_alive()


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises(error: Exception) -> Callable[[], Any]:
    def handler() -> Any:
        raise error

    return handler


MISTAKES: dict[str, Callable[[], Any]] = {
    "an error that is no JSON": lambda: Retry(error=object()),
    "a reason that is no JSON": lambda: Dead({1, 2}),
    "a negative delay": lambda: Retry(delay=-1),
    "an exception without words": raises(UnspeakableError()),
    "an output that is no JSON": lambda: {1, 2},
    "an output with a NUL": lambda: "a\0b",
    "half a character": raises(ValueError("\ud800")),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_handlers_mistake_is_a_failed_attempt(
    config: Config, admin: Admin, producer: Producer, name: str
) -> None:
    """It is kept with the message, and the worker and the other messages go on."""
    logging.disable()  # half a character cannot be written down
    producer.enqueue("0", max_attempts=1)
    producer.batch_enqueue([1, 2, 3])

    def handler(message: QueueMessage) -> Any:
        return MISTAKES[name]() if message.payload == 0 else message.payload

    with running(config, handler) as (_, ended):
        until(lambda: admin.queue_metrics("q").archived == 4)
        assert ended == []
    logging.disable(logging.NOTSET)
    kept = {m.payload: m for m in Archive(admin).list()}
    assert kept[0].status == "dead"
    assert kept[0].error is not None
    assert [kept[n].output for n in (1, 2, 3)] == [1, 2, 3]


def test_an_output_that_the_server_refuses(
    config: Config, admin: Admin, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone becomes a failed attempt; what is settled with it is settled all the same."""
    monkeypatch.setattr("pgqrs.runner.task.output_text", lambda value: value)
    producer.batch_enqueue(range(20), max_attempts=1)

    def handler(messages: list[QueueMessage]) -> list[Any]:
        return ["1e999999" if m.payload == 7 else str(m.payload) for m in messages]

    with running(config, handler, batch_size=20) as (_, ended):
        until(lambda: admin.queue_metrics("q").archived == 20)
        assert ended == []
    kept = {m.payload: m for m in Archive(admin).list()}
    refused = kept.pop(7)
    assert refused.status == "dead"
    assert "cannot be stored" in refused.error
    assert "INSERT" not in refused.error
    assert {m.status for m in kept.values()} == {"completed"}
    assert isinstance(ended[0], Report)
    assert (ended[0].completed, ended[0].dead, ended[0].lost) == (19, 1, 0)


def test_delays_grow_no_further_than_they_may(
    config: Config, admin: Admin, engine: Engine, producer: Producer
) -> None:
    """However often a message failed, and however long the first delay is."""
    admin.update_queue("q", retry_delay=86_400, retry_delay_max=100 * 86_400)
    producer.enqueue("1", max_attempts=1000)
    ask(engine, "UPDATE pgqrs.pgqrs_messages SET read_ct = 500 RETURNING 1")
    with Consumer(config, "q") as consumer:
        message = consumer.dequeue()
        assert message is not None
        assert not consumer.fail(message, "again")
    wait = "SELECT extract(epoch FROM vt - now()) / 86400 FROM pgqrs.pgqrs_messages"
    assert 79 < ask(engine, wait) < 101


def test_a_coroutine_cancelled_before_it_began_frees_its_place(
    config: Config, admin: Admin, producer: Producer
) -> None:
    """A blocked loop may let a task's time run out before its first step."""
    producer.batch_enqueue([1, 2], max_attempts=1)
    producer.batch_enqueue([3, 4])

    async def handler(message: QueueMessage) -> int:
        if message.payload == 1:
            time.sleep(1.5)  # noqa: ASYNC251 - that is the point
        return int(message.payload)

    async def main() -> Report:
        async with AsyncConsumer(config, "q") as consumer:
            run = asyncio.create_task(consumer.run(handler, concurrency=2, prefetch=0, timeout=0.5))
            await asyncio.to_thread(until, lambda: admin.queue_metrics("q").archived == 4)
            await consumer.stop()
            return await run

    report = asyncio.run(main())
    assert report.still_running == []


def test_a_worker_taken_for_dead_goes_on_as_another(
    config: Config, admin: Admin, engine: Engine, producer: Producer, caplog: Any
) -> None:
    """After an outage longer than the stale time its row was stopped, and it is alive after all."""
    with running(config, lambda m: m.payload) as (consumer, ended):
        until(lambda: consumer.worker_id)
        before = consumer.worker_id
        silent = "UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '1 h' RETURNING 1"
        ask(engine, silent)
        admin.reclaim_messages("q", older_than=60)
        producer.enqueue(1)
        until(lambda: admin.queue_metrics("q").archived == 1)
        assert ended == []
        assert consumer.worker_id != before
    assert "taken for dead" in caplog.text


def test_a_worker_that_is_shut_down_ends_its_run(
    config: Config, admin: Admin, producer: Producer
) -> None:
    """Who stops it on purpose means it."""
    with running(config, lambda m: m.payload) as (consumer, ended):
        until(lambda: consumer.worker_id)
        with pgqrs.WorkerHandle(admin, consumer.worker_id or 0) as handle:
            handle.suspend()
            handle.shutdown()
        until(lambda: ended)
    assert ended == [Report()]
    producer.enqueue(1)
    assert admin.queue_metrics("q").pending == 1


def test_one_queue_of_several_is_deleted(config: Config, admin: Admin, caplog: Any) -> None:
    """The others are worked on; the last one's end is the end of the run."""
    caplog.set_level(logging.ERROR)
    for name in ("a", "b"):
        admin.create_queue(name)
    ended: list[Any] = []
    with pgqrs.Runner(config) as runner, Producer(config, "b") as producer:
        for name in ("a", "b"):
            runner.add(name, lambda m: m.payload)

        def run() -> None:
            try:
                runner.run()
            except pgqrs.QueueNotFoundError as error:
                ended.append(error.queue)

        work = threading.Thread(target=run)
        work.start()
        workers = lambda: {w.queue_id for w in admin.workers() if w.role == "consumer"}  # noqa: E731
        until(lambda: len(workers()) == 2)
        admin.delete_queue("a", force=True)
        until(lambda: "queue a is gone" in caplog.text)
        producer.enqueue(1)
        until(lambda: admin.queue_metrics("b").archived == 1)
        admin.delete_queue("b", force=True)
        until(lambda: ended == ["b"])
        work.join(20)


def test_what_never_began_is_given_back_when_a_run_ends_by_an_error(
    config: Config, admin: Admin, engine: Engine, producer: Producer
) -> None:
    """And what handlers did is settled: no attempt is lost, no result is thrown away."""
    begun, go_on = threading.Event(), threading.Event()

    def handler(message: QueueMessage) -> Any:
        begun.set()
        go_on.wait(20)
        return message.payload

    producer.batch_enqueue(range(4))
    with running(config, handler, prefetch=2) as (consumer, ended):
        begun.wait(20)
        broken = pgqrs.DatabaseError("something else", "XX000")
        loop = consumer._lineup._loop
        assert loop is not None
        turn, failures = loop._turn, [broken]

        def breaks_once(*given: Any) -> None:
            if failures:
                raise failures.pop()
            turn(*given)

        loop._turn = breaks_once  # type: ignore[method-assign]
        loop.has_ended(idle=True)
        until(lambda: not failures)
        go_on.set()
        until(lambda: ended)
    assert ended == [broken]
    assert admin.queue_metrics("q").archived == 1
    assert (
        ask(engine, "SELECT array_agg(read_ct - returned_ct) FROM pgqrs.pgqrs_messages") == [0] * 3
    )


def test_stop_before_run_is_not_lost(config: Config, producer: Producer, admin: Admin) -> None:
    """The run ends as it begins; and a second run at once is refused."""
    producer.enqueue(1)
    with Consumer(config, "q") as consumer:
        consumer.stop()
        assert consumer.run(lambda m: m.payload) == Report()
        assert admin.queue_metrics("q").pending == 1
    with running(config, lambda m: m.payload) as (consumer, _):
        until(lambda: admin.queue_metrics("q").archived == 1)
        with pytest.raises(pgqrs.InvalidStateError, match="running"):
            consumer.run(print)


def test_many_runs_leave_the_event_loops_threads_alone(config: Config, admin: Admin) -> None:
    """Handlers need those for what they await."""
    for number in range(12):
        admin.create_queue(f"q{number}")

    async def main() -> None:
        consumers = [AsyncConsumer(config, f"q{number}") for number in range(12)]
        runs = [asyncio.create_task(each.run(print)) for each in consumers]
        registered = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE role = 'consumer'"
        for _ in range(200):
            if await asyncio.to_thread(ask, admin.pool, registered) == 12:
                break
            await asyncio.sleep(0.05)
        for each in consumers:
            await each.stop()
        await asyncio.gather(*runs)
        for each in consumers:
            await each.close()

    asyncio.run(main())


def test_a_second_cancellation_does_not_leave_the_run_behind(
    config: Config, admin: Admin, producer: Producer
) -> None:
    """The thread has ended when `run` is left, and the worker is stopped."""
    producer.enqueue(1)

    async def handler(_: QueueMessage) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with AsyncConsumer(config, "q") as consumer:
            run = asyncio.create_task(consumer.run(handler))
            await asyncio.to_thread(until, lambda: admin.queue_metrics("q").locked == 1)
            run.cancel()
            await asyncio.sleep(0.1)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            # Its work is done; the thread itself may be a moment from its end.
            names = lambda: [thread.name for thread in threading.enumerate()]  # noqa: E731
            await asyncio.to_thread(until, lambda: "pgqrs-run" not in names(), 1)

    asyncio.run(main())
    assert {worker.status for worker in admin.workers("q")} <= {"stopped", "ready"}
    consumers = [worker for worker in admin.workers("q") if worker.role == "consumer"]
    assert [worker.status for worker in consumers] == ["stopped"]


def test_purged_messages_are_lost_not_completed(
    config: Config, admin: Admin, producer: Producer
) -> None:
    """Who purges a leased message takes it from its holder."""
    producer.enqueue(1)
    begun, go_on = threading.Event(), threading.Event()

    def handler(_: QueueMessage) -> None:
        begun.set()
        go_on.wait(20)

    with running(config, handler) as (_, ended):
        begun.wait(20)
        assert admin.purge_queue("q") == 1
        go_on.set()
    assert (ended[0].completed, ended[0].lost) == (0, 1)
