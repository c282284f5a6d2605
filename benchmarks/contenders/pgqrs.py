"""pgqrs as its users have it: through the public API, with its own settings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

import pgqrs
from benchmarks.contenders.answering import BODY, Figure, Watch, answer
from pgqrs.aio import AsyncProducer


class Ours:
    """One producer and one consumer of one configuration."""

    def __init__(self, dsn: str) -> None:
        self.config = pgqrs.Config.from_dsn(dsn)
        self.admin = pgqrs.Admin(self.config)
        self.producer = pgqrs.Producer(self.config, "bench")
        self.consumer = pgqrs.Consumer(self.config, "bench")

    def close(self) -> None:
        for each in (self.consumer, self.producer, self.admin):
            each.close()

    def empty(self) -> None:
        with self.admin.pool.connect() as connection:
            connection.execute(text("DELETE FROM pgqrs.pgqrs_messages"))

    def enqueue_one(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                self.producer.enqueue(BODY)
        self.empty()

    def enqueue_one_async(self, watch: Watch, n: int) -> None:
        async def act() -> None:
            async with AsyncProducer(self.config, "bench") as producer:
                await producer.enqueue(BODY)
                with watch.running():
                    for _ in range(n):
                        await producer.enqueue(BODY)

        asyncio.run(act())
        self.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        bodies = [BODY] * 1000
        with watch.running():
            for _ in range(n // 1000):
                self.producer.batch_enqueue(bodies)
        self.empty()

    def one_by_one(self, watch: Watch, n: int) -> None:
        self.producer.batch_enqueue([BODY] * n)
        with watch.running():
            for _ in range(n):
                message = self.consumer.dequeue()
                assert message is not None
                _ = message.payload
                self.consumer.archive(message)

    def drain(self, watch: Watch, n: int) -> None:
        self.producer.batch_enqueue([BODY] * n)
        with watch.running():
            while messages := self.consumer.dequeue_batch(100):
                for message in messages:
                    _ = message.payload
                assert all(self.consumer.archive_batch(messages))

    def running(self, **options: Any) -> Callable[[Watch, int], None]:
        """Drain by `run`, with a handler that reads the payload."""

        def act(watch: Watch, n: int) -> None:
            self.producer.batch_enqueue([BODY] * n)
            left = n

            def handle(given: Any) -> None:
                nonlocal left
                messages = given if isinstance(given, list) else [given]
                for message in messages:
                    _ = message.payload
                left -= len(messages)
                if left <= 0:
                    self.consumer.stop()

            with watch.running():
                report = self.consumer.run(handle, **options)
            assert report.completed == n, report

        return act


def main(dsn: str) -> None:
    """Answer with the public API."""
    ours = Ours(dsn)
    figures: dict[str, Figure] = {
        "enqueue one": ours.enqueue_one,
        "enqueue one, asyncio": ours.enqueue_one_async,
        "enqueue 1000": ours.enqueue_batch,
        "lease and archive one": ours.one_by_one,
        "drain by 100": ours.drain,
        "run, batches of 100": ours.running(batch_size=100),
        "run, 1 at a time": ours.running(concurrency=1),
        "run, 8 at a time": ours.running(concurrency=8),
        "run, 64 at a time": ours.running(concurrency=64),
    }
    answer(figures, ours.close)


if __name__ == "__main__":
    main(sys.argv[1])
