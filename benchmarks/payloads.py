"""Batches enqueued and drained with payloads of growing size, of text that hardly compresses."""

from __future__ import annotations

from benchmarks.results import Book, Result
from benchmarks.stage import Stage

__all__ = ["measure"]

FIGURES = ("enqueue 1000", "drain by 100")
MOST = 10_000


def measure(stage: Stage) -> list[Result]:
    """Measure each size in each round."""
    book = Book("payloads")
    sizes = stage.scale.sizes
    with stage.contenders(*FIGURES, ours=True) as contenders:
        for number in stage.rounds(stage.scale.rounds, "payloads"):
            for figure in FIGURES:
                for size in sizes:
                    for one in contenders:
                        n = min(MOST, stage.scale.volume // size)
                        rate = n / one.ask(figure, n, size=size)["seconds"]
                        if number:
                            first = named(figure, sizes[0])
                            book.add(named(figure, size), one.name, "/s", rate, first)
    return book.results


def named(figure: str, size: int) -> str:
    """Name the figure of a size."""
    return f"{figure}, {size:,} bytes"
