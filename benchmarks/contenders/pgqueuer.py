"""PgQueuer: its queue manager in drain mode; payloads are its callers' to decode.

On psycopg a query may wait up to a second for the listener: it is measured on asyncpg. Drain mode
waits for delayed jobs too, so none are parked.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any

import asyncpg  # type: ignore[import-not-found]
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found]

from benchmarks.contenders.answering import BODY, FEW, Figure, Seen, Watch, answer, instants


class Peer:
    """One event loop, and a connection that adds jobs."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.loop = asyncio.new_event_loop()
        self.connection, driver = self.do(self.connect())
        self.queries = Queries(driver)
        if not self.do(self.queries.has_table("pgqueuer")):
            self.do(self.queries.install())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def connect(self) -> Any:
        connection = await asyncpg.connect(self.dsn)
        return connection, AsyncpgDriver(connection)

    def close(self) -> None:
        self.do(self.connection.close())

    def empty(self) -> None:
        self.do(self.connection.execute("TRUNCATE pgqueuer, pgqueuer_log"))

    async def add(self, n: int) -> None:
        for first in range(0, n, 1000):
            texts = [json.dumps(BODY).encode() for _ in range(min(n - first, 1000))]
            await self.queries.enqueue(["work"] * len(texts), texts, [0] * len(texts))

    async def drain(self, watch: Watch, batch: int) -> int:
        """Run jobs until there are none that are due; gives how many."""
        done = 0
        connection, own = await self.connect()
        pgq = PgQueuer(own)

        async def work(job: Any) -> None:
            nonlocal done
            json.loads(job.payload)
            done += 1

        pgq.entrypoint("work")(work)
        with watch.running():
            await pgq.qm.run(mode=QueueExecutionMode.drain, batch_size=batch)
        await connection.close()
        return done

    async def enqueue_each(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                await self.queries.enqueue("work", json.dumps(BODY).encode())

    async def enqueue_all(self, watch: Watch, n: int) -> None:
        with watch.running():
            await self.add(n)

    def enqueue_one(self, watch: Watch, n: int) -> None:
        self.do(self.enqueue_each(watch, n))
        self.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        self.do(self.enqueue_all(watch, n))
        self.empty()

    def running(self, batch: int) -> Figure:
        """Make a figure that runs jobs, so many at a time."""

        def act(watch: Watch, n: int) -> None:
            self.do(self.add(n))
            assert self.do(self.drain(watch, batch)) == n
            self.empty()

        return act

    def fill(self, watch: Watch, n: int) -> None:
        self.do(self.connection.execute("TRUNCATE pgqueuer_log"))
        self.do(self.enqueue_all(watch, n))

    def share(self, watch: Watch, _n: int) -> None:
        watch.extra["done"] = self.do(self.drain(watch, FEW))

    def wait(self, watch: Watch, n: int) -> None:
        """Run jobs as they come, one at a time, until the last was seen."""
        self.do(self.until_last(Seen(watch, n)))

    async def until_last(self, seen: Seen) -> None:
        connection, own = await self.connect()
        pgq = PgQueuer(own)

        async def work(job: Any) -> None:
            if seen.add(json.loads(job.payload)):
                pgq.shutdown.set()

        pgq.entrypoint("work")(work)
        await pgq.qm.run(batch_size=1)
        await connection.close()

    def pace(self, watch: Watch, n: int) -> None:
        for body in instants(watch, n):
            self.do(self.queries.enqueue("work", json.dumps(body).encode()))


def main(dsn: str) -> None:
    """Answer with PgQueuer's public API, on one event loop."""
    peer = Peer(dsn)
    figures: dict[str, Figure] = {
        "enqueue one, asyncio": peer.enqueue_one,
        "enqueue 1000": peer.enqueue_batch,
        "run, 1 at a time": peer.running(1),
        "run, 8 at a time": peer.running(8),
        "run, 64 at a time": peer.running(64),
        "fill": peer.fill,
        "share": peer.share,
        "pace": peer.pace,
        "await": peer.wait,
    }
    answer(figures, peer.close)


if __name__ == "__main__":
    main(sys.argv[1])
