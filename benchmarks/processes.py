"""A backlog drained by several processes at once, each in its best batched way.

Who fetches batches takes 500 messages at a time, but PgQueuer 100: to it more give nothing. Beside
them is one process with 32 handlers at a time. The rate is that of all together, from the start to
the last one's end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.asking import Contender
from benchmarks.kinds import Kind
from benchmarks.results import Book, Result
from benchmarks.scale import portion
from benchmarks.stage import Stage

__all__ = ["measure", "shared", "sized"]

COMPARED = 4
"""The most processes of others than pgqrs."""
FIRST = "1 process"
SLOTS = "run, 32 at a time"


def measure(stage: Stage) -> list[Result]:
    """Measure each number of processes in each round."""
    book = Book("processes")
    with ExitStack() as stack:
        crews = [
            crew for kind in stage.able("fill", "share") if (crew := started(stage, stack, kind))
        ]
        sizes = [sized(stage, crew, stage.scale.shared) for crew in crews]
        for number in stage.rounds(stage.scale.rounds, "processes"):
            for crew, n in zip(crews, sizes, strict=True):
                _round(stage, crew, n, book if number else Book("warming up"))
    return book.results


def started(stage: Stage, stack: ExitStack, kind: Kind) -> list[Contender]:
    """Start processes of a contender on one database, or none where it cannot share."""
    most = max(n for n in stage.scale.processes if kind.name == "pgqrs" or n <= COMPARED)
    crew = [stack.enter_context(stage.contender(kind))]
    if not {"fill", "share"} <= crew[0].figures:
        return []
    dsn = crew[0].dsn
    crew += [stack.enter_context(stage.contender(kind, dsn)) for _ in range(most - 1)]
    return crew


def shared(stage: Stage, crew: Sequence[Contender], figure: str, n: int) -> float:
    """Have processes drain `n` messages together; gives messages a second."""
    stage.vacuum(crew[0].dsn)
    crew[0].ask("fill", n)
    begun = time.monotonic()
    for one in crew:
        one.put(figure, n)
    answers = [one.answer() for one in crew]
    ended = time.monotonic()
    if all("ended" in each for each in answers):  # it knew better when the last was done
        ended = max(each["ended"] for each in answers)
    done = sum(each["done"] for each in answers)
    if done != n:
        raise RuntimeError(f"{crew[0].name} did {done} of {n} messages")
    return n / (ended - begun)


def sized(stage: Stage, crew: Sequence[Contender], n: int) -> int:
    """Give how many of `n` messages the first of them drains in about two seconds."""
    sample = max(n // 20, 1)
    return portion(n, n / shared(stage, crew[:1], "share", sample), 2.0)


def _round(stage: Stage, crew: list[Contender], n: int, book: Book) -> None:
    name = crew[0].name
    ways = {"share": name, "share by run": f"{name}, run in batches"}
    for k in stage.scale.processes:
        if k > len(crew):
            continue
        stage.tell(f"processes: {k} of {name}")
        figure = f"{k} processes" if k > 1 else FIRST
        for way, who in ways.items():
            if way in crew[0].figures:
                stage.forget(name, crew[0].dsn)
                book.add(figure, who, "/s", shared(stage, crew[:k], way, n), FIRST)
    if SLOTS in crew[0].figures:
        stage.forget(name, crew[0].dsn)
        rate = n / crew[0].ask(SLOTS, n)["seconds"]
        book.add(FIRST, f"{name}, run with 32 slots", "/s", rate)
