"""pgmq: its SQL functions alone, from the file that its Python package brings, sent by psycopg.

SQL is its public interface, and one round trip a call is the best it can have. It runs no handlers.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
from typing import Any

import psycopg

from benchmarks.contenders.answering import BODY, Figure, Watch, answer

SEND = "SELECT * FROM pgmq.send('bench', %s::jsonb)"
SEND_BATCH = "SELECT * FROM pgmq.send_batch('bench', %s::text[]::jsonb[])"
PARK = "SELECT * FROM pgmq.send_batch('bench', %s::text[]::jsonb[], 86400)"
READ = "SELECT msg_id, message FROM pgmq.read('bench', 30, %s)"
ARCHIVE = "SELECT pgmq.archive('bench', %s::bigint)"
ARCHIVE_BATCH = "SELECT * FROM pgmq.archive('bench', %s::bigint[])"


class Queue:
    """One connection in autocommit, statements prepared by the server."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=1)
        if self.rows("SELECT to_regnamespace('pgmq')") == [(None,)]:
            functions = importlib.resources.files("pgmq.sql").joinpath("pgmq.sql").read_bytes()
            self.connection.execute(functions)
            self.rows("SELECT pgmq.create('bench')")

    def rows(self, statement: str, *values: Any) -> list[Any]:
        return self.connection.execute(statement.encode(), values).fetchall()

    def empty(self) -> None:
        self.connection.execute("TRUNCATE pgmq.q_bench, pgmq.a_bench")

    def add(self, n: int, statement: str = SEND_BATCH) -> None:
        for first in range(0, n, 1000):
            texts = [json.dumps(BODY) for _ in range(min(n - first, 1000))]
            assert len(self.rows(statement, texts)) == len(texts)

    def take(self, watch: Watch) -> int:
        """Read and archive until the queue is empty; gives how many."""
        done = 0
        with watch.running():
            while rows := self.rows(READ, 100):
                kept = self.rows(ARCHIVE_BATCH, [row[0] for row in rows])
                assert len(kept) == len(rows)
                done += len(rows)
        return done

    def enqueue_one(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                self.rows(SEND, json.dumps(BODY))
        self.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.add(n)
        self.empty()

    def one_by_one(self, watch: Watch, n: int) -> None:
        self.add(n)
        with watch.running():
            for _ in range(n):
                ((mid, _message),) = self.rows(READ, 1)
                assert self.rows(ARCHIVE, mid) == [(True,)]
        self.empty()

    def drain(self, watch: Watch, n: int) -> None:
        self.add(n)
        assert self.take(watch) == n
        self.empty()

    def fill(self, watch: Watch, n: int) -> None:
        self.connection.execute("TRUNCATE pgmq.a_bench")
        with watch.running():
            self.add(n)

    def share(self, watch: Watch, _n: int) -> None:
        watch.extra["done"] = self.take(watch)

    def park(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.add(n, PARK)


def main(dsn: str) -> None:
    """Answer with pgmq's functions."""
    queue = Queue(dsn)
    figures: dict[str, Figure] = {
        "enqueue one": queue.enqueue_one,
        "enqueue 1000": queue.enqueue_batch,
        "lease and archive one": queue.one_by_one,
        "drain by 100": queue.drain,
        "fill": queue.fill,
        "share": queue.share,
        "park": queue.park,
    }
    answer(figures, queue.connection.close)


if __name__ == "__main__":
    main(sys.argv[1])
