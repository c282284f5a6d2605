"""`pgqrs worker run` with several queues and processes: signals, deaths, the status line."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import until

import pgqrs
from pgqrs import Admin, Producer

COMMAND = [sys.executable, "-W", "error", "-m", "pgqrs", "worker", "run"]
HANDLERS = """
import os, pathlib, time
import pgqrs

def quick(message):
    time.sleep(0.002)
    return [message.payload, os.getpid()]

def counted(message):
    with open("handled", "a") as file:
        file.write(f"{message.id}\\n")
    time.sleep(0.01)

def stuck(message):
    pathlib.Path(f"began-{message.id}").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)

def fails(message):
    raise LookupError("no such thing")
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, admin: Admin) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    admin.create_queue("a")
    admin.create_queue("b")


def send(admin: Admin, queue: str, count: int) -> None:
    with Producer(admin, queue) as producer:
        producer.batch_enqueue(range(count))


@contextmanager
def worker(
    dsn: str, folder: Path, *words: str, errors: Any = subprocess.PIPE, **settings: str
) -> Iterator[subprocess.Popen[str]]:
    """Start the command in a process group of its own; nothing of it is left behind."""
    environment = {**os.environ, "PGQRS_DSN": dsn, "PGQRS_SHUTDOWN_TIMEOUT_SECONDS": "10"}
    environment |= settings
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        process_group=0,
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def members(parent: int) -> list[int]:
    """Give the processes that a process started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def is_there(pid: int) -> bool:
    """Say whether a process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def archived(admin: Admin) -> int:
    return sum(each.archived for each in admin.all_queues_metrics(exact=True))


def locked(admin: Admin) -> int:
    return sum(each.locked for each in admin.all_queues_metrics())


TWO = ("--queue", "a", "--queue", "b", "--processes", "2", "--format", "json")
STUCK = (*TWO, "--prefetch", "0")


def test_several_queues_and_processes(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """Each process works on each queue, and the summary is the sum of all."""
    send(admin, "a", 300)
    send(admin, "b", 300)
    with worker(dsn, tmp_path, "mine:quick", *TWO, "--prefetch", "1") as process:
        until(lambda: archived(admin) >= 300)
        until(lambda: len({w.pid for w in admin.workers("a") if w.role == "consumer"}) == 2)
        send(admin, "a", 100)
        until(lambda: archived(admin) == 700)
        process.terminate()
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert json.loads(out)["completed"] == 700
    consumers = [each for each in admin.workers() if each.role == "consumer"]
    assert len({each.pid for each in consumers}) == 2
    assert {each.status for each in consumers} == {pgqrs.WorkerStatus.STOPPED}


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_signal_in_the_middle_of_load(
    dsn: str, admin: Admin, tmp_path: Path, *, whole_group: bool
) -> None:
    """One signal, to the parent or to all its group, ends all in good order: nothing is leased."""
    send(admin, "a", 3000)
    with worker(dsn, tmp_path, "mine:counted", *TWO, "--concurrency", "2") as process:
        until(lambda: archived(admin) >= 50)
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.terminate()
        out, errors = process.communicate(timeout=15)
    assert process.returncode == 0, errors
    report = json.loads(out)
    assert report["still_running"] == []
    assert locked(admin) == 0
    handled = (tmp_path / "handled").read_text().split()
    assert len(handled) == len(set(handled)) == report["completed"] == archived(admin) < 3000
    assert all(each.attempts == 0 for each in pgqrs.Messages(admin).list(limit=3000))


def stops(count: int, folder: Path) -> bool:
    """Say whether the command told that it is stopping, so many times."""
    return (folder / "errors").read_text().count("INFO stopping: ") == count


def test_a_signal_to_the_group_lets_handlers_finish(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """A member that hears of one signal twice, from its parent too, waits all the same."""
    send(admin, "a", 4)
    with (
        (tmp_path / "errors").open("w") as errors,
        worker(dsn, tmp_path, "mine:stuck", *STUCK, errors=errors) as process,
    ):
        until(lambda: len(list(tmp_path.glob("began-*"))) == 2)
        os.killpg(process.pid, signal.SIGINT)
        until(lambda: stops(1, tmp_path))
        for pid in members(process.pid):
            os.kill(pid, signal.SIGTERM)
        (tmp_path / "go").touch()
        out, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    # A member may lease once more before its own thread for signals hears of them.
    began = len(list(tmp_path.glob("began-*")))
    assert json.loads(out)["completed"] == began >= 2
    assert admin.queue_metrics("a").pending == 4 - began
    assert locked(admin) == 0


def test_a_second_signal_ends_at_once(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """It does not wait for handlers; they are named, and the status is 1."""
    send(admin, "a", 2)
    with (
        (tmp_path / "errors").open("w") as errors,
        worker(dsn, tmp_path, "mine:stuck", *STUCK, errors=errors) as process,
    ):
        until(lambda: len(list(tmp_path.glob("began-*"))) == 2)
        process.terminate()
        until(lambda: stops(1, tmp_path))
        process.terminate()
        out, _ = process.communicate(timeout=5)
    assert process.returncode == 1
    assert len(json.loads(out)["still_running"]) == 2
    assert stops(2, tmp_path)


def test_a_member_that_is_killed_is_replaced(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """Another takes its place, and what it held is done when its leases run out."""
    send(admin, "a", 1000)
    settings = {"PGQRS_DEFAULT_LOCK_TIME_SECONDS": "1", "PGQRS_POLL_INTERVAL_SECONDS": "0.2"}
    with worker(dsn, tmp_path, "mine:counted", *TWO, **settings) as process:
        until(lambda: archived(admin) >= 50)
        first = members(process.pid)
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(set(members(process.pid)) - {first[0]}) == 2)
        until(lambda: archived(admin) == 1000, seconds=60)
        process.terminate()
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 0, errors
    assert re.search(rf"process {first[0]} ended with status -9; another takes its place", errors)
    assert errors.count("takes its place") == 1


def test_a_member_that_is_told_to_end_is_replaced(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """A signal to one member alone has it end in good order, and its place is taken."""
    send(admin, "a", 4)
    with worker(dsn, tmp_path, "mine:stuck", *STUCK) as process:
        until(lambda: len(list(tmp_path.glob("began-*"))) == 2)
        one, other = members(process.pid)
        os.kill(one, signal.SIGTERM)
        (tmp_path / "go").touch()
        until(lambda: archived(admin) == 4)
        until(lambda: len(set(members(process.pid)) - {one}) == 2)
        assert other in members(process.pid)
        process.terminate()
        out, errors = process.communicate(timeout=15)
    assert process.returncode == 0, errors
    assert json.loads(out)["completed"] == 4
    assert f"process {one} ended with status 0; another takes its place" in errors


def test_members_end_when_the_parent_is_killed(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """They notice, finish what they have at hand, and give back the rest."""
    send(admin, "a", 3000)
    with worker(dsn, tmp_path, "mine:counted", *TWO, errors=subprocess.DEVNULL) as process:
        until(lambda: archived(admin) >= 50)
        left = members(process.pid)
        process.kill()
        until(lambda: not any(is_there(pid) for pid in left), seconds=10)
    assert locked(admin) == 0
    handled = (tmp_path / "handled").read_text().split()
    assert len(handled) == len(set(handled)) == archived(admin) < 3000


def test_what_no_member_can_do_is_an_error_of_the_command(
    dsn: str, admin: Admin, tmp_path: Path
) -> None:
    """A handler or queue that is not there ends it, with the sentence and status of one process."""
    assert admin.list_queues()
    (tmp_path / "broken.py").write_text("raise LookupError('no luck')")
    for words, status, said in (
        (("broken:work", *TWO), 1, "cannot be imported: LookupError: no luck"),
        (("mine:nix", *TWO), 2, "has no 'nix'"),
        (("mine:quick", *TWO, "--queue", "none"), 1, "none"),
        (("mine:quick", *TWO, "--queue", "a"), 2, "added before"),
    ):
        with worker(dsn, tmp_path, *words) as process:
            out, errors = process.communicate(timeout=30)
        assert (process.returncode, out) == (status, ""), errors
        assert said in errors
        assert ("Traceback" in errors) == ("LookupError" in said)
        assert "takes its place" not in errors


def test_failed_attempts_are_logged_by_the_command(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """A warning with the trace on standard error; and no status line where nobody looks."""
    with Producer(admin, "a") as producer:
        producer.enqueue(1, max_attempts=1)
    with worker(dsn, tmp_path, "mine:fails", "--queue", "a", "--queue", "b") as process:
        until(lambda: archived(admin) == 1)
        process.terminate()
        out, errors = process.communicate(timeout=15)
    assert (process.returncode, out) == (0, "completed 0 messages, 1 attempts failed\n")
    assert errors.count("WARNING") == 1
    assert "LookupError: no such thing" in errors
    assert "\r" not in errors
    assert "\x1b" not in errors


@pytest.mark.parametrize("processes", [1, 2])
def test_the_status_line(dsn: str, admin: Admin, tmp_path: Path, processes: int) -> None:
    """On a terminal a line on standard error says how it goes, and goes away at the end."""
    send(admin, "a", 20)
    ours, theirs = pty.openpty()
    shown: list[str] = []

    def read() -> None:
        with suppress(OSError):
            while data := os.read(ours, 4096):
                shown.append(data.decode())

    reader = threading.Thread(target=read)
    reader.start()
    words = ("mine:quick", "--queue", "a", "--queue", "b", "--processes", str(processes))
    settings = {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
    with worker(dsn, tmp_path, *words, errors=theirs, **settings) as process:
        os.close(theirs)
        counted = "1 process" if processes == 1 else "2 processes"
        line = rf"a, b  {counted}  20 done  \d+/s  0 failed  0 running"
        until(lambda: re.search(line, "".join(shown)))
        process.terminate()
        out, _ = process.communicate(timeout=15)
    reader.join(10)
    os.close(ours)
    assert process.returncode == 0
    assert out == "completed 20 messages, 0 attempts failed\n"
    assert "".join(shown).endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))


def test_json_has_no_status_line(dsn: str, tmp_path: Path) -> None:
    """With `--format json` a terminal gets no line either."""
    ours, theirs = pty.openpty()
    words = ("mine:quick", "--queue", "a", "--format", "json")
    with worker(dsn, tmp_path, *words, errors=theirs, TERM="xterm") as process:
        os.close(theirs)
        with Admin(pgqrs.Config.from_dsn(dsn)) as admin:
            until(lambda: admin.workers("a"))
        process.terminate()
        out, _ = process.communicate(timeout=15)
    with suppress(OSError):
        assert b"\x1b" not in os.read(ours, 4096)
    os.close(ours)
    assert json.loads(out)["completed"] == 0
