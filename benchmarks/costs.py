"""What one message costs: statements sent, bytes of WAL written, and CPU of the client.

On a server of its own without autovacuum; each figure begins after a checkpoint, so that the WAL
has the pages that it touches first in full. Statements are counted by pg_stat_statements, where
the server has that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from benchmarks.asking import Contender
from benchmarks.results import Book, Result
from benchmarks.stage import Stage
from pgqrs.errors import EmbeddedPostgresError

__all__ = ["measure"]

FIGURES = {
    "enqueue one": 2_000,
    "enqueue 1000": 20_000,
    "lease and archive one": 2_000,
    "fused": 2_000,
    "drain by 100": 20_000,
}
WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
CALLS = """
SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname <> current_database()
"""
COUNTING = "pg_stat_statements"


@dataclass
class Meter:
    """Reads the server's counters when a contender begins and ends what is timed."""

    connection: psycopg.Connection
    counting: bool
    wal: float = 0.0
    calls: float = 0.0

    def at_mark(self, mark: str) -> None:
        """Reset at the beginning, read at the end."""
        if mark == "begin":
            self.connection.execute("CHECKPOINT")
            self.wal = self._read(WAL)
            self.calls = self._read(CALLS) if self.counting else 0.0
        else:
            self.calls = self._read(CALLS) - self.calls if self.counting else 0.0
            self.wal = self._read(WAL) - self.wal

    def _read(self, query: str) -> float:
        row = self.connection.execute(query.encode()).fetchone()
        assert row is not None
        return float(row[0])


def measure(stage: Stage) -> list[Result]:
    """Measure the floors and pgqrs, one after the other on a quiet server."""
    book = Book("costs")
    with counting(stage) as (own, meter), own.contenders(*FIGURES, ours=True) as contenders:
        for number in own.rounds(stage.scale.rounds, "costs"):
            for figure, usual in FIGURES.items():
                for one in contenders:
                    counted = book if number else Book("warming up")
                    note(own, counted, meter, one, figure, stage.scale.messages(usual))
    return book.results


def note(own: Stage, book: Book, meter: Meter, one: Contender, figure: str, n: int) -> None:
    """Ask once, and note the costs of a message."""
    own.vacuum(one.dsn)
    one.put(figure, n, marks=True)
    cpu = one.answer(meter.at_mark)["cpu"]
    if meter.counting:
        book.add(f"{figure}: statements", one.name, "", meter.calls / n)
    book.add(f"{figure}: WAL", one.name, "B", meter.wal / n)
    book.add(f"{figure}: client CPU", one.name, "µs", 1e6 * cpu / n)


@contextmanager
def counting(stage: Stage) -> Iterator[tuple[Stage, Meter]]:
    """Start a quiet server that counts statements if it can."""
    try:
        with stage.another(autovacuum="off", shared_preload_libraries=COUNTING) as own:
            own.execute(own.server.dsn(), f"CREATE EXTENSION {COUNTING}")
            with psycopg.connect(own.server.dsn(), autocommit=True) as connection:
                yield own, Meter(connection, counting=True)
    except EmbeddedPostgresError:
        stage.tell(f"the server has no {COUNTING}: statements are not counted")
        with (
            stage.another(autovacuum="off") as own,
            psycopg.connect(own.server.dsn(), autocommit=True) as connection,
        ):
            yield own, Meter(connection, counting=False)
