"""PgQueuer: its queries for enqueuing, its manager in drain mode for running."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import psycopg
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import PsycopgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found]

from benchmarks.contenders.answering import BODY, Watch, answer

TEXT = json.dumps(BODY).encode()


def main(dsn: str) -> None:  # noqa: C901
    """Answer with PgQueuer's public API, on one event loop."""
    loop = asyncio.new_event_loop()

    async def connect() -> Any:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        return connection, PsycopgDriver(connection)

    connection, driver = loop.run_until_complete(connect())
    queries = Queries(driver)
    loop.run_until_complete(queries.install())

    async def fill(n: int) -> None:
        for _ in range(max(n // 1000, 1)):
            some = min(n, 1000)
            await queries.enqueue(["work"] * some, [TEXT] * some, [0] * some)

    def empty() -> None:
        loop.run_until_complete(connection.execute("TRUNCATE pgqueuer, pgqueuer_log"))

    def enqueue_one(watch: Watch, n: int) -> None:
        async def act() -> None:
            with watch.running():
                for _ in range(n):
                    await queries.enqueue("work", json.dumps(BODY).encode())

        loop.run_until_complete(act())
        empty()

    def enqueue_batch(watch: Watch, n: int) -> None:
        async def act() -> None:
            with watch.running():
                await fill(n)

        loop.run_until_complete(act())
        empty()

    def run(watch: Watch, n: int, batch: int) -> None:
        async def act() -> None:
            await fill(n)
            other, own = await connect()
            pgq = PgQueuer(own)

            @pgq.entrypoint("work")
            async def work(job: Any) -> None:
                json.loads(job.payload)

            async with other:
                with watch.running():
                    await pgq.qm.run(mode=QueueExecutionMode.drain, batch_size=batch)

        loop.run_until_complete(act())
        empty()

    figures = {
        "enqueue one, asyncio": enqueue_one,
        "enqueue 1000": enqueue_batch,
        "run, 1 at a time": lambda watch, n: run(watch, n, 1),
        "run, 8 at a time": lambda watch, n: run(watch, n, 8),
        "run, 64 at a time": lambda watch, n: run(watch, n, 64),
    }
    answer(figures, lambda: loop.run_until_complete(connection.close()))


if __name__ == "__main__":
    main(sys.argv[1])
