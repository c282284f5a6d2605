"""The floor: the plainest SQL on our schema, sent by psycopg alone.

It has our foreign keys and our NOTIFY policy (the INSERT carries it, at most each 10 ms), and
decodes each payload. It has no pause, no expiry, no delays, no workers.
"""

from __future__ import annotations

import json
import sys
import time

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.contenders.answering import BODY, Watch, answer

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
ARCHIVE = """
WITH gone AS (DELETE FROM pgqrs.pgqrs_messages m USING unnest(%s::bigint[], %s::int[]) u(id, rc)
  WHERE m.id = u.id AND m.read_ct = u.rc AND m.consumer_worker_id = 1
  RETURNING m.*)
INSERT INTO pgqrs.pgqrs_archive (id, queue_id, vt, enqueued_at, dequeued_at, archived_at,
  consumer_worker_id, read_ct, returned_ct, priority, status, payload)
SELECT id, queue_id, vt, enqueued_at, dequeued_at, clock_timestamp(), consumer_worker_id, read_ct,
  returned_ct, priority, 'completed', payload FROM gone RETURNING id
"""


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

    def enqueue(self) -> None:
        self.connection.execute(INSERT, (self.queue, Jsonb(BODY), self.rings())).fetchone()

    def enqueue_many(self, n: int) -> None:
        texts = [json.dumps(BODY) for _ in range(n)]
        self.connection.execute(INSERT_MANY, (self.queue, texts, self.rings())).fetchall()

    def lease(self, n: int) -> list[tuple[int, object, int, int]]:
        rows = self.connection.execute(LEASE, (self.queue, n)).fetchall()
        return sorted(rows, key=lambda row: (-row[3], row[0]))

    def archive(self, rows: list[tuple[int, object, int, int]]) -> None:
        ids, counts = [row[0] for row in rows], [row[2] for row in rows]
        assert len(self.connection.execute(ARCHIVE, (ids, counts)).fetchall()) == len(rows)


def main(dsn: str) -> None:
    """Answer with plain SQL."""
    floor = Floor(dsn)

    def enqueue_one(watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                floor.enqueue()
        floor.connection.execute("DELETE FROM pgqrs.pgqrs_messages")

    def enqueue_batch(watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n // 1000):
                floor.enqueue_many(1000)
        floor.connection.execute("DELETE FROM pgqrs.pgqrs_messages")

    def one_by_one(watch: Watch, n: int) -> None:
        floor.enqueue_many(n)
        with watch.running():
            for _ in range(n):
                floor.archive(floor.lease(1))

    def drain(watch: Watch, n: int) -> None:
        floor.enqueue_many(n)
        with watch.running():
            while rows := floor.lease(100):
                floor.archive(rows)

    figures = {
        "enqueue one": enqueue_one,
        "enqueue 1000": enqueue_batch,
        "lease and archive one": one_by_one,
        "drain by 100": drain,
    }
    answer(figures, floor.connection.close)


if __name__ == "__main__":
    main(sys.argv[1])
