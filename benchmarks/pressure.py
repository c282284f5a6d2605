"""A steady 200 messages a second to one worker, and what queues are pressed by in practice.

Somebody's transaction that stays idle with a snapshot; four readers of all rows in overlapping
transactions; half as much again as the worker can do, which ends, and is made up for; a burst,
drained; another queue of the same worker that is flooded. A lease is late from the instant at
which its message was enqueued, both by the server's clock; rows are dead until VACUUM came, as the
server's statistics have it, which are a second behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

import pgqrs
from benchmarks.asking import Contender
from benchmarks.contenders.answering import now
from benchmarks.parked import snapshot
from benchmarks.results import Book, Result
from benchmarks.stage import Stage

__all__ = ["measure"]

RATE = 200
FLOODED = "flooded"
READERS = 4
NOW = "SELECT clock_timestamp()"
LATE = """
SELECT 1000 * extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (
  ORDER BY a.dequeued_at - a.enqueued_at))::float
FROM pgqrs.pgqrs_archive a JOIN pgqrs.pgqrs_queues q ON q.id = a.queue_id
WHERE q.queue_name = 'bench' AND a.enqueued_at >= %s
"""
WAITING = """
SELECT count(*) FROM pgqrs.pgqrs_messages m JOIN pgqrs.pgqrs_queues q ON q.id = m.queue_id
WHERE q.queue_name = 'bench' AND m.state <> 1
"""
DEAD = "SELECT pg_stat_get_dead_tuples('pgqrs.pgqrs_messages'::regclass)"
FLOOD = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)
SELECT q.id, now(), now(), jsonb_build_object('text', repeat('x', 188), 'number', 0, 'at', 0)
FROM pgqrs.pgqrs_queues q, generate_series(1, %s) WHERE q.queue_name = 'flooded'
"""
BURST = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)
SELECT q.id, now(), now(), jsonb_build_object('text', repeat('x', 188), 'number', n - 1, 'at', %s)
FROM pgqrs.pgqrs_queues q, generate_series(1, %s) n WHERE q.queue_name = 'bench'
"""
READS = (
    "SELECT count(payload) FROM pgqrs.pgqrs_messages",
    "SELECT count(payload) FROM pgqrs.pgqrs_archive",
)


class Gauge:
    """Looks ten times a second how much waits, and how many rows are dead; keeps the most."""

    def __init__(self, dsn: str) -> None:
        self.waiting = self.dead = 0
        self._dsn = dsn
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look for as long as the block takes."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._over.wait(0.1):
                self.waiting = max(self.waiting, number(connection, WAITING))
                self.dead = max(self.dead, number(connection, DEAD))


def number(connection: psycopg.Connection, query: str) -> int:
    """Give the number that a query gives."""
    row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


class Press:
    """A sender and a worker with two queues on one server, pressed in one way after another."""

    def __init__(self, own: Stage, sender: Contender, worker: Contender) -> None:
        self.own = own
        self.sender = sender
        self.worker = worker
        self.dsn = sender.dsn

    def steady(self) -> float:
        """Nothing beside the steady work."""
        return self.flow()

    def held(self) -> float:
        """A snapshot is held all the while."""
        with snapshot(self.dsn):
            return self.flow()

    def read(self) -> float:
        """Readers of all there is, each in a transaction that sees one instant."""
        with readers(self.dsn, READERS):
            return self.flow()

    def overload(self) -> float:
        """Half as much again as the worker can do."""
        return self.flow(1.5 * RATE, takes=1 / RATE)

    def burst(self) -> float:
        """Twenty times as many as usual in a second, all at once, before the worker is there."""
        self.own.execute(self.dsn, BURST, (now(), 20 * RATE))
        self.worker.put("await", 20 * RATE)
        return self.made_up()

    def flood(self) -> float:
        """Another queue of the same worker has a hundred times as many messages."""
        n = round(RATE * self.own.scale.phase)
        self.own.execute(self.dsn, FLOOD, (100 * n,))
        late = self.send(n, RATE, figure="await beside")
        self.own.execute(self.dsn, "DELETE FROM pgqrs.pgqrs_messages")
        return late

    def flow(self, rate: float = RATE, takes: float = 0.0) -> float:
        """Send at a rate for the time that a phase takes."""
        return self.send(round(rate * self.own.scale.phase), rate, takes=takes)

    def send(self, n: int, rate: float, figure: str = "await", **more: float) -> float:
        """Send so many to the worker, at a rate."""
        self.worker.put(figure, n, **more)
        self.sender.ask("pace", n, rate=rate)
        return self.made_up()

    def made_up(self) -> float:
        """Wait for the worker; gives the seconds from the last sending to the last handling."""
        seen = self.worker.answer()["seen"]
        return max(at for _, _, at in seen) - max(sent for _, sent, _ in seen)


WAYS: dict[str, Callable[[Press], float]] = {
    "nothing else": Press.steady,
    "a held snapshot": Press.held,
    "four readers": Press.read,
    "1.5 times the load": Press.overload,
    "a burst": Press.burst,
    "another queue flooded": Press.flood,
}


def measure(stage: Stage) -> list[Result]:
    """Press in each way once in each round, on a server of its own."""
    book = Book("pressure")
    with stage.another() as own:
        kind, dsn = own.kind("pgqrs"), own.database()
        with pgqrs.Admin(pgqrs.Config.from_dsn(dsn)) as admin:
            admin.create_queue(FLOODED)
        with (
            own.contender(kind, dsn, "sender") as sender,
            own.contender(kind, dsn, "worker") as worker,
        ):
            press = Press(own, sender, worker)
            press.steady()  # which warms up
            for number in range(own.scale.few):
                for name in WAYS:
                    stage.tell(f"pressure, round {number + 1}: {name}")
                    note(book, name, press)
    return book.results


def note(book: Book, name: str, press: Press) -> None:
    """Press in one way, and note what that did to leases, to the backlog and to rows."""
    own, dsn, gauge = press.own, press.dsn, Gauge(press.dsn)
    own.execute(dsn, "VACUUM pgqrs.pgqrs_messages")
    begun = own.execute(dsn, NOW)
    with gauge.watching():
        made_up = WAYS[name](press)
    book.add("99 % leased within", name, "ms", own.execute(dsn, LATE, (begun,)))
    book.add("waiting, at most", name, "", gauge.waiting)
    book.add("all of it handled, after the last was sent, in", name, "ms", 1000 * made_up)
    book.add("dead rows, at most", name, "", gauge.dead)


@contextmanager
def readers(dsn: str, count: int) -> Iterator[None]:
    """Have so many read in transactions that overlap, so that there is always a snapshot."""
    over = threading.Event()

    def read(place: int) -> None:
        over.wait(place * 0.25)
        with psycopg.connect(dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            while not over.is_set():
                with connection.transaction():
                    for query in READS:
                        connection.execute(query.encode())
                    over.wait(1)

    crew = [threading.Thread(target=read, args=(place,)) for place in range(count)]
    for one in crew:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in crew:
            one.join()
