"""pgqrs as its users have it: through the public API, with its own settings."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

import pgqrs
from benchmarks.contenders.answering import (
    BODY,
    FEW,
    MANY,
    Figure,
    Seen,
    Watch,
    answer,
    instants,
    now,
)
from pgqrs.aio import AsyncProducer

QUIET = 0.25
"""Seconds without progress after which a run looks whether the queue is empty."""


class Ours:
    """One producer and one consumer of one configuration."""

    def __init__(self, dsn: str, queue: str = "bench") -> None:
        self.config = pgqrs.Config.from_dsn(dsn, max_batch_size=MANY)
        self.queue = queue
        self.admin = pgqrs.Admin(self.config)
        self.producer = pgqrs.Producer(self.config, queue)
        self.consumer = pgqrs.Consumer(self.config, queue)

    def close(self) -> None:
        for each in (self.consumer, self.producer, self.admin):
            each.close()

    def empty(self) -> None:
        with self.admin.pool.connect() as connection:
            connection.execute(text("DELETE FROM pgqrs.pgqrs_messages"))

    def fill(self, _: Watch, n: int) -> None:
        self.producer.batch_enqueue([BODY] * n)

    def enqueue_one(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                self.producer.enqueue(BODY)
        self.empty()

    def enqueue_one_async(self, watch: Watch, n: int) -> None:
        async def act() -> None:
            async with AsyncProducer(self.config, self.queue) as producer:
                await producer.enqueue(BODY)
                with watch.running():
                    for _ in range(n):
                        await producer.enqueue(BODY)

        asyncio.run(act())
        self.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        bodies = [BODY] * 1000
        with watch.running():
            for begun in range(0, n, 1000):
                self.producer.batch_enqueue(bodies[: n - begun])
        self.empty()

    def one_by_one(self, watch: Watch, n: int) -> None:
        self.fill(watch, n)
        with watch.running():
            for _ in range(n):
                message = self.consumer.dequeue()
                assert message is not None
                _ = message.payload
                self.consumer.archive(message)

    def fused(self, watch: Watch, n: int) -> None:
        consumer = self.consumer
        self.fill(watch, n)
        with watch.running():
            messages = consumer.dequeue_batch(1)
            for _ in range(n):
                _ = messages[0].payload
                held, messages = consumer.archive_and_dequeue(messages, 1)
                assert held == [True]
        assert not messages

    def drain(self, watch: Watch, n: int) -> None:
        self.fill(watch, n)
        self.take(watch, n)

    def drain_many(self, watch: Watch, n: int) -> None:
        self.fill(watch, n)
        self.take(watch, n, MANY)

    def take(self, watch: Watch, n: int, size: int = FEW) -> None:
        with watch.running():
            assert self.by_batches(size, n) == n

    def share(self, watch: Watch, _: int) -> None:
        with watch.running():
            watch.extra["done"] = self.by_batches(MANY)

    def by_batches(self, size: int, most: int | None = None) -> int:
        """Take `size` at once until `most` are done or the queue is empty; gives how many."""
        done = 0
        while done != most and (messages := self.consumer.dequeue_batch(size)):
            read(messages)
            assert all(self.consumer.archive_batch(messages))
            done += len(messages)
        return done


class Running:
    """Figures of `run`, with handlers that read the payload."""

    def __init__(self, ours: Ours) -> None:
        self.ours = ours

    def drain(self, **options: Any) -> Callable[[Watch, int], None]:
        """Drain by `Consumer.run`."""

        def act(watch: Watch, n: int) -> None:
            self.ours.fill(watch, n)
            left = n

            def handle(given: Any) -> None:
                nonlocal left
                messages = given if isinstance(given, list) else [given]
                read(messages)
                left -= len(messages)
                if left <= 0:
                    self.ours.consumer.stop()

            with watch.running():
                report = self.ours.consumer.run(handle, **options)
            assert report.completed == n, report

        return act

    def share(self, watch: Watch, _: int) -> None:
        """Run with batches until the queue is empty; says when the last was settled."""
        with pgqrs.Runner(self.ours.config) as runner:
            runner.add(self.ours.queue, read, batch_size=MANY)
            watching = threading.Thread(target=self._stop_at_the_end, args=(runner, watch))
            watching.start()
            with watch.running():
                report = runner.run()
            watching.join()
        watch.extra["done"] = report.completed

    def _stop_at_the_end(self, runner: pgqrs.Runner, watch: Watch) -> None:
        done, since = 0, now()
        while now() - since < QUIET or self._waiting():
            time.sleep(0.02)
            if runner.report.completed != done:
                done, since = runner.report.completed, now()
        watch.extra["ended"] = since
        runner.stop()

    def _waiting(self) -> bool:
        with self.ours.admin.pool.connect() as connection:
            some = text("SELECT EXISTS (SELECT FROM pgqrs.pgqrs_messages WHERE state <> 1)")
            return bool(connection.scalar(some))

    def wait(self, watch: Watch, n: int) -> None:
        """Handle what is sent at a pace, one message at a time, with the time that each takes."""
        self.ours.consumer.run(self._seeing(watch, n, self.ours.consumer.stop))

    def wait_beside(self, watch: Watch, n: int) -> None:
        """Handle that in the process that works another queue too."""
        with pgqrs.Runner(self.ours.config) as runner:
            runner.add(self.ours.queue, self._seeing(watch, n, runner.stop))
            runner.add("flooded", lambda message: message.payload["number"])
            runner.run()

    def _seeing(self, watch: Watch, n: int, stop: Callable[[], None]) -> Callable[[Any], None]:
        seen, takes = Seen(watch, n), watch.asked.get("takes", 0.0)

        def handle(message: Any) -> None:
            last = seen.add(message.payload)
            if takes:
                time.sleep(takes)
            if last:
                stop()

        return handle

    def pace(self, watch: Watch, n: int) -> None:
        """Send at a pace; what a fault refuses is sent again until it is in."""
        for body in instants(watch, n):
            while True:
                try:
                    self.ours.producer.enqueue(body)
                except (pgqrs.UnavailableError, pgqrs.OutcomeUnknownError):
                    time.sleep(0.01)
                else:
                    break


def read(messages: list[pgqrs.QueueMessage]) -> None:
    """Decode the payloads of a batch."""
    for message in messages:
        _ = message.payload


def figures_of(ours: Ours) -> dict[str, Figure]:
    """Give what the public API can be asked."""
    running = Running(ours)
    return {
        "enqueue one": ours.enqueue_one,
        "enqueue one, asyncio": ours.enqueue_one_async,
        "enqueue 1000": ours.enqueue_batch,
        "lease and archive one": ours.one_by_one,
        "fused": ours.fused,
        "drain by 100": ours.drain,
        "drain by 500": ours.drain_many,
        "run, batches of 100": running.drain(batch_size=FEW),
        "run, batches of 500": running.drain(batch_size=MANY),
        **{f"run, {n} at a time": running.drain(concurrency=n) for n in (1, 8, 32, 64)},
        "take": ours.take,
        "fill": ours.fill,
        "share": ours.share,
        "share by run": running.share,
        "pace": running.pace,
        "await": running.wait,
        "await beside": running.wait_beside,
    }


def main(dsn: str) -> None:
    """Answer with the public API."""
    logging.getLogger("pgqrs").setLevel(logging.ERROR)  # faults are meant here
    ours = Ours(dsn)
    answer(figures_of(ours), ours.close)


if __name__ == "__main__":
    main(sys.argv[1])
