"""From the moment before a message is enqueued until its handler begins in another process.

That process is idle in between: there are 50 messages a second, and one handler.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.asking import Contender
from benchmarks.results import Book, Result, percentile
from benchmarks.stage import Stage

__all__ = ["measure", "steady"]

RATE = 50
SKIPPED = 25
"""Messages of the first half second, while the worker may still be starting."""


def measure(stage: Stage) -> list[Result]:
    """Take the samples of all contenders in turns, and the percentiles of all samples."""
    latencies: dict[str, list[float]] = {}
    with ExitStack() as stack:
        pairs = started(stage, stack)
        parts = stage.scale.few
        for number in range(parts):
            for sender, worker in pairs:
                stage.tell(f"time to wake, part {number + 1} of {parts}: {worker.name}")
                n = -(-stage.scale.samples // parts)
                seen = steady(sender, worker, RATE, n + SKIPPED)
                late = [1000 * (at - sent) for place, sent, at in seen if place >= SKIPPED]
                latencies.setdefault(worker.name, []).extend(late)
    book = Book("waking")
    for name, values in latencies.items():
        book.add("half of them within", name, "ms", percentile(values, 0.5))
        book.add("99 % within", name, "ms", percentile(values, 0.99))
    return book.results


def started(stage: Stage, stack: ExitStack) -> list[tuple[Contender, Contender]]:
    """Start a sender and a worker of each kind that can, on a database of its own."""
    workers = stack.enter_context(stage.contenders("pace", "await"))
    return [
        (stack.enter_context(stage.contender(stage.kind(each.name), each.dsn)), each)
        for each in workers
    ]


def steady(
    sender: Contender, worker: Contender, rate: float, n: int
) -> list[tuple[int, float, float]]:
    """Send messages at a rate; gives number, instant of sending and of handling for each."""
    worker.put("await", n)
    sender.ask("pace", n, rate=rate)
    seen: list[tuple[int, float, float]] = worker.answer()["seen"]
    return seen
