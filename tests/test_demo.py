"""The demo: what it shows, what it checks, and that it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from pgqrs import Admin
from pgqrs.cli.demo.records import ArchivedFile
from pgqrs.cli.demo.source import library_root, measure, source_files
from pgqrs.cli.demo.verdict import Killed, judge

DEMO = [sys.executable, "-W", "error", "-m", "pgqrs", "demo"]


def environment(dsn: str = "") -> dict[str, str]:
    astray = ("PGQRS_", "DATABASE_URL", "FORCE_COLOR", "PY_COLORS", "NO_COLOR", "GITHUB_", "TTY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(astray)}
    return {**kept, "COLUMNS": "", "TERM": "xterm-256color", **({"PGQRS_DSN": dsn} if dsn else {})}


def wait_until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def consumer_pids(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        rows = text("SELECT pid FROM pgqrs.pgqrs_workers WHERE role = 'consumer' ORDER BY id")
        return list(connection.execute(rows).scalars())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's user can enter, who is another where root runs the tests."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_demo_without_a_database(open_folder: Path) -> None:
    """It brings its own server, proves its promise, and prints one document on standard output."""
    result = subprocess.run(
        [*DEMO, "--limit", "60", "--format", "json"],
        env=environment() | {"TMPDIR": str(open_folder)},
        cwd=open_folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert (outcome["files"], outcome["archive_rows"], outcome["problems"]) == (60, 60, [])
    assert 1 <= outcome["came_back"] <= outcome["redelivered"]
    assert len(outcome["largest"]) == 10
    assert outcome["largest"][0]["lines"] > outcome["largest"][-1]["lines"] > 0
    assert "\x1b" not in result.stderr
    assert "with SIGKILL while it held" in result.stderr
    assert list(open_folder.iterdir()) == []  # where the server's directories were


def test_demo_in_a_database_of_yours(dsn: str, admin: Admin, engine: Engine) -> None:
    """It can be kept; then every file is in the archive once, the killed consumer's too."""
    result = subprocess.run(
        [*DEMO, "--limit", "40", "--consumers", "2", "--keep"],
        env=environment(dsn),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^archive rows +40 ", result.stdout, re.MULTILINE)
    assert "\x1b" not in result.stdout
    assert "\r" not in result.stdout
    (queue,) = admin.list_queues()
    assert admin.queue_metrics(queue.queue_name).archived == 40
    assert len(consumer_pids(engine)) >= 2
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT payload, output, read_ct FROM pgqrs.pgqrs_archive"))
        found = {row.payload["path"]: (row.output, row.read_ct) for row in rows}
    assert found.keys() == set(source_files()[:40])
    assert all(output == measure(path) for path, (output, _) in found.items())
    assert max(read_ct for _, read_ct in found.values()) == 2


def start_in_a_terminal(dsn: str) -> tuple[subprocess.Popen[bytes], int]:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        DEMO,
        env=environment(dsn) | {"COLUMNS": "80", "LINES": "24"},
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    return process, leader


def read_to_the_end(leader: int) -> str:
    shown = b""
    while True:
        try:
            shown += os.read(leader, 65536)
        except OSError:  # how Linux says that the other end is closed
            os.close(leader)
            return shown.decode()


def test_interrupt_cleans_up(dsn: str, admin: Admin, engine: Engine) -> None:
    """After Ctrl-C there are no consumers and no queue, and the cursor is back."""
    process, leader = start_in_a_terminal(dsn)
    wait_until(lambda: admin.all_queues_metrics() and admin.all_queues_metrics()[0].archived)
    pids = consumer_pids(engine)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    shown = read_to_the_end(leader)
    assert process.wait(30) == 130
    assert pids
    assert not any(map(is_alive, pids))
    assert admin.list_queues() == []
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 80
    assert "messages/s" in plain


@pytest.fixture
def running(dsn: str, admin: Admin) -> Iterator[subprocess.Popen[str]]:
    """A demo whose consumers are at work."""
    process = subprocess.Popen(
        DEMO, env=environment(dsn), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: admin.all_queues_metrics() and admin.all_queues_metrics()[0].archived)
    yield process
    process.kill()
    process.communicate()


def test_no_consumer_outlives_the_demo(running: subprocess.Popen[str], engine: Engine) -> None:
    """Even when the demo itself is killed, its consumers end."""
    pids = consumer_pids(engine)
    running.kill()
    wait_until(lambda: not any(map(is_alive, pids)), 20)
    assert pids


def test_consumer_that_fails_ends_the_demo(
    running: subprocess.Popen[str], admin: Admin, engine: Engine
) -> None:
    """A consumer that ends by itself is told in one sentence, with status 1."""
    pid, *others = consumer_pids(engine)
    os.kill(pid, signal.SIGTERM)
    complaint = running.communicate(timeout=30)[1]
    assert complaint == f"error: consumer {pid} ended by itself with status -15\n"
    assert running.returncode == 1
    assert not any(map(is_alive, others))
    assert admin.list_queues() == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--limit", "5"], "--limit"),
        (["--consumers", "0"], "--consumers"),
        (["--keep"], "PGQRS_DSN"),
    ],
)
def test_bad_options(words: list[str], part: str, tmp_path: Path) -> None:
    """What cannot be done is refused before anything is started; --keep needs a database."""
    result = subprocess.run(
        [*DEMO, *words],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert part in result.stderr


KILLED = Killed(pid=1, worker_id=2, held={1: 1, 2: 1})
SENT = [(number, str(library_root() / f"{number}.py")) for number in (1, 2, 3)]
ROWS = [
    ArchivedFile(number, path, "completed", 2 if number < 3 else 1, 3, {"lines": number})
    for number, path in SENT
]


def test_verdict_on_a_good_run() -> None:
    """A run is good when each message sent has one completed row and the killed one's came back."""
    verdict = judge(SENT, ROWS, 0, KILLED, 2)
    assert (verdict.problems, verdict.redelivered, verdict.came_back) == ([], 2, 2)
    assert (verdict.messages_per_second, verdict.lines) == (1.5, 6)
    assert [found["module"] for found in verdict.largest] == ["3.py", "2.py", "1.py"]


def changed(number: int, **values: Any) -> dict[str, Any]:
    rows = [dataclasses.replace(r, **values) if r.id == number else r for r in ROWS]
    return {"rows": rows}


@pytest.mark.parametrize(
    ("flaw", "told"),
    [
        ({"rows": ROWS[:2]}, "1 messages have no archive row"),
        ({"sent": SENT[:2]}, "1 archive rows are of messages that were not sent"),
        ({"sent": [*SENT, SENT[0]]}, "the same id was given"),
        (changed(1, status="dead"), "not as completed"),
        (changed(3, path=SENT[0][1]), "1 files have more than one archive row"),
        ({"left": 4}, "4 messages are still in the queue"),
        ({"killed": None}, "no consumer was killed"),
        (
            {"rows": [dataclasses.replace(row, read_ct=1) for row in ROWS]},
            "no message of the killed",
        ),
    ],
)
def test_verdict_finds_each_flaw(flaw: Mapping[str, Any], told: str) -> None:
    """Whatever is missing, twice, unfinished or left over is a problem, and so a failure."""
    run: dict[str, Any] = {"sent": SENT, "rows": ROWS, "left": 0, "killed": KILLED, "seconds": 1}
    assert any(told in problem for problem in judge(**{**run, **flaw}).problems)


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b"", {"lines": 0, "functions": 0, "classes": 0}),
        (
            b"class A:\n    def f(self): ...\nasync def g():\n    def h(): '\\d'",
            {"lines": 4, "functions": 3, "classes": 1},
        ),
        (b"print 'no'\n", {"lines": 1, "error": "SyntaxError"}),
        (b"# coding: nonsense\n", {"lines": 1, "error": "SyntaxError"}),
        (b"x = '\xff'\n", {"lines": 1, "error": "SyntaxError"}),
        (b"x = 1\0\n", {"lines": 1, "error": "null"}),
        (b"-" * 100_000 + b"1", {"lines": 1, "error": "Error"}),
        (None, {"error": "FileNotFoundError"}),
    ],
)
def test_every_file_gives_a_result(
    content: bytes | None, result: Mapping[str, Any], tmp_path: Path
) -> None:
    """A file that cannot be read, decoded or parsed is a result with the error in it."""
    path = tmp_path / "x.py"
    if content is not None:
        path.write_bytes(content)
    found = measure(str(path))
    assert found.keys() == result.keys()
    assert result.get("error", "") in found.get("error", "")
    assert {**found, "error": 0} == {**result, "error": 0}
    assert json.dumps(found).isascii()
    assert r"\u0000" not in json.dumps(found)


def test_input_is_the_whole_library() -> None:
    """The files are those of the standard library, its tests among them and nothing installed."""
    files = source_files()
    relative = [str(Path(file).relative_to(library_root())) for file in files]
    assert files == sorted(set(files))
    assert {"ast.py", "json/decoder.py"} <= set(relative)
    assert not [name for name in relative if "site-packages" in name]
