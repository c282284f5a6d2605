"""The Rust project whose name pgqrs shares, from PyPI, through its asyncio API.

Its rate limit for producers is off, as in its own benchmarks. A consumer of it runs one handler at
a time, so n at a time are n consumers.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.contenders.answering import BODY, FEW, MANY, Figure, Watch, answer

ROOT = Path(__file__).parents[2]
PARK = """
INSERT INTO pgqrs_messages (queue_id, payload, vt)
SELECT q.id, %s, now() + interval '1 day' FROM pgqrs_queues q, generate_series(1, %s)
"""


def imported() -> Any:
    """Give the module installed in this environment, not the one of the same name beside us."""
    sys.path[:] = [each for each in sys.path if Path(each).resolve() != ROOT]
    return importlib.import_module("pgqrs")


pgqrs = imported()


class Upstream:
    """One store, with a producer and a consumer of one queue."""

    def __init__(self, dsn: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.connection = psycopg.connect(dsn, autocommit=True)
        # Its driver wants a host in the URL, even beside the directory of a socket.
        config = pgqrs.Config(dsn.replace("@/", "@localhost/"))
        config.max_enqueue_per_second = config.max_enqueue_burst = None
        self.do(self.connect(config))

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def connect(self, config: Any) -> None:
        self.store = await pgqrs.connect_with(config)
        await self.store.bootstrap()
        with suppress(pgqrs.QueueAlreadyExistsError):
            await self.store.queue("bench")
        self.producer = await self.store.producer("bench")
        self.consumer = await self.store.consumer("bench")

    def close(self) -> None:
        self.connection.close()
        self.loop.close()

    def empty(self) -> None:
        self.connection.execute("DELETE FROM pgqrs_messages")

    async def add(self, n: int) -> None:
        for first in range(0, n, 1000):
            await pgqrs.enqueue_batch(self.producer, [BODY] * min(n - first, 1000))

    async def enqueue_one(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                await self.producer.enqueue(BODY)

    async def enqueue_batch(self, watch: Watch, n: int) -> None:
        with watch.running():
            await self.add(n)

    async def one_by_one(self, watch: Watch, n: int) -> None:
        await self.add(n)
        with watch.running():
            for _ in range(n):
                (message,) = await self.consumer.dequeue(batch_size=1)
                _ = message.payload
                assert await self.consumer.archive(message.id)

    async def drain(self, watch: Watch, size: int) -> int:
        done = 0
        with watch.running():
            while messages := await self.consumer.dequeue(batch_size=size):
                for message in messages:
                    _ = message.payload
                assert all(await self.consumer.archive_many([each.id for each in messages]))
                done += len(messages)
        return done

    async def drain_few(self, watch: Watch, n: int) -> None:
        await self.add(n)
        assert await self.drain(watch, FEW) == n

    async def drain_many(self, watch: Watch, n: int) -> None:
        await self.add(n)
        assert await self.drain(watch, MANY) == n

    def running(self, consumers: int, batch: int = 1) -> Callable[[Watch, int], Awaitable[None]]:
        """Drain by its own loop, each consumer with a handler that reads the payloads."""

        async def act(watch: Watch, n: int) -> None:
            await self.add(n)
            left = n
            workers = [await self.store.consumer("bench") for _ in range(consumers)]

            async def handle(given: Any) -> None:
                nonlocal left
                messages = given if isinstance(given, list) else [given]
                for message in messages:
                    _ = message.payload
                left -= len(messages)
                if left <= 0:
                    for each in workers:
                        await each.interrupt()

            with watch.running():
                await asyncio.gather(*(self.poll(each, handle, batch) for each in workers))
            assert left == 0, left

        return act

    async def poll(self, worker: Any, handle: Any, batch: int) -> None:
        loop = pgqrs.dequeue().worker(worker).batch(batch).poll_interval(10)
        try:
            await (loop.handle_batch if batch > 1 else loop.handle)(handle).poll(self.store)
        except pgqrs.PgqrsError as error:
            if "interrupted" not in str(error):
                raise

    def emptied(self, act: Callable[[Watch, int], Any]) -> Figure:
        """Make a figure that leaves no messages."""

        def figure(watch: Watch, n: int) -> None:
            self.do(act(watch, n))
            self.empty()

        return figure

    def fill(self, watch: Watch, n: int) -> None:
        self.connection.execute("DELETE FROM pgqrs_messages WHERE archived_at IS NOT NULL")
        self.do(self.enqueue_batch(watch, n))

    def share(self, watch: Watch, _n: int) -> None:
        watch.extra["done"] = self.do(self.drain(watch, MANY))

    def park(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.connection.execute(PARK, (Jsonb(BODY), n))


def main(dsn: str) -> None:
    """Answer with its public API."""
    peer = Upstream(dsn)
    figures: dict[str, Figure] = {
        "enqueue one": peer.emptied(peer.enqueue_one),
        "enqueue one, asyncio": peer.emptied(peer.enqueue_one),
        "enqueue 1000": peer.emptied(peer.enqueue_batch),
        "lease and archive one": peer.emptied(peer.one_by_one),
        "drain by 100": peer.emptied(peer.drain_few),
        "drain by 500": peer.emptied(peer.drain_many),
        "run, batches of 100": peer.emptied(peer.running(1, batch=FEW)),
        "run, batches of 500": peer.emptied(peer.running(1, batch=MANY)),
        "run, 1 at a time": peer.emptied(peer.running(1)),
        "run, 8 at a time": peer.emptied(peer.running(8)),
        "run, 64 at a time": peer.emptied(peer.running(64)),
        "fill": peer.fill,
        "share": peer.share,
        "park": peer.park,
    }
    answer(figures, peer.close)


if __name__ == "__main__":
    main(sys.argv[1])
