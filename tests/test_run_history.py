"""Worker processes that are killed, cut off and restarted under, and the queue keeps every promise.

Each process writes down what it sends, what it is answered and what its handlers do; the judge of
`history` says at the end whether that can have been.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from history import REST, Deed, Operation, Row, faults, read, read_deeds
from run_client import LIMIT, POINTS, QUEUE, Orders, leases_of, produce, run, work
from sqlalchemy import Engine, create_engine, make_url, text
from waiting import ask, until

from pgqrs import Admin, Config
from pgqrs.embedded import EmbeddedPostgres

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["history_client", "run_client"])
OTHERS = "datname = current_database() AND application_name = 'pgqrs'"
CONNECTIONS = f"SELECT count(*) FROM pg_stat_activity WHERE {OTHERS}"
BACKENDS = f"SELECT pid FROM pg_stat_activity WHERE {OTHERS}"
DONE = 30
"""Seconds in which the work is finished when nothing breaks any more."""


@dataclass
class Crowd:
    """Processes on one database, and what they wrote down."""

    dsn: str
    folder: Path
    engine: Engine
    logs: list[Path] = field(default_factory=list)
    processes: list[Any] = field(default_factory=list)

    def worker(self, **orders: Any) -> Any:
        return self._start(work, Orders(**orders))

    def producer(self, count: int, pause: float = 0.0) -> Any:
        names = [f"{len(self.logs)}-{number}" for number in range(count)]
        return self._start(produce, names, pause)

    def _start(self, entry: Callable[..., None], *arguments: Any) -> Any:
        path = self.folder / f"{len(self.logs)}.jsonl"
        process = FORKS.Process(target=run, args=(entry, self.dsn, path, *arguments))
        process.start()
        self.logs.append(path)
        self.processes.append(process)
        return process

    def archived(self) -> int:
        return int(ask(self.engine, "SELECT count(*) FROM pgqrs.pgqrs_archive"))

    def left(self) -> int:
        return int(ask(self.engine, "SELECT count(*) FROM pgqrs.pgqrs_messages"))

    def until_done(self) -> None:
        """Wait until the queue is empty."""
        until(lambda: not self.left(), DONE)

    def stop(self, *processes: Any) -> None:
        """Have processes end in good order."""
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(DONE)
            assert process.exitcode == 0, self.errors()

    def errors(self) -> list[str]:
        return [path.read_text() for path in self.folder.glob("*.err")]

    def operations(self) -> list[Operation]:
        logs = [each for log in self.logs for each in (log, leases_of(log)) if each.exists()]
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

    def judge(self) -> list[Row]:
        """Find no fault; gives what is at rest."""
        assert self.errors() == []
        with self.engine.connect() as connection:
            rest = [Row(*row) for row in connection.execute(REST)]
        operations, deeds = self.operations(), self.deeds()
        assert faults(operations, rest, LIMIT, deeds) == []
        known = {each for operation in operations for each in operation.ids}
        completed = {row.id for row in rest if row.status == "completed"}
        assert known <= completed, "what was enqueued is completed"
        assert len(completed) == len(rest)
        return rest

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
            process.close()


@pytest.fixture
def crowd(dsn: str, tmp_path: Path, engine: Engine, admin: Admin) -> Iterator[Crowd]:
    """Processes on the fresh database; none is left behind."""
    admin.create_queue(QUEUE)
    admin.close()
    crowd = Crowd(dsn, tmp_path, engine)
    yield crowd
    crowd.close()


def enqueue(crowd: Crowd, count: int) -> None:
    producer = crowd.producer(count)
    producer.join(DONE)
    assert producer.exitcode == 0, crowd.errors()


def test_workers_side_by_side(crowd: Crowd) -> None:
    """With nothing broken each message is handled as often as it is tried, and no lease is lost."""
    crowd.worker(), crowd.worker()
    enqueue(crowd, 600)
    crowd.until_done()
    crowd.stop(*crowd.processes[:2])
    rest = crowd.judge()
    tried = {row.id: 2 if row.key.endswith("7") else 1 for row in rest}
    assert {row.id: row.read_ct for row in rest} == tried
    assert len([deed for deed in crowd.deeds() if deed.what == "start"]) == sum(tried.values())
    assert crowd.said("WARNING") == []


@pytest.mark.parametrize("fatal", POINTS)
def test_killed_at(crowd: Crowd, fatal: str) -> None:
    """A worker dies of SIGKILL at this point of its work; another one finishes all of it."""
    slow = "extension" in fatal
    enqueue(crowd, 100)
    doomed = crowd.worker(fatal=fatal, lease=1, seconds=1.5 if slow else 0.002, reached=2)
    doomed.join(DONE)
    assert doomed.exitcode == -signal.SIGKILL, crowd.errors()
    crowd.worker(lease=1, seconds=0.002)
    crowd.until_done()
    crowd.stop(crowd.processes[-1])
    rest = crowd.judge()
    if fatal == "after an acknowledgement":
        cut = [o for o in crowd.operations() if o.kind == "archive" and o.answered is None]
        kept = {(row.id, row.read_ct) for row in rest}
        assert cut, "it was acknowledged without the worker knowing of it"
        assert {fence for o in cut for fence in o.fences} <= kept, "and not handled again"


def test_a_worker_sleeps_past_its_leases(crowd: Crowd) -> None:
    """A worker is held for longer than its leases: others finish its work, and it changes none."""
    enqueue(crowd, 200)
    sleeper = crowd.worker(lease=1, seconds=0.1)
    until(crowd.archived)
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        crowd.worker(lease=1)
        crowd.until_done()
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    crowd.producer(20).join(DONE)
    crowd.until_done()
    crowd.stop(sleeper, crowd.processes[2])
    rest = crowd.judge()
    tries = sum(row.read_ct - row.returned_ct for row in rest)
    assert tries > len(rest) + sum(row.key.endswith("7") for row in rest), "some were taken over"


def cut(engine: Engine, chance: random.Random, seconds: float) -> int:
    """End two backends five times a second; gives how many in all."""
    ended = 0
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with engine.begin() as connection:
            found = connection.execute(text(f"{BACKENDS} ORDER BY pid")).scalars().all()
            for pid in chance.sample(found, min(len(found), 2)):
                connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                ended += 1
        pause.wait(0.2)
    return ended


def cut_off(crowd: Crowd, seconds: float) -> None:
    workers = [crowd.worker(lease=1), crowd.worker(lease=1)]
    producer = crowd.producer(100_000, 0.1)
    until(lambda: crowd.archived() > 0)
    ended = cut(crowd.engine, random.Random(1), seconds)
    assert ended > seconds * 2
    crowd.stop(producer)
    crowd.until_done()
    until(lambda: ask(crowd.engine, CONNECTIONS) == len(workers))
    crowd.stop(*workers)
    assert crowd.archived() >= 100
    crowd.judge()
    away = [line for line in crowd.said("WARNING") if "is away" in line]
    assert len(away) <= ended, "at most one line for an outage"
    assert len(crowd.said("WARNING")) <= 2 * ended
    for log in crowd.folder.glob("*.log"):
        assert "is away" in log.read_text(), "each lost the connection it listens on"
    for end in crowd.ends():
        assert end["still_running"] == []
        assert end["threads"] <= 8, "handlers, and the few that watch"
        assert end["descriptors"] <= 40


def test_connections_are_cut(crowd: Crowd) -> None:
    """Backends end five times a second: nothing is lost or leaks, and each outage is one line."""
    cut_off(crowd, 5)


@pytest.mark.soak
def test_connections_are_cut_at_length(crowd: Crowd) -> None:
    """The same for twenty seconds: nothing grows with time."""
    cut_off(crowd, 20)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_restarts_under_processes(tmp_path: Path, mode: Any) -> None:
    """After each of three restarts the work of all processes goes on, and nothing is lost."""
    with EmbeddedPostgres() as server:
        with Admin(Config.from_dsn(server.dsn())) as admin:
            admin.install()
            admin.create_queue(QUEUE)
        url = make_url(server.dsn()).set(drivername="postgresql+psycopg")
        engine = create_engine(url, pool_pre_ping=True)
        crowd = Crowd(server.dsn(), tmp_path, engine)
        try:
            workers = [crowd.worker(lease=1), crowd.worker(lease=1)]
            producer = crowd.producer(100_000, 0.05)
            for _ in range(3):
                before = crowd.archived()
                until(lambda before=before: crowd.archived() > before + 40, DONE)
                server.restart(mode)
            before = crowd.archived()
            until(lambda: crowd.archived() > before + 40, DONE)
            crowd.stop(producer)
            crowd.until_done()
            crowd.stop(*workers)
            crowd.judge()
            away = [line for line in crowd.said("WARNING") if "is away" in line]
            assert 3 <= len(away) <= 3 * len(workers), "one line for an outage"
        finally:
            crowd.close()
            engine.dispose()
