"""`Runner`: several queues in one process, with one loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from waiting import until

import pgqrs
from pgqrs import Admin, Config, Producer, QueueMessage, Report, Runner
from pgqrs.aio import AsyncRunner

pytestmark = pytest.mark.matrix


@pytest.fixture(autouse=True)
def queues(admin: Admin) -> list[pgqrs.QueueInfo]:
    return [admin.create_queue("a"), admin.create_queue("b")]


@contextmanager
def running(runner: Runner) -> Iterator[list[Report]]:
    """Run it in a thread, and stop it at the end."""
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(runner.run()))
    thread.start()
    try:
        yield reports
    finally:
        runner.stop()
        thread.join(20)
        assert not thread.is_alive()


def send(admin: Admin, queue: str, payloads: range) -> None:
    with Producer(admin, queue) as producer:
        producer.batch_enqueue(payloads)


def archived(admin: Admin) -> int:
    return sum(each.archived for each in admin.all_queues_metrics())


def test_two_queues_in_one_loop(admin: Admin, config: Config) -> None:
    """Each queue's messages go to its own handler and options; one connection serves both."""
    seen: dict[str, list[int]] = {"a": [], "b": []}

    def one(message: QueueMessage) -> None:
        seen["a"].append(message.payload)

    async def many(messages: list[QueueMessage]) -> None:
        await asyncio.sleep(0)
        assert len(messages) <= 5
        seen["b"].extend(message.payload for message in messages)

    send(admin, "a", range(100))
    send(admin, "b", range(100, 200))
    with Runner(config) as runner:
        runner.add("a", one, concurrency=2)
        runner.add("b", many, concurrency=2, batch_size=5)
        with running(runner) as reports:
            until(lambda: archived(admin) == 200)
            until(lambda: connections(admin) == 1)
            send(admin, "b", range(200, 210))
            until(lambda: archived(admin) == 210)
            until(lambda: runner.report == Report(completed=210))
    assert reports == [Report(completed=210)]
    assert (sorted(seen["a"]), sorted(seen["b"])) == ([*range(100)], [*range(100, 210)])
    assert {worker.status for worker in admin.workers()} == {pgqrs.WorkerStatus.STOPPED}


def connections(admin: Admin) -> int:
    """Count the connections but for the admin's own."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with admin.pool.connect() as one:
        return int(one.scalar(text(f"{query} AND pid <> pg_backend_pid()")) or 0)


def test_two_queues_under_asyncio(admin: Admin, config: Config) -> None:
    """The twin runs coroutines of all queues on the caller's event loop."""
    seen: list[tuple[str, int]] = []

    async def main() -> Report:
        here = asyncio.get_running_loop()

        async def handler(message: QueueMessage) -> None:
            assert asyncio.get_running_loop() is here
            about = pgqrs.context.get()
            assert about is not None
            seen.append((about.queue, message.payload))
            if len(seen) == 60:
                await runner.stop()

        async with AsyncRunner(config) as runner:
            runner.add("a", handler, concurrency=5)
            runner.add("b", handler)
            return await runner.run()

    send(admin, "a", range(50))
    send(admin, "b", range(10))
    assert asyncio.run(main()) == Report(completed=60)
    assert sorted(seen) == [*(("a", n) for n in range(50)), *(("b", n) for n in range(10))]


def test_a_busy_queue_starves_no_other(admin: Admin, config: Config) -> None:
    """Whichever was added first, few messages are done long before the many of another queue."""
    for busy, quiet in (("a", "b"), ("b", "a")):
        seen: list[str] = []
        send(admin, busy, range(3000))
        send(admin, quiet, range(20))
        with Runner(config) as runner:
            for queue in ("a", "b"):
                work = {"concurrency": 4, "prefetch": 100} if queue == busy else {}
                runner.add(queue, lambda _, queue=queue, seen=seen: seen.append(queue), **work)
            with running(runner):
                until(lambda seen=seen: len(seen) == 3020)
        last = len(seen) - 1 - seen[::-1].index(quiet)
        assert last < 1500, f"the last of {quiet} came after {last} others"


def test_a_queue_whose_places_are_all_taken_holds_up_no_other(admin: Admin, config: Config) -> None:
    """While every handler of one queue is stuck, another queue goes on."""
    go = threading.Event()
    stuck = threading.Event()

    def wait(_message: QueueMessage) -> None:
        stuck.set()
        go.wait(20)

    send(admin, "a", range(10))
    with Runner(config) as runner:
        runner.add("a", wait)
        runner.add("b", lambda _: None)
        with running(runner):
            assert stuck.wait(20)
            assert len(runner.report.still_running) == 1
            send(admin, "b", range(10))
            until(lambda: archived(admin) == 10)
            go.set()


def test_stop_gives_back_what_waits_in_each_queue(admin: Admin, config: Config) -> None:
    """After stop handlers of all queues may finish, and no queue keeps a lease."""
    go = threading.Event()
    started = threading.Semaphore(0)

    def wait(_message: QueueMessage) -> None:
        started.release()
        go.wait(20)

    send(admin, "a", range(5))
    send(admin, "b", range(5))
    with Runner(config) as runner:
        runner.add("a", wait, prefetch=2)
        runner.add("b", wait, prefetch=2)
        with running(runner) as reports:
            for _ in range(2):
                assert started.acquire(timeout=20)
            runner.stop()
            until(lambda: all(each.pending == 4 for each in admin.all_queues_metrics()))
            go.set()
            until(lambda: reports)
    assert reports[0].completed == 2
    assert [each.locked for each in admin.all_queues_metrics()] == [0, 0]


def test_a_stop_that_comes_first_counts(admin: Admin, config: Config) -> None:
    """Stopped before it runs, it ends as it begins; the run after that is a run again."""
    send(admin, "a", range(1))
    with Runner(config) as runner:
        runner.add("a", lambda _: runner.stop())
        runner.stop()
        assert runner.run() == Report()
        assert runner.run() == Report(completed=1)


def test_mistakes(admin: Admin, config: Config) -> None:
    """A queue twice, none at all, one that does not exist, or a change while it runs: errors."""
    with Runner(config) as runner:
        with pytest.raises(pgqrs.InvalidStateError, match="without a queue"):
            runner.run()
        with pytest.raises(ValueError, match="at least 1"):
            runner.add("a", print, concurrency=0)
        runner.add("a", lambda _: None)
        with pytest.raises(ValueError, match="added before"):
            runner.add(admin.get_queue("a"), print)
        send(admin, "a", range(1))
        with running(runner):
            until(lambda: archived(admin) == 1)
            with pytest.raises(pgqrs.InvalidStateError, match="running"):
                runner.add("b", print)
            with pytest.raises(pgqrs.InvalidStateError, match="running"):
                runner.run()
        runner.add("nix", print)
        with pytest.raises(pgqrs.QueueNotFoundError):
            runner.run()
    runner.close()
    with pytest.raises(pgqrs.InvalidStateError, match="closed"):
        runner.run()
    with admin.pool.connect() as connection, pytest.raises(TypeError, match="engine"):
        Runner(connection, config)


def test_a_hosts_engine_is_the_hosts(admin: Admin, config: Config, engine: Any) -> None:
    """Bound to an engine of the host's it works through another connection and disposes nothing."""
    send(admin, "b", range(3))
    with Runner(engine, config) as runner:
        runner.add("b", lambda _: None)
        with running(runner):
            until(lambda: archived(admin) == 3)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
