"""pgmq by its own Python client, which brings its SQL: no extension is needed. It runs no handlers.

Payloads are decoded by psycopg as they arrive.
"""

from __future__ import annotations

import sys
from typing import Protocol

from pgmq import PGMQueue, install_pgmq_from_sql  # type: ignore[import-not-found,unused-ignore]
from psycopg_pool import ConnectionPool  # type: ignore[import-not-found,unused-ignore]

from benchmarks.contenders.answering import BODY, FEW, MANY, Figure, Watch, answer

__all__ = ["Answers"]

NAME = "bench"
DAY = 86400


class Queue(Protocol):
    """What the figures ask of pgmq."""

    def send(self) -> None: ...
    def send_batch(self, n: int, delay: int) -> int: ...
    def read(self, n: int) -> list[int]: ...
    def archive(self, mid: int) -> bool: ...
    def archive_batch(self, mids: list[int]) -> int: ...
    def truncate(self, *tables: str) -> None: ...


class Client:
    """The client on a pool of psycopg's."""

    def __init__(self, dsn: str) -> None:
        self.pool = ConnectionPool(dsn, min_size=1, max_size=2, open=True)
        with self.pool.connection() as connection:
            known = connection.execute("SELECT to_regnamespace('pgmq')").fetchone()
        if known == (None,):
            with self.pool.connection() as connection:
                install_pgmq_from_sql(conn=connection)
        self.queue = PGMQueue(pool=self.pool, init_extension=False)
        self.queue.create_queue(NAME)

    def send(self) -> None:
        self.queue.send(NAME, BODY)

    def send_batch(self, n: int, delay: int) -> int:
        return len(self.queue.send_batch(NAME, [BODY] * n, delay=delay or None))

    def read(self, n: int) -> list[int]:
        return [message.msg_id for message in self.queue.read_batch(NAME, vt=30, batch_size=n)]

    def archive(self, mid: int) -> bool:
        return bool(self.queue.archive(NAME, mid))

    def archive_batch(self, mids: list[int]) -> int:
        return len(self.queue.archive_batch(NAME, mids))

    def truncate(self, *tables: str) -> None:
        with self.pool.connection() as connection:
            connection.execute(f"TRUNCATE {', '.join(tables)}".encode())

    def close(self) -> None:
        self.pool.close()


class Answers:
    """The figures of pgmq, however it is asked."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    @property
    def figures(self) -> dict[str, Figure]:
        return {
            "enqueue one": self.enqueue_one,
            "enqueue 1000": self.enqueue_batch,
            "lease and archive one": self.one_by_one,
            "drain by 100": self.drain,
            "drain by 500": self.drain_many,
            "fill": self.fill,
            "share": self.share,
            "park": self.park,
        }

    def empty(self) -> None:
        self.queue.truncate("pgmq.q_bench", "pgmq.a_bench")

    def add(self, n: int, delay: int = 0) -> None:
        for first in range(0, n, 1000):
            size = min(n - first, 1000)
            assert self.queue.send_batch(size, delay) == size

    def take(self, watch: Watch, size: int) -> int:
        """Read and archive `size` at once until the queue is empty; gives how many."""
        done = 0
        with watch.running():
            while mids := self.queue.read(size):
                assert self.queue.archive_batch(mids) == len(mids)
                done += len(mids)
        return done

    def enqueue_one(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                self.queue.send()
        self.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.add(n)
        self.empty()

    def one_by_one(self, watch: Watch, n: int) -> None:
        self.add(n)
        with watch.running():
            for _ in range(n):
                (mid,) = self.queue.read(1)
                assert self.queue.archive(mid)
        self.empty()

    def drain(self, watch: Watch, n: int, size: int = FEW) -> None:
        self.add(n)
        assert self.take(watch, size) == n
        self.empty()

    def drain_many(self, watch: Watch, n: int) -> None:
        self.drain(watch, n, MANY)

    def fill(self, watch: Watch, n: int) -> None:
        self.queue.truncate("pgmq.a_bench")
        with watch.running():
            self.add(n)

    def share(self, watch: Watch, _n: int) -> None:
        watch.extra["done"] = self.take(watch, MANY)

    def park(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.add(n, DAY)


def main(dsn: str) -> None:
    """Answer with the client."""
    client = Client(dsn)
    answer(Answers(client).figures, client.close)


if __name__ == "__main__":
    main(sys.argv[1])
