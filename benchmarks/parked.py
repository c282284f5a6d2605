"""A drain by one process on a clean queue, beside parked rows, and with a snapshot held as well.

Parked are a million archived and a million delayed messages. The snapshot is that of somebody
else's transaction, idle all the while, so that VACUUM cleans nothing. Of peers, those take part
that park a million delayed messages within half a minute; they have nothing archived. Whoever is
slow drains fewer messages, and so meets fewer dead rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from benchmarks.asking import Contender
from benchmarks.processes import shared, sized
from benchmarks.results import Book, Result
from benchmarks.stage import Stage

__all__ = ["measure"]

ARCHIVED = """
INSERT INTO pgqrs.pgqrs_archive (id, queue_id, vt, enqueued_at, dequeued_at, archived_at,
  read_ct, returned_ct, priority, status, payload)
SELECT nextval('pgqrs.pgqrs_messages_id_seq'), q.id, now(), now(), now(), now(), 1, 0, 0,
  'completed', jsonb_build_object('text', repeat('x', 188))
FROM pgqrs.pgqrs_queues q, generate_series(1, %s) WHERE q.queue_name = 'bench'
"""
DELAYED = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, state, vt, enqueued_at, payload)
SELECT q.id, 1, now() + interval '1 day', now(), jsonb_build_object('text', repeat('x', 188))
FROM pgqrs.pgqrs_queues q, generate_series(1, %s) WHERE q.queue_name = 'bench'
"""
PATIENCE = 30.0
"""Seconds within which the API of a peer must have parked its messages."""
CLEAN, PARKED, HELD = "clean", "parked rows", "parked rows and a held snapshot"


def measure(stage: Stage) -> list[Result]:
    """Drain the same in all three settings in each round."""
    book = Book("parked")
    with ExitStack() as stack:
        pairs = started(stage, stack)
        sizes = [min(sized(stage, [one], stage.scale.drained) for one in pair) for pair in pairs]
        for number in stage.rounds(stage.scale.rounds, "parked rows"):
            for (clean, full), n in zip(pairs, sizes, strict=True):
                stage.tell(f"parked rows, round {number}: {clean.name}")
                rates = {
                    CLEAN: drained(stage, clean, n, held=False),
                    PARKED: drained(stage, full, n, held=False),
                    HELD: drained(stage, full, n, held=True),
                }
                for figure, rate in rates.items() if number else ():
                    book.add(figure, clean.name, "/s", rate, CLEAN)
    return book.results


def started(stage: Stage, stack: ExitStack) -> list[tuple[Contender, Contender]]:
    """Start who can take part, on a clean database and on one with parked rows.

    Not who keeps nothing: it would only leave more dead rows to the others. Ours share both
    databases, for never are two of them at work; peers have their own.
    """
    pairs = []
    for ours in (True, False):
        figures = ("fill", "share") if ours else ("fill", "share", "park")
        groups = [
            stack.enter_context(
                stage.contenders(*figures, dsn=stage.database() if ours else None, ours=ours)
            )
            for _ in range(2)
        ]
        pairs += [two for two in zip(*groups, strict=True) if stage.kind(two[0].name).keeps]
    parked: dict[str, bool] = {}
    for _, full in pairs:
        if full.dsn not in parked:
            parked[full.dsn] = park(stage, full)
    return [pair for pair in pairs if parked[pair[1].dsn]]


def park(stage: Stage, one: Contender) -> bool:
    """Put the parked rows in; says whether that was possible in reasonable time."""
    n = stage.scale.parked
    stage.tell(f"parking {n:,} messages for {one.name}")
    if "park" in one.figures:
        sample = n // 100
        if one.ask("park", sample)["seconds"] * 100 > PATIENCE:
            return False
        one.ask("park", n - sample)
    else:
        stage.execute(one.dsn, ARCHIVED, (n,))
        stage.execute(one.dsn, DELAYED, (n,))
    stage.execute(one.dsn, "VACUUM ANALYZE")  # as autovacuum would, some time later
    return True


def drained(stage: Stage, one: Contender, n: int, *, held: bool) -> float:
    """Drain, with or without a held snapshot; gives messages a second."""
    with snapshot(one.dsn) if held else ExitStack():
        return shared(stage, [one], "share", n)


@contextmanager
def snapshot(dsn: str) -> Iterator[None]:
    """Hold a snapshot of the database in a transaction that is idle."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT 1 FROM pg_class LIMIT 1")
        yield
        connection.rollback()
