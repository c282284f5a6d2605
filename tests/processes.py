"""Worker and producer processes on one database, what they wrote down, and what the judge says.

Each writes down what it sends, what it is answered and what its handlers do: see `run_client`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from history import REST, Deed, Operation, Row, faults, read, read_deeds
from run_client import LIMIT, QUEUE, Orders, leases_of, run, work
from send_client import Sending, produce
from sqlalchemy import Engine, create_engine, make_url
from waiting import ask, until

from pgqrs import Admin, Config

OTHERS = "datname = current_database() AND application_name = 'pgqrs'"
BACKENDS = f"SELECT pid FROM pg_stat_activity WHERE {OTHERS}"
CONNECTIONS = f"SELECT count(*) FROM pg_stat_activity WHERE {OTHERS}"
DONE = 30
"""Seconds in which the work is finished when nothing breaks any more."""


PRELOAD = [
    "history_client",
    "run_client",
    "send_client",
    "pgqrs.running",
    "pgqrs.runner",
    "sqlalchemy.dialects.postgresql.psycopg",
]


@cache
def forks() -> ForkServerContext:
    """Give what starts processes that have everything imported.

    Before Python 3.12 the server of forks does not know our `sys.path`, and says nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


@dataclass
class Crowd:
    """Processes on one database, and what they wrote down."""

    dsn: str
    """Of the workers; producers may have another way to the same database."""
    folder: Path
    engine: Engine
    logs: list[Path] = field(default_factory=list)
    processes: list[Any] = field(default_factory=list)
    sends_to: str | None = None

    def worker(self, **orders: Any) -> Any:
        return self._start(work, self.dsn, Orders(**orders))

    def producer(self, count: int = 100_000, pause: float = 0.0, **orders: Any) -> Any:
        sending = Sending(count, pause, **orders)
        return self._start(produce, self.sends_to or self.dsn, str(len(self.logs)), sending)

    def _start(self, entry: Callable[..., None], dsn: str, *arguments: Any) -> Any:
        path = self.folder / f"{len(self.logs)}.jsonl"
        process = forks().Process(target=run, args=(entry, dsn, path, *arguments))
        process.start()
        self.logs.append(path)
        self.processes.append(process)
        return process

    def archived(self) -> int:
        return int(ask(self.engine, "SELECT count(*) FROM pgqrs.pgqrs_archive"))

    def left(self) -> int:
        return int(ask(self.engine, "SELECT count(*) FROM pgqrs.pgqrs_messages"))

    def until_more(self, count: int = 40) -> None:
        """Wait until so many more are archived: the work goes on."""
        least = self.archived() + count
        until(lambda: self.archived() >= least, DONE)

    def until_done(self) -> None:
        """Wait until the queue is empty."""
        until(lambda: not self.left(), DONE)

    def finish(
        self, producers: Sequence[Any], workers: Sequence[Any], but_for: Sequence[str] = ()
    ) -> list[Row]:
        """Have all end in good order, when everything is done, and find no fault."""
        self.stop(*producers)
        self.until_done()
        self.stop(*workers)
        return self.judge(but_for)

    def stop(self, *processes: Any) -> None:
        """Have processes end in good order."""
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(DONE)
            assert process.exitcode == 0, self.errors()

    def errors(self) -> list[str]:
        return [path.read_text() for path in self.folder.glob("*.err")]

    def forgive(self, reason: str) -> int:
        """Expect that processes ended by an error for this reason; gives how many."""
        ended = list(self.folder.glob("*.err"))
        for path in ended:
            assert reason in path.read_text()
            path.unlink()
        return len(ended)

    def operations(self) -> list[Operation]:
        return [each for number in range(len(self.logs)) for each in self.operations_of(number)]

    def operations_of(self, number: int) -> list[Operation]:
        """Give what the process with this number did, and its forked children."""
        mine = [self.logs[number], *self.folder.glob(f"{number}-*.jsonl")]
        logs = [path for log in mine for path in (log, leases_of(log)) if path.exists()]
        return [operation for log in logs for operation in read(log)]

    def deeds(self) -> list[Deed]:
        return [deed for path in sorted(self.folder.glob("*.deeds")) for deed in read_deeds(path)]

    def ends(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.end"))]

    def said(self, level: str) -> list[str]:
        """Give what was logged of the run, but for the attempts that fail on purpose."""
        logs = [path.read_text() for path in sorted(self.folder.glob("*.log"))]
        lines = [line for log in logs for line in log.splitlines() if line.startswith(level)]
        return [each for each in lines if "pgqrs.run:" in each and "LookupError" not in each]

    def rest(self) -> list[Row]:
        with self.engine.connect() as connection:
            return [Row(*row) for row in connection.execute(REST)]

    def judge(self, but_for: Sequence[str] = ()) -> list[Row]:
        """Find no fault, but for these; gives what is at rest."""
        assert self.errors() == [], "processes that failed"
        rest, operations, deeds = self.rest(), self.operations(), self.deeds()
        found = faults(operations, rest, LIMIT, deeds)
        faulty = [each for each in found if not each.startswith(tuple(but_for))]
        assert faulty == [], faulty[:5]
        known = {each for operation in operations for each in operation.ids}
        completed = {row.id for row in rest if row.status == "completed"}
        assert known <= completed, "what was enqueued is completed"
        assert len(completed) == len(rest)
        return rest

    def kill(self) -> None:
        """End them all without a word."""
        for process in self.processes:
            process.kill()
            process.join()

    def close(self) -> None:
        self.kill()
        for process in self.processes:
            process.close()


def install(dsn: str) -> None:
    """Put the tables and the queue there."""
    with Admin(Config.from_dsn(dsn)) as admin:
        admin.install()
        admin.create_queue(QUEUE)


@contextmanager
def crowd_on(dsn: str, folder: Path) -> Iterator[Crowd]:
    """Give processes on a server of the test's own that has pgqrs; none is left behind."""
    url = make_url(dsn).set(drivername="postgresql+psycopg")
    engine = create_engine(url, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
    crowd = Crowd(dsn, folder, engine)
    try:
        yield crowd
    finally:
        crowd.close()
        engine.dispose()


def enqueue(crowd: Crowd, count: int) -> None:
    """Have a producer send so many, and end."""
    producer = crowd.producer(count)
    producer.join(DONE)
    assert producer.exitcode == 0, crowd.errors()
