"""The floor: the plainest SQL on our schema, sent by psycopg alone.

It has our foreign keys and our NOTIFY policy (the INSERT carries it, at most each 10 ms), and
decodes each payload. It has no pause, no expiry, no delays, no workers.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.contenders.answering import (
    BODY,
    FEW,
    MANY,
    Figure,
    Seen,
    Watch,
    answer,
    instants,
)

INSERT = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)
VALUES (%s, now(), now(), %s) RETURNING id, CASE WHEN %s THEN pg_notify('pgqrs_floor', '') END
"""
INSERT_MANY = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)
SELECT %s, now(), now(), value::jsonb FROM unnest(%s::text[]) WITH ORDINALITY AS t(value, place)
ORDER BY place RETURNING id, CASE WHEN %s THEN pg_notify('pgqrs_floor', '') END
"""
LEASE = """
UPDATE pgqrs.pgqrs_messages m SET state = 2, vt = clock_timestamp() + interval '30 s',
  read_ct = m.read_ct + 1, dequeued_at = clock_timestamp(), consumer_worker_id = 1
WHERE m.id = ANY (ARRAY(
  SELECT id FROM pgqrs.pgqrs_messages WHERE queue_id = %s AND state = 0
  ORDER BY priority DESC, id LIMIT (SELECT %s::bigint) FOR UPDATE SKIP LOCKED))
RETURNING m.id, m.payload, m.read_ct, m.priority
"""
TAKE_OUT = """
DELETE FROM pgqrs.pgqrs_messages m USING (SELECT %s::bigint[] AS ids, %s::int[] AS counts) given
  WHERE m.id = ANY (given.ids) AND m.read_ct = given.counts[array_position(given.ids, m.id)]
    AND m.consumer_worker_id = 1
  RETURNING m.*
"""
KEEP = """
INSERT INTO pgqrs.pgqrs_archive (id, queue_id, vt, enqueued_at, dequeued_at, archived_at,
  consumer_worker_id, read_ct, returned_ct, priority, status, payload)
SELECT id, queue_id, vt, enqueued_at, dequeued_at, clock_timestamp(), consumer_worker_id, read_ct,
  returned_ct, priority, 'completed', payload FROM gone RETURNING id
"""
ARCHIVE = f"WITH gone AS ({TAKE_OUT}) {KEEP}"
ARCHIVE_AND_LEASE = f"""
WITH gone AS ({TAKE_OUT}), kept AS ({KEEP}) {LEASE}, (SELECT count(*) FROM kept)
"""

Row = tuple[Any, ...]


class Floor:
    """One connection in autocommit, statements prepared by the server."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=1)
        row = self.connection.execute("SELECT id FROM pgqrs.pgqrs_queues").fetchone()
        assert row is not None
        self.queue = row[0]
        self.rung_at = 0.0

    def rings(self) -> bool:
        now = time.monotonic()
        if now - self.rung_at < 0.01:
            return False
        self.rung_at = now
        return True

    def enqueue(self, body: object = BODY) -> None:
        self.connection.execute(INSERT, (self.queue, Jsonb(body), self.rings())).fetchone()

    def enqueue_many(self, n: int) -> None:
        texts = [json.dumps(BODY) for _ in range(n)]
        self.connection.execute(INSERT_MANY, (self.queue, texts, self.rings())).fetchall()

    def fill(self, n: int) -> None:
        for begun in range(0, n, 1000):
            self.enqueue_many(min(n - begun, 1000))

    def lease(self, n: int) -> list[Row]:
        rows = self.connection.execute(LEASE, (self.queue, n)).fetchall()
        return sorted(rows, key=lambda row: (-row[3], row[0]))

    def archive(self, rows: list[Row]) -> None:
        assert len(self.connection.execute(ARCHIVE, fences(rows)).fetchall()) == len(rows)

    def archive_and_lease(self, rows: list[Row]) -> list[Row]:
        given = (*fences(rows), self.queue, 1)
        found = self.connection.execute(ARCHIVE_AND_LEASE, given).fetchall()
        assert all(row[4] == len(rows) for row in found)
        return found

    def drain(self, size: int, most: int | None = None) -> int:
        """Take `size` at once until `most` are done or the queue is empty; gives how many."""
        done = 0
        while done != most and (rows := self.lease(size)):
            self.archive(rows)
            done += len(rows)
        return done


def fences(rows: list[Row]) -> tuple[list[int], list[int]]:
    """Give ids and read counts apart."""
    return [row[0] for row in rows], [row[2] for row in rows]


class Answers:
    """The figures of the floor."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor

    def empty(self) -> None:
        self.floor.connection.execute("DELETE FROM pgqrs.pgqrs_messages")

    def enqueue_one(self, watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                self.floor.enqueue()
        self.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.floor.fill(n)
        self.empty()

    def one_by_one(self, watch: Watch, n: int) -> None:
        self.floor.fill(n)
        with watch.running():
            for _ in range(n):
                self.floor.archive(self.floor.lease(1))

    def fused(self, watch: Watch, n: int) -> None:
        self.floor.fill(n)
        with watch.running():
            rows = self.floor.lease(1)
            for _ in range(n):
                rows = self.floor.archive_and_lease(rows)
        assert not rows

    def drain(self, watch: Watch, n: int) -> None:
        self.floor.fill(n)
        self.take(watch, n)

    def drain_many(self, watch: Watch, n: int) -> None:
        self.floor.fill(n)
        self.take(watch, n, MANY)

    def take(self, watch: Watch, n: int, size: int = FEW) -> None:
        with watch.running():
            assert self.floor.drain(size, n) == n

    def share(self, watch: Watch, _: int) -> None:
        with watch.running():
            watch.extra["done"] = self.floor.drain(MANY)

    def pace(self, watch: Watch, n: int) -> None:
        for body in instants(watch, n):
            self.floor.enqueue(body)

    def wait(self, watch: Watch, n: int) -> None:
        connection = self.floor.connection
        connection.execute("LISTEN pgqrs_floor")
        seen, ended = Seen(watch, n), False
        while not ended:
            if rows := self.floor.lease(1):
                ended = seen.add(rows[0][1])
                self.floor.archive(rows)
            else:
                for _ in connection.notifies(timeout=1, stop_after=1):
                    pass
        connection.execute("UNLISTEN pgqrs_floor")


def main(dsn: str) -> None:
    """Answer with plain SQL."""
    floor = Floor(dsn)
    answers = Answers(floor)
    figures: dict[str, Figure] = {
        "enqueue one": answers.enqueue_one,
        "enqueue 1000": answers.enqueue_batch,
        "lease and archive one": answers.one_by_one,
        "fused": answers.fused,
        "drain by 100": answers.drain,
        "drain by 500": answers.drain_many,
        "take": answers.take,
        "fill": lambda _, n: floor.fill(n),
        "share": answers.share,
        "pace": answers.pace,
        "await": answers.wait,
    }
    answer(figures, floor.connection.close)


if __name__ == "__main__":
    main(sys.argv[1])
