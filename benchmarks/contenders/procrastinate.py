"""procrastinate: one job for each message, its worker with `wait=False`.

A backlog is analyzed before it is run, as autovacuum does in time: its queries are slower without.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import procrastinate  # type: ignore[import-not-found]

from benchmarks.contenders.answering import BODY, Figure, Seen, Watch, answer, instants

INSTALLED = "SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS found"
FORGET = "DELETE FROM procrastinate_jobs WHERE status NOT IN ('todo', 'doing')"


class Peer:
    """An app that adds jobs, and another that runs them."""

    def __init__(self, dsn: str) -> None:
        self.done: list[int] = []  # appending is safe in the threads that tasks run in
        self.heard: Callable[[dict[str, Any]], None] = lambda _: None
        self.sync = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn))
        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
        tasks = [app.task(name="work", queue="bench")(self.work) for app in (self.sync, self.app)]
        self.task = tasks[0]
        self.sync.open()
        if not self.sync.connector.execute_query_one(INSTALLED)["found"]:
            self.sync.schema_manager.apply_schema()

    def work(self, body: dict[str, Any]) -> None:
        """Only look at the payload, which is decoded by then."""
        self.done.append(len(body))
        self.heard(body)

    def empty(self) -> None:
        self.sync.connector.execute_query("DELETE FROM procrastinate_jobs")

    def add(self, n: int, **options: Any) -> None:
        for first in range(0, n, 1000):
            bodies = [{"body": BODY}] * min(n - first, 1000)
            self.task.configure(**options).batch_defer(*bodies)

    def backlog(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.add(n)
        self.sync.connector.execute_query("ANALYZE procrastinate_jobs")

    def drain(self, watch: Watch, concurrency: int) -> int:
        """Run jobs until there are none that are due; gives how many."""
        self.done.clear()

        async def act() -> None:
            async with self.app.open_async():
                with watch.running():
                    await self.app.run_worker_async(
                        queues=["bench"],
                        concurrency=concurrency,
                        wait=False,
                        install_signal_handlers=False,
                        listen_notify=False,
                    )

        asyncio.run(act())
        return len(self.done)

    def enqueue_one(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                self.task.defer(body=BODY)
        self.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.add(n)
        self.empty()

    def running(self, concurrency: int) -> Figure:
        """Make a figure that runs jobs, so many at a time."""

        def act(watch: Watch, n: int) -> None:
            self.backlog(Watch(), n)
            assert self.drain(watch, concurrency) == n
            self.empty()

        return act

    def fill(self, watch: Watch, n: int) -> None:
        self.sync.connector.execute_query(FORGET)
        self.backlog(watch, n)

    def share(self, watch: Watch, _n: int) -> None:
        watch.extra["done"] = self.drain(watch, 8)

    def park(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.add(n, schedule_in={"days": 1})

    def wait(self, watch: Watch, n: int) -> None:
        """Run jobs as they come, one at a time, until the last was seen."""
        asyncio.run(self.until_last(Seen(watch, n)))
        self.heard = lambda _: None

    async def until_last(self, seen: Seen) -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def hear(body: dict[str, Any]) -> None:
            if seen.add(body):
                loop.call_soon_threadsafe(ended.set)

        self.heard = hear
        async with self.app.open_async():
            work = self.app.run_worker_async(queues=["bench"], install_signal_handlers=False)
            worker = asyncio.create_task(work)
            await ended.wait()
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker

    def pace(self, watch: Watch, n: int) -> None:
        for body in instants(watch, n):
            self.task.defer(body=body)


def main(dsn: str) -> None:
    """Answer with procrastinate's public API."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    peer = Peer(dsn)
    figures: dict[str, Figure] = {
        "enqueue one": peer.enqueue_one,
        "enqueue 1000": peer.enqueue_batch,
        "run, 1 at a time": peer.running(1),
        "run, 8 at a time": peer.running(8),
        "run, 64 at a time": peer.running(64),
        "fill": peer.fill,
        "share": peer.share,
        "pace": peer.pace,
        "await": peer.wait,
        "park": peer.park,
    }
    answer(figures, peer.sync.close)


if __name__ == "__main__":
    main(sys.argv[1])
