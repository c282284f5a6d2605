"""The other floor: our own statements in a bare loop over a held SQLAlchemy connection.

What the library adds to it (checks, the ledger, values, the pool) is the difference.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, create_engine, text

from benchmarks.contenders.answering import BODY, FEW, MANY, Figure, Watch, answer
from pgqrs import Config, Consumer
from pgqrs.engines import options_of
from pgqrs.statements.acknowledge import archive_many, archive_one
from pgqrs.statements.enqueue import enqueue_many, enqueue_one
from pgqrs.statements.lease import lease
from pgqrs.statements.turn import finish_and_lease

SPAN = dt.timedelta(seconds=30)

Leased = tuple[int, int, object]


class Core:
    """One connection in autocommit, and the parameters that the library would give."""

    def __init__(self, dsn: str) -> None:
        config = Config.from_dsn(dsn)
        self.engine = create_engine(config.url, **options_of(config))
        self.connection = self.engine.connect()
        self.consumer = Consumer(self.engine, "bench", config=config)
        self.consumer.heartbeat()
        worker = self.consumer.worker_id
        self.acting = {"worker": worker, "outcome": "completed"}
        self.sending = {"queue": "bench", "rank": 0, "phase": 0, "delay": dt.timedelta()}
        self.sending |= {"attempts": None, "worker": worker, "kind": None}
        self.sending |= {"rings": False, "channel": "pgqrs_floor"}
        queue = self.connection.scalar(text("SELECT id FROM pgqrs.pgqrs_queues"))
        self.leasing = {"queue": queue, "worker": worker, "timeout": None}
        self.leasing |= {"default_timeout": SPAN, "default_attempts": 5}
        self.one, self.many, self.take = (
            each("pgqrs") for each in (enqueue_one, enqueue_many, lease)
        )
        self.keep, self.keep_one = archive_many("pgqrs"), archive_one("pgqrs")
        self.turn = finish_and_lease("pgqrs")

    def close(self) -> None:
        self.connection.close()
        self.consumer.close()
        self.engine.dispose()

    def empty(self) -> None:
        self.connection.execute(text("DELETE FROM pgqrs.pgqrs_messages"))

    def fill(self, n: int) -> None:
        for begun in range(0, n, 1000):
            texts = "[" + ",".join(json.dumps(BODY) for _ in range(min(n - begun, 1000))) + "]"
            self.connection.execute(self.many, {**self.sending, "json": texts}).all()

    def dequeue(self, n: int) -> list[Leased]:
        return leased(self.connection.execute(self.take, {**self.leasing, "n": n}).all())

    def archive(self, rows: list[Leased]) -> None:
        given = {**fences(rows), **self.acting}
        assert len(self.connection.execute(self.keep, given).all()) == len(rows)

    def archive_and_dequeue(self, rows: list[Leased]) -> list[Leased]:
        said = {"outcomes": ["completed"], "results": [None], "reasons": [None]}
        given = {**fences(rows), **said, **self.leasing, "n": 1}
        found = self.connection.execute(self.turn, given).all()
        assert found[0][-1] is None  # all were held
        return leased(found)

    def drain(self, size: int, most: int | None = None) -> int:
        done = 0
        while done != most and (rows := self.dequeue(size)):
            self.archive(rows)
            done += len(rows)
        return done


def leased(rows: Sequence[Row[Any]]) -> list[Leased]:
    """Decode the messages of a lease."""
    return sorted((row.id, row.read_ct, json.loads(row.payload)) for row in rows if row.id)


def fences(rows: list[Leased]) -> dict[str, list[int]]:
    """Give ids and read counts apart."""
    return {"mids": [row[0] for row in rows], "rcs": [row[1] for row in rows]}


class Answers:
    """The figures of this floor."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def enqueue_one(self, watch: Watch, n: int) -> None:
        core = self.core
        with watch.running():
            for _ in range(n):
                core.connection.execute(core.one, {**core.sending, "json": json.dumps(BODY)}).one()
        core.empty()

    def enqueue_batch(self, watch: Watch, n: int) -> None:
        with watch.running():
            self.core.fill(n)
        self.core.empty()

    def one_by_one(self, watch: Watch, n: int) -> None:
        core = self.core
        core.fill(n)
        with watch.running():
            for _ in range(n):
                ((mid, rc, _payload),) = core.dequeue(1)
                given = {"mid": mid, "rc": rc, "result": None, **core.acting}
                core.connection.execute(core.keep_one, given).one()

    def fused(self, watch: Watch, n: int) -> None:
        self.core.fill(n)
        with watch.running():
            rows = self.core.dequeue(1)
            for _ in range(n):
                rows = self.core.archive_and_dequeue(rows)
        assert not rows

    def drain(self, watch: Watch, n: int) -> None:
        self.core.fill(n)
        self.take(watch, n)

    def drain_many(self, watch: Watch, n: int) -> None:
        self.core.fill(n)
        self.take(watch, n, MANY)

    def take(self, watch: Watch, n: int, size: int = FEW) -> None:
        with watch.running():
            assert self.core.drain(size, n) == n

    def share(self, watch: Watch, _: int) -> None:
        with watch.running():
            watch.extra["done"] = self.core.drain(MANY)


def main(dsn: str) -> None:
    """Answer with our statements alone."""
    core = Core(dsn)
    answers = Answers(core)
    figures: dict[str, Figure] = {
        "enqueue one": answers.enqueue_one,
        "enqueue 1000": answers.enqueue_batch,
        "lease and archive one": answers.one_by_one,
        "fused": answers.fused,
        "drain by 100": answers.drain,
        "drain by 500": answers.drain_many,
        "take": answers.take,
        "fill": lambda _, n: core.fill(n),
        "share": answers.share,
    }
    answer(figures, core.close)


if __name__ == "__main__":
    main(sys.argv[1])
