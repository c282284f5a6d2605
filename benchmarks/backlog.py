"""A drain by 100 at the head of backlogs of growing length, each filled up again after it."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.asking import Contender
from benchmarks.results import Book, Result
from benchmarks.stage import Stage

__all__ = ["measure"]

READY = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)
SELECT q.id, now(), now(), jsonb_build_object('text', repeat('x', 188))
FROM pgqrs.pgqrs_queues q, generate_series(1, %s) WHERE q.queue_name = 'bench'
"""


def measure(stage: Stage) -> list[Result]:
    """Drain a part of each backlog in each round."""
    book = Book("backlog")
    sizes = stage.scale.backlogs
    first = named(sizes[0])
    with ExitStack() as stack:
        filled = {size: started(stage, stack, size) for size in sizes}
        for number in stage.rounds(stage.scale.rounds, "backlogs"):
            for size, contenders in filled.items():
                for one in contenders:
                    rate = taken(stage, one, size)
                    if number:
                        book.add(named(size), one.name, "/s", rate, first)
    return book.results


def named(size: int) -> str:
    """Name the figure of a backlog."""
    return f"backlog of {size:,}"


def started(stage: Stage, stack: ExitStack, size: int) -> list[Contender]:
    """Fill a database with a backlog, and start who drains it."""
    dsn = stage.database()
    stage.tell(f"filling a backlog of {size:,}")
    stage.execute(dsn, READY, (size,))
    stage.execute(dsn, "VACUUM ANALYZE")
    return stack.enter_context(stage.contenders("take", dsn=dsn, ours=True))


def taken(stage: Stage, one: Contender, size: int) -> float:
    """Drain from the head, as often as it takes to see enough messages; gives the rate."""
    n = min(size, stage.scale.taken)
    times = -(-stage.scale.taken // n)
    seconds = 0.0
    for _ in range(times):
        seconds += one.ask("take", n)["seconds"]
        stage.execute(one.dsn, READY, (n,))
    return n * times / seconds
