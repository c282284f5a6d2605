"""The command line, run as people and scripts run it: as a process."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import URL, create_engine, text

from pgqrs import Admin, Consumer, Producer
from pgqrs.cli.app import app
from pgqrs.cli.app import run as run_line

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]

DOCS = Path(__file__).parent.parent / "docs" / "cli.md"
COMMAND = [sys.executable, "-W", "error", "-m", "pgqrs"]
SECRET = "s3cr3t"
HEAVY = ("sqlalchemy", "psycopg", "alembic", "pydantic")


def environment(**more: str) -> dict[str, str]:
    """The environment without what would lead pgqrs or rich astray."""
    astray = ("PGQRS_", "DATABASE_URL", "FORCE_COLOR", "PY_COLORS", "NO_COLOR", "GITHUB_", "TTY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(astray)}
    return {**kept, "COLUMNS": "", "TERM": "xterm-256color", **more}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pgqrs in an empty folder; without a `dsn` it finds no database."""

    def run(*words: str, dsn: str = "", said: str | None = None, **more: str) -> Result:
        given = {"PGQRS_DSN": dsn} if dsn else {}
        return subprocess.run(
            [*COMMAND, *words],
            env=environment(**given, **more),
            cwd=tmp_path,
            input=said or "",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run what `main` runs within this process, which costs a tenth of one of its own."""

    def run_here(*words: str, dsn: str = "", said: str = "") -> Result:
        given = {"PGQRS_DSN": dsn} if dsn else {}
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in environment(**given).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        status = run_line(words)
        return Result(words, status, *capsys.readouterr())

    return run_here


@pytest.fixture
def on(run_here: Run, dsn: str) -> Run:
    """Run pgqrs on the fresh database, within this process, where it must succeed."""

    def on(*words: str, **more: str) -> Result:
        result = run_here(*words, dsn=dsn, **more)
        assert result.returncode == 0, result.stderr
        assert not result.stderr
        return result

    return on


@pytest.fixture
def queue(admin: Admin) -> str:
    return admin.create_queue("my_queue").queue_name


def is_a_sentence(result: Result) -> str:
    """Check that nothing but an error was printed, and give it."""
    lines = result.stderr.splitlines()
    assert not result.stdout
    assert lines[0].startswith("error: "), result.stderr
    assert all(line.startswith("see `pgqrs") for line in lines[1:]), result.stderr
    return lines[0]


def test_seed_commands_work_as_spelled(run: Run, empty_url: URL) -> None:
    """The commands of the project's first README do what it says, on an empty database."""
    dsn = empty_url.set(drivername="postgresql").render_as_string(hide_password=False)

    def line(*words: str) -> str:
        result = run(*words, dsn=dsn)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    assert "up to date" in line("install")
    assert "are what this version needs" in line("verify")
    line("queue", "create", "my_queue")
    assert "my_queue" in line("queue", "list")
    line("message", "send", "my_queue", '{"task": "process_data", "id": 123}')
    line("message", "send", "my_queue", '{"task": "more"}')
    read = line("message", "read", "my_queue", "--count", "5", "--lock-time", "30")
    assert re.search(r"^ +1 +1 +\d+ .*process_data", read, re.MULTILINE)
    assert re.search(r"^locked +2$", line("queue", "metrics", "my_queue"), re.MULTILINE)
    assert "deleted 2 messages" in line("queue", "purge", "my_queue", "--yes")
    assert "my_queue" in line("queue", "delete", "my_queue", "--yes")
    assert "are gone" in line("uninstall", "--yes")


def test_json_is_one_document(on: Run) -> None:
    """One thing is an object, many are an array; instants are ISO 8601, durations seconds."""

    def document(*words: str) -> Any:
        return json.loads(on(*words, "--format", "json").stdout)

    made = document("queue", "create", "q", "--lock-time", "90", "--max-attempts", "3")
    assert (made["queue_name"], made["visibility_timeout"], made["max_attempts"]) == ("q", 90, 3)
    assert dt.datetime.fromisoformat(made["created_at"]).tzinfo
    assert document("queue", "list") == [made]
    sent = document("message", "send", "q", '{"ä": [1.5, null]}')
    assert sent["payload"] == {"ä": [1.5, None]}
    (read,) = document("message", "read", "q")
    assert (read["id"], read["read_ct"], read["payload"]) == (sent["id"], 1, sent["payload"])
    assert read["vt"] > sent["vt"]
    assert document("message", "read", "q") == []
    assert document("queue", "metrics", "q")["locked"] == 1
    assert [found["queue_name"] for found in document("queue", "metrics")] == ["q"]
    assert document("queue", "purge", "q", "--yes") == {"queue_name": "q", "deleted": 1}


def test_queue_life(on: Run, admin: Admin) -> None:
    """A queue is made, left alone, changed, paused, resumed and shown, each by its command."""
    on("queue", "create", "q", "--archive-mode", "none")
    on("queue", "create", "q", "--exist-ok")
    on("queue", "update", "q", "--lock-time", "0.5", "--archive-mode", "meta")
    on("queue", "update", "q", "--retry-delay", "5", "--retry-delay-max", "60")
    on("queue", "update", "q", "--no-backoff")
    on("queue", "pause", "q")
    paused = admin.get_queue("q")
    assert (paused.paused, paused.archive_mode.value) == (True, "meta")
    assert paused.visibility_timeout == dt.timedelta(seconds=0.5)
    assert (paused.retry_delay, paused.retry_backoff) == (dt.timedelta(seconds=5), False)
    assert "paused              no" in on("queue", "resume", "q").stdout
    assert "visibility timeout  0.5 s" in on("queue", "get", "q").stdout


def test_delete_by_force(on: Run, run_here: Run, admin: Admin, queue: str, dsn: str) -> None:
    """A queue with messages or history is deleted by force only."""
    with Producer(admin, queue) as producer, Consumer(admin, queue) as consumer:
        producer.batch_enqueue([1, 2])
        consumer.archive(consumer.dequeue() or 0)
    refused = run_here("queue", "delete", queue, "--yes", dsn=dsn)
    assert refused.returncode == 1
    assert "1 messages and 1 archived ones" in is_a_sentence(refused)
    on("queue", "delete", queue, "--yes", "--force")
    assert admin.list_queues() == []


def test_send_takes_options_and_standard_input(on: Run, admin: Admin, queue: str) -> None:
    """Priority, delay and attempts are the message's, and `-` is standard input."""
    on("message", "send", queue, '"low"')
    words = ("message", "send", queue, "-", "--priority", "7", "--max-attempts", "2")
    on(*words, said='{"from": "stdin"}')
    late = json.loads(on("message", "send", queue, "1", "--delay", "60", "--format=json").stdout)
    assert late["vt"] > late["enqueued_at"]
    with Consumer(admin, queue) as consumer:
        first, second = consumer.dequeue_batch(5)
    assert (first.payload, first.priority, first.max_attempts) == ({"from": "stdin"}, 7, 2)
    assert second.payload == "low"


def test_read_leaves_its_lease(run: Run, admin: Admin, queue: str, dsn: str) -> None:
    """What was read stays leased after the command ended, until the lease runs out."""
    with Producer(admin, queue) as producer:
        producer.batch_enqueue([1, 2])
    assert run("message", "read", queue, "--lock-time", "600", dsn=dsn).returncode == 0
    assert admin.queue_metrics(queue).locked == 1
    assert run("message", "read", queue, "--lock-time", "0.01", dsn=dsn).returncode == 0
    time.sleep(0.01)
    with Consumer(admin, queue) as consumer:
        assert [message.read_ct for message in consumer.dequeue_batch(5)] == [2]


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        ("queue get nope", 1, "there is no queue 'nope'"),
        ("message read nope", 1, "there is no queue 'nope'"),
        ("queue create my_queue", 1, "exists already"),
        ("message send my_queue {bad", 1, "not JSON text"),
        ("message send my_queue NaN", 1, "not JSON"),
        ("queue list --schema other", 1, "run `pgqrs install`"),
        ("queue list --schema not-a-name", 2, "setting 'schema'"),
        ("queue create my/queue!", 2, "a queue name is"),
        ("queue update my_queue", 2, "nothing to change"),
        ("queue get", 2, "missing argument"),
        ("queue list --frob", 2, "no such option"),
        ("queue frob", 2, "no such command"),
        ("queue list --format xml", 2, "--format"),
        ("message read my_queue --count 0", 2, "--count"),
        ("queue list --dsn mysql://localhost/x", 2, "needs postgresql://"),
        ("queue list --config nope.yaml", 2, "cannot be read"),
        ("embedded --set nothing", 2, "NAME=VALUE"),
    ],
)
def test_mistakes(run_here: Run, dsn: str, queue: str, words: str, status: int, part: str) -> None:
    """A mistake is told in one sentence on standard error, and by the exit status."""
    result = run_here(*words.split(), dsn=dsn)
    assert part.lower() in is_a_sentence(result).lower()
    assert result.returncode == status
    assert queue == "my_queue"


def test_no_database(run_here: Run) -> None:
    """Without any source of a DSN the error says where was looked; the status is 2."""
    result = run_here("queue", "list")
    assert result.returncode == 2
    assert "pass a DSN, set PGQRS_DSN or DATABASE_URL" in is_a_sentence(result)


@pytest.mark.parametrize("words", ["queue list", "install", "verify", "uninstall --yes"])
def test_server_down(run_here: Run, words: str) -> None:
    """A server that cannot be reached is status 3, and the password is not shown."""
    result = run_here(*words.split(), "--dsn", f"postgresql://me:{SECRET}@127.0.0.1:1/db")
    assert result.returncode == 3
    assert "cannot be reached" in is_a_sentence(result)
    assert SECRET not in result.stderr


def test_exit_statuses_of_the_process(run: Run, dsn: str) -> None:
    """The process ends with the statuses that are promised, its errors without a traceback."""
    for words, status in (("queue get nope", 1), ("queue list --dsn x", 2), ("queue list", 0)):
        result = run(*words.split(), dsn=dsn)
        assert result.returncode == status
        assert bool(result.stderr) is bool(status)
    unanswered = run("uninstall", dsn=dsn)
    assert (unanswered.returncode, unanswered.stdout) == (1, "")
    down = run("queue", "list", "--dsn", "postgresql://127.0.0.1:1/db")
    assert down.returncode == 3
    assert "cannot be reached" in is_a_sentence(down)


@pytest.mark.parametrize(
    "words", ["queue list {}", "--dsn={} queue list", "{}", "--config {} verify"]
)
def test_passwords_are_hidden(run_here: Run, words: str) -> None:
    """A DSN that is wrong or in the wrong place is not repeated with its password."""
    result = run_here(*words.format(f"postgresql://me:{SECRET}@127.0.0.1:port/db").split())
    is_a_sentence(result)
    assert result.returncode == 2
    assert SECRET not in result.stderr


@pytest.mark.parametrize(
    "words", ["queue purge my_queue", "queue delete my_queue --force", "uninstall"]
)
def test_destructive_commands_ask(
    run_here: Run, admin: Admin, queue: str, dsn: str, words: str
) -> None:
    """Without an answer, or with no, nothing is changed and the status is 1; yes does it."""
    with Producer(admin, queue) as producer:
        producer.enqueue(1)
    for answer in ("", "n\n"):
        result = run_here(*words.split(), dsn=dsn, said=answer)
        assert result.returncode == 1
        assert "[y/N]" in result.stderr
        assert "nothing was changed" in result.stderr
        assert not result.stdout
    assert admin.queue_metrics(queue).pending == 1
    result = run_here(*words.split(), "--format", "json", dsn=dsn, said="y\n")
    assert result.returncode == 0
    assert isinstance(json.loads(result.stdout), dict)


def test_dry_runs_print_sql_alone(run_here: Run, url: URL, empty_url: URL) -> None:
    """A dry run prints the SQL and changes nothing; uninstall asks no question for it."""

    def line(target: URL, *words: str) -> str:
        dsn = target.set(drivername="postgresql").render_as_string(hide_password=False)
        result = run_here(*words, dsn=dsn)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    assert "CREATE TABLE pgqrs.pgqrs_messages" in line(empty_url, "install", "--dry-run")
    assert "nothing is installed" in line(empty_url, "uninstall", "--dry-run")
    assert "DROP TABLE pgqrs.pgqrs_messages" in line(url, "uninstall", "--dry-run")
    assert "are what this version needs" in line(url, "verify")


def test_verify_says_what_is_missing(run_here: Run, url: URL, dsn: str) -> None:
    """Findings are results on standard output; an error among them is status 1."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX pgqrs.pgqrs_messages_ready"))
    engine.dispose()
    result = run_here("verify", "--format", "json", dsn=dsn)
    (finding,) = json.loads(result.stdout)
    assert (finding["severity"], result.returncode) == ("error", 1)
    assert "pgqrs_messages_ready is missing" in finding["message"]


def test_configuration_file(run_here: Run, dsn: str, queue: str, tmp_path: Path) -> None:
    """`--config` names a file with the database; a DSN on the command line wins over it."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"dsn: {dsn}\n")
    assert queue in run_here("queue", "list", "--config", str(path)).stdout
    result = run_here("--config", str(path), "--dsn", "postgresql://localhost:1/x", "queue", "list")
    assert result.returncode == 3


def in_a_terminal(words: list[str], columns: int = 80, **more: str) -> str:
    """Give what a command writes to a terminal."""
    leader, follower = pty.openpty()
    settings = environment(COLUMNS=str(columns), **more)
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=follower, stdout=follower, stderr=follower, env=settings
    )
    os.close(follower)
    written = b""
    while True:
        try:
            news = os.read(leader, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not news:
            break
        written += news
    os.close(leader)
    assert process.wait(30) == 0
    return written.decode()


def test_colour_is_for_terminals(admin: Admin, queue: str, dsn: str, on: Run) -> None:
    """A terminal gets styles and lines that fit it; pipes and NO_COLOR get no colour."""
    with Producer(admin, queue) as producer:
        producer.enqueue({"text": "word " * 60})
    words = ["message", "read", queue, "--lock-time", "0"]
    shown = in_a_terminal(words, PGQRS_DSN=dsn)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b[" in shown
    assert max(map(len, plain.splitlines())) <= 80
    assert plain.count("word") == 60
    without = in_a_terminal(["queue", "list"], PGQRS_DSN=dsn, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3\d", without)
    piped = on(*words).stdout
    assert "\x1b" not in piped
    assert max(map(len, piped.splitlines())) > 300  # a line is as long as need be


def test_payloads_cannot_steer_the_terminal(on: Run, admin: Admin, queue: str) -> None:
    """Control characters and markup in a payload are printed as text."""
    with Producer(admin, queue) as producer:
        producer.enqueue({"x": "\x1b[2J\x9b31m[bold]:smile:\u202e"})
    shown = on("message", "read", queue).stdout
    assert r"\u001b[2J\x9b31m[bold]:smile:\u202e" in shown


def test_pipe_closed_early(dsn: str, queue: str, tmp_path: Path) -> None:
    """A reader that goes away (`| head`) causes no traceback."""
    process = subprocess.Popen(
        [*COMMAND, "--format", "json", "queue", "get", queue],
        env=environment(PGQRS_DSN=dsn),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr as complaints:
        assert complaints.read() == b""
    assert process.wait(30) == 1


def commands(group: Any = None, path: tuple[str, ...] = ("pgqrs",)) -> Iterator[tuple[str, Any]]:
    """Every command and group of the tree, by what is typed."""
    node = group or typer.main.get_command(app)
    yield " ".join(path), node
    for name, inner in getattr(node, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_every_command_is_explained(path: str, command: Any) -> None:
    """Each command says what it does and shows itself used, in its help and in the docs."""
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name
    if path == "pgqrs" or not hasattr(command, "commands"):
        assert re.search(rf"Example: {path} ", f"{command.epilog} ")
        assert re.search(rf"^ *{path}( |$)", DOCS.read_text(), re.MULTILINE)


def test_help_is_light(run: Run) -> None:
    """No help loads SQLAlchemy, psycopg, Alembic or pydantic."""
    program = f"""
import contextlib, io, sys, typer
from pgqrs.cli.app import app, run
for path in {[path.split()[1:] for path, _ in commands()]}:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        status = run(["--dsn", "postgresql://x", *path, "--help"])
    assert status == 0 and "Usage: " + " ".join(["pgqrs", *path]) in shown.getvalue(), path
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {set(HEAVY)}))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"
    assert run("--help").stdout.lstrip().startswith("Usage: pgqrs ")
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pgqrs", "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert not re.search(rf"\| +({'|'.join(HEAVY)})\b", imported)


def test_group_alone_shows_its_help(run_here: Run) -> None:
    """A group without a command prints its help, with the status of a usage error."""
    result = run_here("queue")
    assert result.returncode == 2
    assert "pgqrs queue [OPTIONS] COMMAND" in result.stdout


def test_version(run_here: Run) -> None:
    """`--version` prints the version of the package."""
    assert re.fullmatch(r"pgqrs \d+\.\d+\.\d+\S*\n", run_here("--version").stdout)


def wait_for_line(stream: Any, seconds: float = 30) -> str:
    assert select.select([stream], [], [], seconds)[0], "no line came in time"
    line: str = stream.readline()
    return line


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's user can enter, who is another where root runs the tests."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize("kept", [True, False])
def test_embedded_server(kept: bool, open_folder: Path) -> None:  # noqa: FBT001
    """`embedded` prints the DSN of a running server, and ends with 0 and without it on a signal."""
    data = open_folder / "data"
    words = ["--data", str(data)] if kept else ["--format", "json"]
    process = subprocess.Popen(
        [*COMMAND, "embedded", "--set", "max_connections=11", *words],
        env=environment(),
        cwd=open_folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        line = wait_for_line(process.stdout)
        if not kept:
            line += process.stdout.readline() + process.stdout.readline()
        dsn = line.strip() if kept else json.loads(line)["dsn"]
        engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW max_connections")) == "11"
        engine.dispose()
    finally:
        process.send_signal(signal.SIGINT if kept else signal.SIGTERM)
        output, complaints = process.communicate(timeout=30)
    assert (process.returncode, output, complaints) == (0, "", "serving until Ctrl-C\n")
    assert not Path(dsn.partition("host=")[2].partition("&")[0]).exists()
    assert data.exists() is kept
