"""Worker processes that are killed, cut off and restarted under, and the queue keeps every promise.

Each process writes down what it sends, what it is answered and what its handlers do; the judge of
`history` says at the end whether that can have been. Faults of the network are in
`test_faults_network`, those of the server and its machine in `test_faults_server`.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Literal

import pytest
from processes import BACKENDS, CONNECTIONS, DONE, Crowd, crowd_on, enqueue, install
from run_client import POINTS
from send_client import POINTS as SENDING_POINTS
from sqlalchemy import Engine, text
from waiting import ask, until

from pgqrs.embedded import EmbeddedPostgres

STOPPED = {"before giving back", "after giving back"}
"""The points that a worker comes to when it is told to stop."""


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


def doom(crowd: Crowd, fatal: str) -> None:
    """Start a process that kills itself at this point."""
    if fatal in SENDING_POINTS:
        crowd.producer(pause=0.01, fatal=fatal)
        return
    slow = "extension" in fatal
    once = fatal in {*STOPPED, "maintenance begins"}
    seconds = 0.8 if slow else 0.3 if fatal in STOPPED else 0.002
    crowd.worker(fatal=fatal, lease=1, seconds=seconds, reached=1 if once else 2)


def die(crowd: Crowd, points: list[str]) -> None:
    """Have a process die at each of these points while others work on; all of it is finished."""
    producer, slow = crowd.producer(pause=0.05), crowd.worker(lease=1, seconds=0.05)
    for fatal in points:
        doom(crowd, fatal)
    doomed = list(zip(points, crowd.processes[2:], strict=True))
    told = [process for fatal, process in doomed if fatal in STOPPED]
    if told:
        crowd.until_more(100)
    for process in told:
        process.terminate()
    for fatal, process in doomed:
        process.join(DONE)
        assert process.exitcode == -signal.SIGKILL, (fatal, crowd.errors())
    quick = crowd.worker(lease=1)
    crowd.finish([producer], [slow, quick])


def test_killed_at_every_point(crowd: Crowd) -> None:
    """Processes die of SIGKILL, one at each point of their work; another one finishes all of it.

    What was acknowledged without the worker knowing of it is not handled again.
    """
    die(crowd, [*POINTS, *SENDING_POINTS])
    mine = crowd.operations_of(2 + list(POINTS).index("after an acknowledgement"))
    kept = {(row.id, row.read_ct) for row in crowd.rest()}
    cut = {f for o in mine if o.kind == "archive" and o.answered is None for f in o.fences}
    assert cut
    assert cut <= kept


@pytest.mark.soak
@pytest.mark.parametrize("fatal", [*POINTS, *SENDING_POINTS])
def test_killed_at(crowd: Crowd, fatal: str) -> None:
    """The same, with four processes that die at one and the same point."""
    die(crowd, [fatal] * 4)


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
    producer = crowd.producer(pause=0.1)
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
        assert "[SQL: " not in log.read_text(), "reasons are said in a line"
    for end in crowd.ends():
        assert end["still_running"] == []
        assert end["threads"] <= 8, "handlers, and the few that watch"
        assert end["descriptors"] <= 40


def test_connections_are_cut(crowd: Crowd) -> None:
    """Backends end five times a second: nothing is lost or leaks, and each outage is one line."""
    cut_off(crowd, 5)


@pytest.mark.soak
def test_connections_are_cut_at_length(crowd: Crowd) -> None:
    """The same for two minutes: nothing grows with time."""
    cut_off(crowd, 120)


Mode = Literal["fast", "immediate"]


def restart(folder: Path, mode: Mode, times: int) -> None:
    """Restart a server under two workers and a producer so often."""
    with EmbeddedPostgres() as server:
        install(server.dsn())
        with crowd_on(server.dsn(), folder) as crowd:
            workers = [crowd.worker(lease=1), crowd.worker(lease=1)]
            producer = crowd.producer(pause=0.05)
            for _ in range(times):
                crowd.until_more()
                server.restart(mode)
            crowd.until_more()
            crowd.finish([producer], workers)
            away = [line for line in crowd.said("WARNING") if "is away" in line]
            # An outage lasts until a whole turn went well: the next restart may fall into it.
            assert 0 < len(away) <= times * len(workers), "one line for an outage"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_restarts_under_processes(tmp_path: Path, mode: Mode) -> None:
    """After each of two restarts the work of all processes goes on, and nothing is lost."""
    restart(tmp_path, mode, 2)


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_restarts_often(tmp_path: Path, mode: Mode) -> None:
    """The same ten times in a row."""
    restart(tmp_path, mode, 10)
