"""A steady 200 messages a second from one process to one handler in another, and a fault amid them.

The worker's connections are terminated, the server is restarted, or it crashes and recovers.
Sending goes on, and what is refused is sent again. Messages are late from the instant they were
first sent; duplicates are those that were handled twice, as at-least-once delivery allows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.asking import Contender
from benchmarks.results import Book, Result, percentile
from benchmarks.stage import Stage
from benchmarks.waking import steady

__all__ = ["measure"]

RATE = 200
SETTLED = 0.2
"""Seconds of work after which what waited meanwhile is done."""
AWAY = 1.5
"""Seconds that are allowed for the fault itself, beside the steady work after it."""
TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'worker'
"""
DONE = "SELECT max(id) FROM pgqrs.pgqrs_archive"

Seen = list[tuple[int, float, float]]


def measure(stage: Stage) -> list[Result]:
    """Meet each fault once in each round, on a server of its own."""
    book = Book("faults")
    with stage.another() as own:
        faults: dict[str, Callable[[], object]] = {
            "connections terminated": lambda: terminate(own),
            "server restarted": own.server.restart,
            "server crashed": lambda: own.server.restart("immediate"),
        }
        kind, dsn = own.kind("pgqrs"), own.database()
        with (
            own.contender(kind, dsn, "sender") as sender,
            own.contender(kind, dsn, "worker") as worker,
        ):
            for number in range(stage.scale.few):
                for name, fault in faults.items():
                    stage.tell(f"after a fault, round {number + 1}: {name}")
                    note(book, name, stage.scale.phase, *met(own, sender, worker, fault))
    return book.results


def terminate(stage: Stage) -> None:
    """End the worker's connections."""
    if stage.execute(stage.server.dsn(), TERMINATE) < 1:
        raise RuntimeError("the worker had no connection")


def met(
    own: Stage, sender: Contender, worker: Contender, fault: Callable[[], object]
) -> tuple[Seen, float]:
    """Send steadily and let the fault happen; gives what was seen and when it began."""
    phase = own.scale.phase
    for each in (sender, worker):
        each.await_start()
    before = own.execute(sender.dsn, DONE)

    over = threading.Event()

    def strike() -> float:
        while own.execute(sender.dsn, DONE) == before and not over.wait(0.01):
            pass
        time.sleep(phase)
        struck = time.monotonic()
        fault()
        return struck

    with ThreadPoolExecutor(1) as pool:
        striking = pool.submit(strike)
        try:
            seen = steady(sender, worker, RATE, round((3 * phase + AWAY) * RATE))
        finally:
            over.set()
        return seen, striking.result()


def note(book: Book, fault: str, phase: float, seen: Seen, struck: float) -> None:
    """Note what the fault did."""
    before = [each for each in seen if struck - phase <= each[1] < struck - 0.1]
    flowing = struck + silence(seen, struck)
    after = [each for each in seen if each[1] >= flowing + SETTLED]
    handled = sum(1 for each in seen if flowing <= each[2] < flowing + phase)
    book.add("nothing handled for", fault, "ms", 1000 * (flowing - struck))
    book.add("handled after that", fault, "/s", handled / phase)
    book.add("99 % within, before the fault", fault, "ms", late(before))
    book.add("99 % within, shortly after that", fault, "ms", late(after))
    book.add("duplicates", fault, "", len(seen) - len({each[0] for each in seen}))


def silence(seen: Seen, struck: float) -> float:
    """Give the seconds from the fault until a message that was sent after it was handled."""
    return min(at for _, sent, at in seen if sent >= struck) - struck


def late(seen: Seen) -> float:
    """Give within which time 99 % were handled, in milliseconds."""
    return percentile([1000 * (at - sent) for _, sent, at in seen], 0.99)
