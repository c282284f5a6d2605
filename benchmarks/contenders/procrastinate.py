"""procrastinate: one job for each message, its worker with `wait=False`."""

from __future__ import annotations

import asyncio
import sys

import procrastinate  # type: ignore[import-not-found]

from benchmarks.contenders.answering import BODY, Watch, answer


def work(body: object) -> None:
    """Do nothing with the payload, which is decoded by then."""


def main(dsn: str) -> None:
    """Answer with procrastinate's public API."""
    sync = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn))
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    tasks = {each: each.task(name="work", queue="bench")(work) for each in (sync, app)}
    sync.open()
    sync.schema_manager.apply_schema()

    def empty() -> None:
        sync.connector.execute_query("DELETE FROM procrastinate_jobs")

    def enqueue_one(watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                tasks[sync].defer(body=BODY)
        empty()

    def fill(n: int) -> None:
        for _ in range(max(n // 1000, 1)):
            tasks[sync].batch_defer(*[{"body": BODY}] * min(n, 1000))

    def enqueue_batch(watch: Watch, n: int) -> None:
        with watch.running():
            fill(n)
        empty()

    def run(watch: Watch, n: int, concurrency: int) -> None:
        fill(n)

        async def act() -> None:
            async with app.open_async():
                with watch.running():
                    await app.run_worker_async(
                        queues=["bench"],
                        concurrency=concurrency,
                        wait=False,
                        install_signal_handlers=False,
                        listen_notify=False,
                    )

        asyncio.run(act())
        empty()

    figures = {
        "enqueue one": enqueue_one,
        "enqueue 1000": enqueue_batch,
        "run, 1 at a time": lambda watch, n: run(watch, n, 1),
        "run, 8 at a time": lambda watch, n: run(watch, n, 8),
        "run, 64 at a time": lambda watch, n: run(watch, n, 64),
    }
    answer(figures, sync.close)


if __name__ == "__main__":
    main(sys.argv[1])
