"""Messages a second of one process, one call after the other, or by the contender's own worker.

"Fused" acknowledges a message and leases the next in one statement.
"""

from __future__ import annotations

from benchmarks.results import Book, Result
from benchmarks.scale import portion
from benchmarks.stage import Stage

__all__ = ["measure"]

FIGURES = {
    "enqueue one": 1_000,
    "enqueue one, asyncio": 1_000,
    "enqueue 1000": 40_000,
    "lease and archive one": 500,
    "fused": 500,
    "drain by 100": 20_000,
    "drain by 500": 20_000,
    "run, batches of 100": 20_000,
    "run, batches of 500": 20_000,
    "run, 1 at a time": 4_000,
    "run, 8 at a time": 8_000,
    "run, 64 at a time": 10_000,
}


def measure(stage: Stage) -> list[Result]:
    """Ask all contenders in turn, round after round, so that what disturbs one disturbs all."""
    book = Book("rates")
    with stage.contenders() as contenders:
        asked = {
            (figure, one): stage.scale.messages(usual)
            for figure, usual in FIGURES.items()
            for one in contenders
            if figure in one.figures
        }
        for number in stage.rounds(stage.scale.rounds, "rates"):
            for (figure, one), n in asked.items():
                stage.tell(f"rates, round {number}: {figure}, {one.name}")
                stage.vacuum(one.dsn)
                seconds = one.ask(figure, n)["seconds"]
                if number:
                    book.add(figure, one.name, "/s", n / seconds)
                else:
                    asked[figure, one] = portion(n, seconds)
    return book.results
