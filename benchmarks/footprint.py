"""How long an import takes in a fresh process, and how much memory a worker takes.

An idle worker is compared with a process that did the same imports and nothing else. Streaming
enqueues an iterator with `atomic=False` and drains it again: the peak above what was in use before.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.asking import ROOT
from benchmarks.environments import command
from benchmarks.kinds import Kind
from benchmarks.results import Book, Result
from benchmarks.stage import Stage

__all__ = ["measure"]

IMPORTS = ("import sqlalchemy", "import pgqrs", "from pgqrs import Producer, Consumer")
TIMED = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"
ALONE = "benchmarks.contenders.resident"
MIB = 1 << 20


def measure(stage: Stage) -> list[Result]:
    """Measure imports in rounds, then memory once in each of a few."""
    book = Book("footprint")
    for number in stage.rounds(stage.scale.imports, "imports"):
        for statement in IMPORTS:
            seconds = float(printed("-c", TIMED.format(statement)))
            if number:
                book.add("time of an import", statement, "ms", 1000 * seconds)
    for number in range(stage.scale.few):
        stage.tell(f"memory, round {number + 1}")
        _note_memory(stage, book)
    return book.results


def printed(*arguments: str, given: str | None = None) -> str:
    """Run a fresh Python and give what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _note_memory(stage: Stage, book: Book) -> None:
    kind = Kind("pgqrs", tuple(command(sys.executable, "pgqrs_memory")), ours=True)
    with stage.contender(kind) as worker:
        idle = worker.ask("idle", 1, seconds=stage.scale.idle)
    alone = int(printed("-m", ALONE, given=json.dumps(idle["modules"])))
    above = idle["resident"] - alone
    book.add("memory of an idle worker", "pgqrs", "MiB", idle["resident"] / MIB)
    book.add("memory of an idle worker", "its imports alone", "MiB", alone / MIB)
    book.add("memory of an idle worker", "pgqrs above its imports", "MiB", above / MIB)
    n = stage.scale.streamed
    with stage.contender(kind) as worker:
        grown = worker.ask("stream", n)
    figure = f"peak of memory with {n:,} messages"
    book.add(figure, "pgqrs, enqueue from an iterator", "MiB", grown["enqueued"] / MIB)
    book.add(figure, "pgqrs, drain by 100", "MiB", grown["drained"] / MIB)
