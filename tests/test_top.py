"""`pgqrs top`: pictures of values at recorded sizes, and the loop in a terminal of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import URL, Engine, text
from waiting import until

from pgqrs import (
    Admin,
    Producer,
    QueueMetrics,
    SystemStats,
    TableStats,
    WorkerHealth,
    WorkerInfo,
    WorkerRole,
    WorkerStatus,
)
from pgqrs.cli.top.keys import keys_of
from pgqrs.cli.top.picture import PLAIN, picture, sparkline
from pgqrs.cli.top.view import KEPT_LOOKS, Measured, View

PICTURES = Path(__file__).parent / "pictures"
COMMAND = [sys.executable, "-W", "error", "-m", "pgqrs"]
AT = dt.datetime(2026, 3, 4, 12, 0, 5, tzinfo=dt.UTC)


def queue(number: int, name: str, **values: Any) -> QueueMetrics:
    given = {"paused": False, "pending": 0, "delayed": 0, "locked": 0, "archived": 0, "dead": 0}
    given |= {"oldest_pending_at": None, "oldest_pending_age": None, "limit": 10_000}
    return QueueMetrics(queue_id=number, queue_name=name, **{**given, **values})


def worker(number: int, queue_id: int, beat: float, held: int = 0, **values: Any) -> WorkerHealth:
    role, status = values.get("role", WorkerRole.CONSUMER), values.get("status", WorkerStatus.READY)
    info = WorkerInfo(number, queue_id, role, "app-1.internal", None, 4100 + number, status, AT, AT)
    return WorkerHealth(info, dt.timedelta(seconds=beat), beat < 60, held)


def measured(*queues: QueueMetrics, workers: tuple[WorkerHealth, ...] = ()) -> Measured:
    names = ("pending", "delayed", "locked", "archived", "dead")
    stats = SystemStats(
        schema="pgqrs",
        revision="pgqrs_0001",
        database="shop",
        server_version="18.1 (Debian 18.1-1)",
        queues=len(queues),
        paused_queues=sum(each.paused for each in queues),
        **{name: sum(getattr(each, name) for each in queues) for name in names},
        capped=any(each.capped for each in queues),
        oldest_pending_age=dt.timedelta(minutes=7),
        rate_in=sum(each.rate_in or 0 for each in queues),
        rate_out=sum(each.rate_out or 0 for each in queues),
        enqueued_total=123_456,
        removed_total=100_000,
        ready_workers=3,
        suspended_workers=1,
        stopped_workers=2,
        stale_workers=1,
        tables=(TableStats("pgqrs_messages", 10, 1_234, 7 * 2**20, 2**20, None, None),),
        by_queue=queues,
    )
    return Measured(AT, stats, workers)


def busy() -> View:
    """A view after some looks: a standing backlog, a paused queue, one that leaves no trace."""
    view = View(2.0)
    workers = (
        worker(7, 1, 2, held=20),
        worker(8, 1, 75, held=4),
        worker(9, 2, 1, status=WorkerStatus.SUSPENDED),
        worker(10, 1, 9, role=WorkerRole.PRODUCER),
    )
    for depth in (0, 100, 900, 2_500, 4_000, 7_000, 10_000):
        emails = queue(
            1,
            "emails",
            pending=depth,
            locked=24,
            archived=8_000,
            dead=3,
            rate_in=1_234.0,
            rate_out=96.25,
            oldest_pending_age=dt.timedelta(minutes=7),
            unhandled_types={"old_mail": 4},
        )
        reports = queue(2, "reports", paused=True, pending=12, delayed=5, rate_in=0.2, rate_out=0.0)
        quiet = queue(3, "queue with a very long name of no use at all to anybody", rate_in=None)
        view = view.looked(measured(emails, reports, quiet, workers=workers))
    return view


def drawn(view: View, width: int, height: int) -> str:
    out = Console(file=io.StringIO(), width=width, height=height, legacy_windows=False)
    with out.capture() as captured:
        out.print(picture(view, width, height))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()) + "\n"


@pytest.mark.parametrize(
    ("name", "view", "size"),
    [
        ("top-80", busy(), (80, 24)),
        ("top-160", busy(), (160, 40)),
        ("top-closer-80", replace(busy(), closer=True), (80, 24)),
        ("top-away-80", replace(busy().failed("no route\nto host"), read_only=True), (80, 24)),
        ("top-empty-80", View(1.0).looked(measured()), (80, 24)),
        ("top-first-80", View(1.0), (80, 24)),
    ],
)
def test_a_picture_is_as_recorded(name: str, view: View, size: tuple[int, int]) -> None:
    """What is drawn depends on values and size alone, and fits."""
    shown = drawn(view, *size)
    assert shown == (PICTURES / f"{name}.txt").read_text()
    assert max(map(len, shown.splitlines())) <= size[0]
    assert len(shown.splitlines()) <= size[1]


def test_many_queues_and_workers_fit_around_the_chosen_one() -> None:
    """A small terminal shows the chosen queue, and says how many workers it does not."""
    queues = [queue(n, f"queue {n:02}") for n in range(50)]
    workers = tuple(worker(n, 1, 1) for n in range(50))
    view = View(1.0).looked(measured(*queues, workers=workers)).moved(40)
    shown = drawn(view, 80, 24)
    assert len(shown.splitlines()) <= 24
    assert "> queue 40" in shown
    assert "more" in shown
    assert view.moved(100).chosen == "queue 49"
    assert view.moved(-100).chosen == "queue 00"


def test_a_sparkline_shows_the_last_depths_and_its_history_is_bounded() -> None:
    """Nothing is the lowest step, the greatest the highest, and any of it is more than nothing."""
    assert sparkline([0, 1, 50, 100], 6) == "  ▁▂▅█"
    assert sparkline([5, 5], 2, PLAIN) == "##"
    assert sparkline([], 3) == "   "
    view = View(1.0)
    for depth in range(KEPT_LOOKS * 2):
        view = view.looked(measured(queue(1, "q", pending=depth)))
    assert view.depths["q"] == tuple(range(KEPT_LOOKS, KEPT_LOOKS * 2))


def test_keys_have_names() -> None:
    """Arrows of both kinds, several in one read, and an escape by itself."""
    assert keys_of("\x1b[A\x1bOBjkp\rq") == ["up", "down", "down", "up", "p", "enter", "q"]
    assert keys_of("\x1b") == ["back"]


@dataclass
class Terminal:
    """A terminal of a size with the command in it; what it prints is kept."""

    master: int
    slave: int
    process: subprocess.Popen[bytes]
    printed: bytes = field(default=b"")

    def shows(self, words: str, since: int = 0) -> bool:
        while select.select([self.master], [], [], 0)[0]:
            self.printed += os.read(self.master, 65536)
        return words.encode() in self.printed[since:]

    def press(self, keys: bytes) -> int:
        """Type; gives where what is printed from now on begins."""
        self.shows("")
        os.write(self.master, keys)
        return len(self.printed)


@contextlib.contextmanager
def terminal(dsn: str, *words: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    astray = ("PGQRS_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(astray)}
    process = subprocess.Popen(
        [*COMMAND, "--dsn", dsn, "top", "--interval", "0.2", *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,
    )
    try:
        yield Terminal(master, slave, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def ended(shown: Terminal) -> int:
    """Give the exit status; a terminal that nobody reads would keep the command from ending."""

    def is_over() -> bool:
        status = shown.process.poll()
        shown.shows("")
        return status is not None

    until(is_over)
    return shown.process.wait()


def test_keys_act_and_the_terminal_is_as_it_was(dsn: str, admin: Admin) -> None:
    """P pauses the chosen queue, r resumes it, enter looks closer, q leaves at once."""
    admin.create_queue("a")
    admin.create_queue("b")
    with terminal(dsn) as shown:
        before = termios.tcgetattr(shown.slave)
        until(lambda: shown.shows("> a"))
        assert termios.tcgetattr(shown.slave) != before  # each key at once, and none shown
        shown.press(b"\x1b[Bp")
        until(lambda: admin.get_queue("b").paused)
        until(lambda: shown.shows("queue b is paused"))
        assert not admin.get_queue("a").paused
        shown.press(b"r")
        until(lambda: not admin.get_queue("b").paused)
        since = shown.press(b"\r")
        until(lambda: shown.shows("no handler", since))
        since = shown.press(b"b")
        until(lambda: shown.shows("oldest", since))
        shown.press(b"q")
        assert ended(shown) == 0
        assert termios.tcgetattr(shown.slave) == before
        assert b"\x1b[?1049l" in shown.printed  # what was there before is there again


def test_read_only_and_signals(dsn: str, admin: Admin) -> None:
    """Nothing is changed where it was asked not to; SIGTERM restores the terminal too."""
    admin.create_queue("a")
    with terminal(dsn, "--read-only") as shown:
        before = termios.tcgetattr(shown.slave)
        until(lambda: shown.shows("> a"))
        shown.press(b"p")
        until(lambda: shown.shows("read-only: nothing is paused"))
        assert not admin.get_queue("a").paused
        shown.process.send_signal(signal.SIGTERM)
        assert ended(shown) == 0
        assert termios.tcgetattr(shown.slave) == before


def test_a_server_that_goes_away_is_waited_for(
    url: URL, dsn: str, maintenance: Engine, admin: Admin
) -> None:
    """What was measured stays, it says what is wrong, and goes on when the server is back."""
    admin.create_queue("a")

    def allow(answer: str) -> None:
        with maintenance.connect() as connection:
            name = url.database
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {answer}"))
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            connection.execute(text(end), {"name": name})

    with terminal(dsn) as shown:
        until(lambda: shown.shows("> a"))
        allow("false")
        until(lambda: shown.shows("cannot measure, trying again: "))
        since = shown.press(b"")
        allow("true")
        admin.create_queue("new")
        until(lambda: shown.shows("new", since))
        shown.press(b"q")
        assert ended(shown) == 0


def test_once_for_people_and_for_programs(dsn: str, admin: Admin) -> None:
    """Where there is no terminal it needs --once, or a format for programs."""
    admin.create_queue("a")
    with Producer(admin, "a") as producer:
        producer.batch_enqueue([1, 2, 3])

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            line = [*COMMAND, "--dsn", dsn, "top", *words]
            return subprocess.run(line, capture_output=True, text=True, check=False, timeout=30)

        picture_, document, refused = run("--once"), run("--format", "json"), run()
    assert picture_.returncode == 0
    assert "3 pending" in picture_.stdout
    assert "leave" not in picture_.stdout
    found = json.loads(document.stdout)
    assert (found["pending"], found["by_queue"][0]["queue_name"]) == (3, "a")
    assert found["workers"][0]["worker"]["role"] == "producer"
    assert (refused.returncode, "--once" in refused.stderr) == (2, True)
