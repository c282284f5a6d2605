"""`run` in a host that is in its way: it blocks its event loop, keeps its pool, stops at once."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine
from waiting import ask, crowd, until

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer, QueueMessage
from pgqrs.aio import AsyncConsumer

BEAT = "SELECT max(heartbeat_at) FROM pgqrs.pgqrs_workers WHERE role = 'consumer'"


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> None:
    admin.create_queue("q")


def test_what_never_started_costs_no_attempt(admin: Admin, config: Config) -> None:
    """A message that twenty workers lease and give back still has all of its attempts."""
    with Producer(config, "q") as producer:
        victim = producer.enqueue(pgqrs.Json("victim"), max_attempts=2)
        for number in range(1, 21):
            producer.enqueue(pgqrs.Json("blocker"), priority=1)
            begun, go = threading.Event(), threading.Event()

            def handler(
                message: QueueMessage, begun: threading.Event = begun, go: threading.Event = go
            ) -> None:
                assert message.payload == "blocker", "nothing else is started"
                begun.set()
                go.wait(20)

            with Consumer(config, "q") as consumer:
                options = {"prefetch": 1}
                thread = threading.Thread(target=consumer.run, args=(handler,), kwargs=options)
                thread.start()
                until(lambda: admin.queue_metrics("q").locked == 2)
                assert begun.wait(20)
                consumer.stop()
                go.set()
                thread.join(20)
                assert not thread.is_alive()
            (left,) = pgqrs.Messages(admin).list()
            assert (left.id, left.read_ct, left.attempts) == (victim.id, number, 0)
        with Consumer(config, "q") as consumer:
            thread = threading.Thread(target=consumer.run, args=(lambda _: "done",))
            thread.start()
            until(lambda: admin.queue_metrics("q").archived == 21)
            consumer.stop()
            thread.join(20)
    (kept,) = [m for m in pgqrs.Archive(admin).list(limit=50) if m.id == victim.id]
    assert (kept.status, kept.output) == ("completed", "done")
    assert (kept.read_ct, kept.returned_ct) == (21, 20), "one attempt"


class Watch:
    """Looks from outside at a worker that is not to count as stale."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._admin, self._engine = Admin(config), engine
        self.beats: set[Any] = set()

    def lease_lasts(self, seconds: float) -> None:
        """See a lease through this time on the server's clock; nobody may take it for stale."""
        old = "SELECT count(*) FROM pgqrs.pgqrs_messages WHERE dequeued_at < now() - :age"
        age = dt.timedelta(seconds=seconds)

        def is_old() -> bool:
            assert self._admin.reclaim_messages() == [], "its worker is alive"
            self.beats.add(
                ask(
                    self._engine,
                    "SELECT max(heartbeat_at) FROM pgqrs.pgqrs_workers WHERE role = 'consumer'",
                )
            )
            return bool(ask(self._engine, old, age=age))

        until(is_old)

    def close(self) -> None:
        self._admin.close()


@pytest.fixture
def restless(dsn: str) -> Config:
    """A configuration under which a worker that is silent for three seconds is stale."""
    return Config.from_dsn(
        dsn,
        heartbeat_interval_seconds=0.2,
        stale_after_seconds=3,
        default_lock_time_seconds=60,
        poll_interval_seconds=60,
    )


@pytest.fixture
def watch(restless: Config, engine: Engine) -> Iterator[Watch]:
    watch = Watch(restless, engine)
    yield watch
    watch.close()


def test_a_blocked_loop_is_alive(admin: Admin, restless: Config, watch: Watch) -> None:
    """A coroutine that blocks its event loop for longer than the stale time keeps its message."""
    go, started = threading.Event(), threading.Event()

    async def handler(_message: QueueMessage) -> str:
        started.set()
        assert go.wait(20)  # nothing is awaited: the loop is blocked
        return "done"

    async def main() -> None:
        async with AsyncConsumer(restless, "q") as consumer:
            running = asyncio.ensure_future(consumer.run(handler))
            await asyncio.to_thread(until, lambda: admin.queue_metrics("q").archived)
            await consumer.stop()
            await running

    with Producer(restless, "q") as producer, crowd() as start:
        producer.enqueue(1)
        start(1, lambda: asyncio.run(main()))
        assert started.wait(20)
        watch.lease_lasts(4.5)
        go.set()
    (kept,) = pgqrs.Archive(admin).list()
    assert (kept.output, kept.read_ct) == ("done", 1)
    assert len(watch.beats) >= 3


def test_a_host_that_keeps_its_only_connection(
    admin: Admin, url: URL, restless: Config, watch: Watch
) -> None:
    """While the host holds the one connection of its pool, the run leases, beats and settles."""
    small = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=5)
    go, started = threading.Event(), threading.Event()

    def handler(_message: QueueMessage) -> str:
        started.set()
        assert go.wait(20)
        return "done"

    with (
        Producer(restless, "q") as producer,
        Consumer(small, "q", config=restless) as consumer,
        crowd() as start,
    ):
        producer.enqueue(1)
        with small.connect():
            start(1, lambda: consumer.run(handler))
            assert started.wait(20)
            watch.lease_lasts(1)
            go.set()
            until(lambda: admin.queue_metrics("q").archived == 1)
            consumer.stop()
    small.dispose()
    (kept,) = pgqrs.Archive(admin).list()
    assert (kept.output, kept.read_ct) == ("done", 1)
    assert len(watch.beats) >= 3
