"""The other floor: our own statements in a bare loop over a held SQLAlchemy connection.

What the library adds to it (checks, the ledger, values, the pool) is the difference.
"""

from __future__ import annotations

import datetime as dt
import json
import sys

from sqlalchemy import create_engine, text

from benchmarks.contenders.answering import BODY, Watch, answer
from pgqrs import Config, Consumer
from pgqrs.statements.acknowledge import archive_many, archive_one
from pgqrs.statements.enqueue import enqueue_many, enqueue_one
from pgqrs.statements.lease import lease

SPAN = dt.timedelta(seconds=30)


def main(dsn: str) -> None:  # noqa: C901
    """Answer with our statements alone."""
    engine = create_engine(Config.from_dsn(dsn).url, isolation_level="AUTOCOMMIT")
    connection = engine.connect()
    consumer = Consumer(engine, "bench", config=Config.from_dsn(dsn))
    consumer.heartbeat()
    worker = consumer.worker_id
    queue = connection.scalar(text("SELECT id FROM pgqrs.pgqrs_queues"))
    envelope = {
        "queue": "bench",
        "rank": 0,
        "phase": 0,
        "delay": dt.timedelta(),
        "attempts": None,
        "worker": worker,
        "kind": None,
        "rings": False,
        "channel": "pgqrs_floor",
    }
    leasing = {"queue": queue, "worker": worker, "timeout": None}
    leasing |= {"default_timeout": SPAN, "default_attempts": 5}
    one, many = enqueue_one("pgqrs"), enqueue_many("pgqrs")
    take, keep, keep_one = lease("pgqrs"), archive_many("pgqrs"), archive_one("pgqrs")

    def add(n: int) -> None:
        texts = "[" + ",".join(json.dumps(BODY) for _ in range(n)) + "]"
        connection.execute(many, {**envelope, "json": texts}).all()

    def dequeue(n: int) -> list[tuple[int, int, object]]:
        rows = connection.execute(take, {**leasing, "n": n}).all()
        found = [(row.id, row.read_ct, json.loads(row.payload)) for row in rows if row.id]
        return sorted(found)

    def enqueue_each(watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n):
                connection.execute(one, {**envelope, "json": json.dumps(BODY)}).one()
        connection.execute(text("DELETE FROM pgqrs.pgqrs_messages"))

    def enqueue_batch(watch: Watch, n: int) -> None:
        with watch.running():
            for _ in range(n // 1000):
                add(1000)
        connection.execute(text("DELETE FROM pgqrs.pgqrs_messages"))

    def one_by_one(watch: Watch, n: int) -> None:
        add(n)
        with watch.running():
            for _ in range(n):
                ((mid, rc, _payload),) = dequeue(1)
                done = {"mid": mid, "rc": rc, "worker": worker}
                connection.execute(keep_one, done | {"outcome": "completed", "result": None}).one()

    def drain(watch: Watch, n: int) -> None:
        add(n)
        with watch.running():
            while rows := dequeue(100):
                fences = {"mids": [row[0] for row in rows], "rcs": [row[1] for row in rows]}
                kept = connection.execute(
                    keep, {**fences, "worker": worker, "outcome": "completed"}
                ).all()
                assert len(kept) == len(rows)

    def close() -> None:
        connection.close()
        consumer.close()
        engine.dispose()

    figures = {
        "enqueue one": enqueue_each,
        "enqueue 1000": enqueue_batch,
        "lease and archive one": one_by_one,
        "drain by 100": drain,
    }
    answer(figures, close)


if __name__ == "__main__":
    main(sys.argv[1])
