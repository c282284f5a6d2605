"""More work than can be done, with readers in the way: it is made up for, and nothing is lost.

How late leases are then, and how many rows are dead, is measured by `benchmarks.pressure`; what a
lease reads among dead rows is bounded in `test_floor`, and the share of a queue in `test_several`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from processes import Crowd
from sqlalchemy import Engine, text
from waiting import ask, until

ONCE = text(
    "SELECT count(*) = count(DISTINCT id) FROM (SELECT id FROM pgqrs.pgqrs_messages"
    " UNION ALL SELECT id FROM pgqrs.pgqrs_archive) AS places"
)
LEFT = "SELECT count(*) FROM pgqrs.pgqrs_messages"


@contextmanager
def readers(engine: Engine, count: int) -> Iterator[list[bool]]:
    """Have so many read all there is in transactions that overlap, each of one instant.

    Gives what each look found: whether every message was in one place.
    """
    over, found = threading.Event(), list[bool]()
    snapshots = engine.execution_options(isolation_level="REPEATABLE READ")

    def read(place: int) -> None:
        over.wait(place * 0.1)
        while not over.is_set():
            with snapshots.begin() as connection:
                found.append(bool(connection.scalar(ONCE)))
                over.wait(0.4)
                found.append(bool(connection.scalar(ONCE)))

    crew = [threading.Thread(target=read, args=(place,)) for place in range(count)]
    for one in crew:
        one.start()
    try:
        yield found
    finally:
        over.set()
        for one in crew:
            one.join()


def press(crowd: Crowd, seconds: float) -> None:
    """Send half as much again as a worker can do, under four readers; then let it catch up."""
    worker = crowd.worker(concurrency=2, seconds=0.02, lease=1)
    with readers(crowd.engine, 4) as found:
        until(lambda: found)
        producer = crowd.producer(pause=20 / 150)
        crowd.until_more()
        time.sleep(seconds)
        most = ask(crowd.engine, LEFT)
        crowd.finish([producer], [worker])
    assert most > seconds * 10, "it was more than can be done"
    assert all(found)
    assert len(found) > 4 * seconds


def test_more_than_can_be_done(crowd: Crowd) -> None:
    """Half as much again as the worker can do, and four readers: the backlog is made up for."""
    press(crowd, 2)


@pytest.mark.soak
def test_more_than_can_be_done_for_long(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for half a minute."""
    monkeypatch.setattr("processes.DONE", 60)
    press(crowd, 30)
