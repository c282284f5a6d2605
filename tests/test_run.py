"""`run`: handlers, their outcomes, waking, leases kept alive, and an end in good order."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from waiting import until

import pgqrs
from pgqrs import Admin, Config, Consumer, Dead, Done, Producer, QueueMessage, Retry, context
from pgqrs.runner import Report

pytestmark = pytest.mark.matrix


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> pgqrs.QueueInfo:
    return admin.create_queue("q")


@pytest.fixture
def producer(config: Config) -> Iterator[Producer]:
    with Producer(config, "q") as producer:
        yield producer


@contextmanager
def working(
    config: Config, handler: Callable[[Any], Any], **options: Any
) -> Iterator[tuple[Consumer, list[Report]]]:
    """Run a handler in a thread, and stop it at the end."""
    reports: list[Report] = []
    with Consumer(config, "q") as consumer:
        thread = threading.Thread(target=lambda: reports.append(consumer.run(handler, **options)))
        thread.start()
        try:
            until(lambda: consumer._lineup.is_running)
            yield consumer, reports
        finally:
            consumer.stop()
            thread.join(20)
            assert not thread.is_alive()


def archived(admin: Admin) -> dict[Any, pgqrs.ArchivedMessage]:
    return {message.payload: message for message in pgqrs.Archive(admin).list(limit=10_000)}


def test_outcomes(admin: Admin, dsn: str, producer: Producer) -> None:
    """A return value is output; exceptions, Retry and Dead are what they say."""
    config = Config.from_dsn(dsn, retry_delay_seconds=0.01)
    answers: dict[str, Callable[[QueueMessage], Any]] = {
        "value": lambda _: {"sum": 3},
        "none": lambda _: None,
        "done": lambda _: Done("fine"),
        "dead": lambda _: Dead("never"),
        "twice": lambda m: Retry(delay=0) if m.attempts == 1 else "second",
        "unstorable": lambda _: {1, 2},
    }

    def handler(message: QueueMessage) -> Any:
        if message.payload == "raises":
            raise LookupError("no such thing")
        return answers[message.payload](message)

    names = [*answers, "raises"]
    producer.batch_enqueue([pgqrs.Json(name) for name in names], max_attempts=2)
    with working(config, handler, concurrency=2):
        until(lambda: len(archived(admin)) == len(names))
    kept = archived(admin)
    statuses = {name: message.status for name, message in kept.items()}
    failed = {"dead", "unstorable", "raises"}
    assert statuses == {name: "dead" if name in failed else "completed" for name in names}
    assert kept["value"].output == {"sum": 3}
    assert (kept["none"].output, kept["done"].output) == (None, "fine")
    assert (kept["dead"].error, kept["dead"].read_ct) == ("never", 1)
    assert (kept["twice"].output, kept["twice"].read_ct) == ("second", 2)
    assert (kept["raises"].error["type"], kept["raises"].read_ct) == ("LookupError", 2)
    assert "not JSON" in kept["unstorable"].error["message"]


@pytest.mark.parametrize("form", ["threads", "coroutines", "batches", "coroutines in batches"])
def test_every_message_is_handled_once(
    admin: Admin, config: Config, producer: Producer, form: str
) -> None:
    """Plain functions, coroutines and batches each see every message exactly once."""
    seen: list[int] = []

    def one(message: QueueMessage) -> None:
        seen.append(message.payload)

    async def one_later(message: QueueMessage) -> None:
        await asyncio.sleep(0)
        seen.append(message.payload)

    def many(messages: list[QueueMessage]) -> None:
        assert 1 <= len(messages) <= 7
        seen.extend(message.payload for message in messages)

    async def many_later(messages: list[QueueMessage]) -> list[int]:
        seen.extend(message.payload for message in messages)
        return [message.payload for message in messages]

    handler, options = {
        "threads": (one, {"concurrency": 4}),
        "coroutines": (one_later, {"concurrency": 20}),
        "batches": (many, {"concurrency": 2, "batch_size": 7}),
        "coroutines in batches": (many_later, {"batch": True, "concurrency": 2}),
    }[form]
    producer.batch_enqueue(range(500))
    with working(config, handler, **options) as (_, reports):
        until(lambda: admin.queue_metrics("q").archived == 500)
    assert sorted(seen) == list(range(500))
    # Where handlers turn slow, what was leased ahead of them is given back.
    assert reports == [Report(completed=500, returned=reports[0].returned)]


def test_a_batch_answers_for_each(admin: Admin, config: Config, producer: Producer) -> None:
    """A batch handler's list settles each message in its own way; a wrong length fails all."""
    producer.batch_enqueue(range(4), max_attempts=1)

    def handler(messages: list[QueueMessage]) -> list[Any]:
        if messages[0].payload == 3:
            return [1, 2]
        return [Done(1), Dead("no"), Retry()]

    with working(config, handler, batch_size=3):
        until(lambda: len(archived(admin)) == 4)
    kept = archived(admin)
    assert [kept[n].status for n in range(4)] == ["completed", "dead", "dead", "dead"]
    assert kept[0].output == 1
    assert kept[3].error["type"] == "TypeError"


def test_a_handler_knows_what_it_works_at(admin: Admin, config: Config, producer: Producer) -> None:
    """In a handler the context has queue, id and attempt; outside there is none."""
    sent = producer.enqueue(1)
    seen: list[Any] = []

    def handler(_message: QueueMessage) -> None:
        seen.append(context.get())

    with working(config, handler, timeout=60):
        until(lambda: archived(admin))
    (about,) = seen
    assert (about.queue, about.message_id, about.attempt) == ("q", sent.id, 1)
    assert 0 < about.deadline - time.monotonic() <= 60
    assert context.get() is None


def test_a_notification_wakes(admin: Admin, dsn: str, producer: Producer) -> None:
    """With a poll interval of a minute, one message and the last of a burst are handled at once."""
    config = Config.from_dsn(dsn, poll_interval_seconds=60)
    with working(config, lambda _: None):
        for size in (1, 1, 50):
            before = admin.queue_metrics("q").archived
            for number in range(size):
                producer.enqueue(number)
            until(lambda want=before + size: admin.queue_metrics("q").archived == want)


def test_polling_finds_what_no_notification_told(admin: Admin, dsn: str) -> None:
    """Without notifications the poll interval bounds how long a message waits."""
    silent = Config.from_dsn(dsn, poll_interval_seconds=0.1, enable_listen_notify=False)
    with working(silent, lambda _: None), Producer(silent, "q") as producer:
        producer.enqueue(1)
        until(lambda: admin.queue_metrics("q").archived == 1)


def test_what_comes_due_wakes(admin: Admin, dsn: str, producer: Producer) -> None:
    """A delayed message is handled when it is due, long before the next poll."""
    config = Config.from_dsn(dsn, poll_interval_seconds=60)
    producer.enqueue_delayed(1, 0.5)
    with working(config, lambda _: None):
        until(lambda: admin.queue_metrics("q").archived == 1)


def test_another_attempt_is_made_when_it_is_due(admin: Admin, dsn: str, producer: Producer) -> None:
    """Whatever the poll interval, also where the queue says how long to wait."""
    config = Config.from_dsn(dsn, poll_interval_seconds=60, retry_delay_seconds=0.1)
    producer.enqueue(1, max_attempts=9)
    seen: list[int] = []

    def handler(message: QueueMessage) -> Retry | None:
        seen.append(message.attempts)
        if len(seen) == 1:
            raise ValueError
        return Retry(delay=0.1) if len(seen) < 4 else None

    with working(config, handler):
        until(lambda: archived(admin))
    assert seen == [1, 2, 3, 4]


def test_leases_of_busy_handlers_are_extended(admin: Admin, dsn: str, producer: Producer) -> None:
    """A handler that takes longer than a lease keeps its message, and so do those that wait."""
    config = Config.from_dsn(dsn, default_lock_time_seconds=4)
    go = threading.Event()
    seen: list[int] = []

    def handler(message: QueueMessage) -> None:
        seen.append(message.payload)
        go.wait(20)

    producer.batch_enqueue([1, 2])
    with working(config, handler, prefetch=1):
        until(lambda: seen)
        after = pgqrs.Messages(admin).list()[0].vt + dt.timedelta(seconds=4)
        until(lambda: all(m.vt > after for m in pgqrs.Messages(admin).list()))
        assert [m.read_ct for m in pgqrs.Messages(admin).list()] == [1, 1]
        go.set()
        until(lambda: len(archived(admin)) == 2)
    assert seen == [1, 2]


def test_a_coroutine_is_cancelled_at_its_limit(
    admin: Admin, config: Config, producer: Producer
) -> None:
    """A coroutine past its time limit is cancelled, and that is a failed attempt."""
    producer.enqueue(1, max_attempts=1)

    async def handler(_message: QueueMessage) -> None:
        await asyncio.sleep(60)

    with working(config, handler, timeout=0.2):
        until(lambda: archived(admin))
    assert archived(admin)[1].error["type"] == "HandlerTimeoutError"


def test_a_thread_past_its_limit_loses_its_lease(
    admin: Admin, dsn: str, producer: Producer
) -> None:
    """Its slot stays taken, its lease runs out, its result is refused, another attempt counts."""
    config = Config.from_dsn(dsn, default_lock_time_seconds=0.5)
    go = threading.Event()
    seen: list[int] = []

    def handler(message: QueueMessage) -> str:
        seen.append(message.read_ct)
        if len(seen) == 1:
            go.wait(20)
            return "late"
        return "in time"

    producer.enqueue(1)
    with working(config, handler, timeout=0.2, concurrency=2, prefetch=0):
        until(lambda: archived(admin))
        go.set()
    # On a busy machine a lease may run out before its handler begins, and is not counted here.
    assert len(seen) == 2
    assert seen[0] < seen[1]
    assert archived(admin)[1].output == "in time"


def test_stop_lets_handlers_finish_and_gives_back_the_rest(
    admin: Admin, config: Config, producer: Producer
) -> None:
    """After stop nothing is leased; what runs is finished, what waits loses no attempt."""
    go = threading.Event()
    started = threading.Event()

    def handler(_message: QueueMessage) -> None:
        started.set()
        go.wait(20)

    producer.batch_enqueue(range(5))
    with working(config, handler, prefetch=3) as (consumer, reports):
        assert started.wait(20)
        until(lambda: admin.queue_metrics("q").locked == 4)
        consumer.stop()
        until(lambda: admin.queue_metrics("q").pending == 4)
        go.set()
        until(lambda: reports)
    assert reports == [Report(completed=1, returned=3)]
    left = pgqrs.Messages(admin).list()
    assert [message.attempts for message in left] == [0, 0, 0, 0]


def test_a_second_stop_ends_at_once(admin: Admin, config: Config, producer: Producer) -> None:
    """It returns the ids that handlers still have, and leaves their leases to run out."""
    go = threading.Event()
    started = threading.Event()

    def handler(_message: QueueMessage) -> None:
        started.set()
        go.wait(20)

    sent = producer.enqueue(1)
    with working(config, handler) as (consumer, reports):
        assert started.wait(20)
        consumer.stop()
        consumer.stop()
        until(lambda: reports)
    assert reports[0].still_running == [sent.id]
    assert admin.queue_metrics("q").locked == 1
    go.set()


def test_coroutines_are_cancelled_and_given_back_at_the_end_of_patience(
    admin: Admin, dsn: str, producer: Producer
) -> None:
    """When the shutdown timeout is over, coroutines are cancelled and cost no attempt."""
    config = Config.from_dsn(dsn, shutdown_timeout_seconds=0.2)
    started = threading.Event()

    async def handler(_message: QueueMessage) -> None:
        started.set()
        await asyncio.sleep(60)

    producer.enqueue(1)
    with working(config, handler) as (consumer, reports):
        assert started.wait(20)
        consumer.stop()
        until(lambda: reports)
    assert reports == [Report(returned=1)]
    assert [message.attempts for message in pgqrs.Messages(admin).list()] == [0]


def test_pausing_the_queue_and_suspending_the_worker(
    admin: Admin, dsn: str, producer: Producer
) -> None:
    """Neither is leased from, nor is the loop busy meanwhile; both go on when resumed."""
    config = Config.from_dsn(dsn, poll_interval_seconds=0.05)
    admin.pause_queue("q")
    with working(config, lambda _: None) as (consumer, _):
        producer.enqueue(1)
        until(lambda: consumer.worker_id)
        assert admin.queue_metrics("q").pending == 1
        admin.resume_queue("q")
        until(lambda: admin.queue_metrics("q").archived == 1)
        consumer.suspend()
        producer.enqueue(2)
        consumer.resume()
        until(lambda: admin.queue_metrics("q").archived == 2)


def test_killed_backends_are_replaced(admin: Admin, dsn: str, producer: Producer) -> None:
    """With its connections cut five times a second, every message is still handled and settled."""
    config = Config.from_dsn(dsn, poll_interval_seconds=0.2, default_lock_time_seconds=1)
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    producer.batch_enqueue(range(2000))
    with working(config, lambda _: time.sleep(0.001), concurrency=4), admin.pool.connect() as one:
        for _ in range(10):
            one.execute(kill)
            threading.Event().wait(0.2)
        count = text("SELECT count(*) FROM pgqrs.pgqrs_archive")
        until(lambda: one.scalar(count) == 2000, seconds=60)
        assert one.scalar(text("SELECT count(*) FROM pgqrs.pgqrs_messages")) == 0


def test_bad_options(config: Config, admin: Admin) -> None:
    """Impossible options are refused before anything is leased."""
    with Consumer(config, "q") as consumer:
        for options in ({"concurrency": 0}, {"prefetch": -1}, {"timeout": -1}):
            with pytest.raises(ValueError, match=r"at least|negative|duration"):
                consumer.run(print, **options)
    with admin.pool.connect() as connection:
        within = Consumer(config, "q").within(connection)
        with pytest.raises(TypeError, match="engine"):
            within.run(print)


def test_an_unknown_queue_is_an_error(config: Config) -> None:
    """Running a queue that does not exist raises instead of waiting for ever."""
    with Consumer(config, "nix") as consumer, pytest.raises(pgqrs.QueueNotFoundError):
        consumer.run(print)
