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

from benchmarks.contenders.answering import BODY, Watch, answer

TEXT = json.dumps(BODY).encode()


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

    def forget(self) -> None:
        self.do(self.connection.execute("TRUNCATE pgqueuer_log"))

    async def add(self, n: int) -> None:
        for first in range(0, n, 1000):
            some = min(n - first, 1000)
            await self.queries.enqueue(["work"] * some, [TEXT] * some, [0] * some)

    async def drain(self, watch: Watch, batch: int) -> int:
        """Run jobs until there are none that are due; gives how many."""
        done = 0
        connection, own = await self.connect()
        pgq = PgQueuer(own)

        @pgq.entrypoint("work")
        async def work(job: Any) -> None:
            nonlocal done
            json.loads(job.payload)
            done += 1

        with watch.running():
            await pgq.qm.run(mode=QueueExecutionMode.drain, batch_size=batch)
        await connection.close()
        return done


def main(dsn: str) -> None:
    """Answer with PgQueuer's public API, on one event loop."""
    peer = Peer(dsn)

    def enqueue_one(watch: Watch, n: int) -> None:
        async def act() -> None:
            with watch.running():
                for _ in range(n):
                    await peer.queries.enqueue("work", json.dumps(BODY).encode())

        peer.do(act())
        peer.empty()

    def add(watch: Watch, n: int) -> None:
        async def act() -> None:
            with watch.running():
                await peer.add(n)

        peer.do(act())

    def enqueue_batch(watch: Watch, n: int) -> None:
        add(watch, n)
        peer.empty()

    def run(watch: Watch, n: int, batch: int) -> None:
        peer.do(peer.add(n))
        assert peer.do(peer.drain(watch, batch)) == n
        peer.empty()

    def fill(watch: Watch, n: int) -> None:
        peer.forget()
        add(watch, n)

    def share(watch: Watch, _n: int) -> None:
        watch.extra["done"] = peer.do(peer.drain(watch, 100))

    figures = {
        "enqueue one, asyncio": enqueue_one,
        "enqueue 1000": enqueue_batch,
        "run, 1 at a time": lambda watch, n: run(watch, n, 1),
        "run, 8 at a time": lambda watch, n: run(watch, n, 8),
        "run, 64 at a time": lambda watch, n: run(watch, n, 64),
        "fill": fill,
        "share": share,
    }
    answer(figures, peer.close)


if __name__ == "__main__":
    main(sys.argv[1])
