"""The embedded server keeps what `pgqrs.embedded` promises, whatever happens to its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from pgqrs.embedded import EmbeddedPostgres, EmbeddedPostgresError, account
from pgqrs.embedded.watchdog import is_gone

ROOT = os.geteuid() == 0
PACKAGE_ROOT = Path(__file__).resolve().parent.parent

OWNER = """
import os, signal, subprocess, sys, time
from pgqrs.embedded import EmbeddedPostgres
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
with EmbeddedPostgres(*sys.argv[1:], settings={{"fsync": "off"}}) as server:
    {body}
    print(server.pid, server.dsn(), flush=True)
    time.sleep(60)
"""
FORKER = """
import os, sys, psycopg
from pgqrs.embedded import EmbeddedPostgres
with EmbeddedPostgres(durable=False) as server:
    if os.fork() == 0:
        psycopg.connect(server.dsn()).close()
        sys.exit()
    assert os.wait()[1] == 0
    psycopg.connect(server.dsn()).close()
    print("alive")
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory that every user can enter, as pytest's own are not for root."""
    made = Path(tempfile.mkdtemp(prefix="place-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.01)


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


@contextlib.contextmanager
def running(
    arguments: Sequence[str], temporary: Path, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a group of its own, whose temporary directories are in `temporary`."""
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(PACKAGE_ROOT),
        **variables,
    }
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def first_words(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    assert process.stderr is not None
    words = process.stdout.readline().split()
    assert words, process.stderr.read()
    return words


def is_empty(directory: Path) -> bool:
    return not any(directory.iterdir())


def test_a_server_answers_until_its_block_ends() -> None:
    """Inside the block one can connect; after it neither process nor directory is left."""
    with EmbeddedPostgres(durable=False) as server:
        assert ask(server.dsn(), "SELECT current_user || current_database()") == "postgrespostgres"
        assert ask(server.dsn(), "SHOW server_version_num") == ask(
            server.dsn("template1"), "SHOW server_version_num"
        )
        assert str(ask(server.dsn(), "SHOW server_version")).startswith(str(server.version))
        assert ask(server.dsn(), "SHOW fsync") == "off"
        assert (server.bindir / "postgres").exists()
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        pid, data, socket = server.pid, server.data_dir, server.socket_dir
    assert is_gone(pid)
    assert not data.exists()
    assert not socket.exists()


def test_the_dsn_is_understood_by_sqlalchemy() -> None:
    """With the driver named in it, the DSN makes an engine; settings reach the server."""
    with EmbeddedPostgres(durable=False, settings={"work_mem": "7MB", "port": 6543}) as server:
        url = server.dsn().replace("postgresql://", "postgresql+psycopg://", 1)
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            assert connection.scalar(sqlalchemy.text("SHOW work_mem")) == "7MB"
            assert connection.scalar(sqlalchemy.text("SHOW fsync")) == "off"
        engine.dispose()


def test_nothing_happens_before_start_and_stop_may_be_repeated() -> None:
    """Making the object does no I/O; what needs a server says so; a second stop is nothing."""
    server = EmbeddedPostgres("/nonexistent/anywhere")
    server.stop()
    with pytest.raises(EmbeddedPostgresError, match="not started"):
        server.dsn()


def test_kept_data_survive_and_are_locked(place: Path) -> None:
    """A kept directory is used again with its rows, but not by two servers at a time."""
    data = place / "new" / "data"
    with EmbeddedPostgres(data) as server:
        assert server.data_dir == data / str(server.version) / "data"
        assert ask(server.dsn(), "SHOW fsync") == "on"
        ask(server.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer")
        with pytest.raises(
            EmbeddedPostgresError, match=f"in use by the server with pid {server.pid}"
        ):
            EmbeddedPostgres(data).start()
        assert ask(server.dsn(), "SELECT answer FROM kept") == 42
    with EmbeddedPostgres(str(data)) as server:
        assert ask(server.dsn(), "SELECT answer FROM kept") == 42


def test_a_recycled_pid_is_no_live_server(place: Path) -> None:
    """After a power cut, a lock file whose pid is now some other program's stops nobody."""
    with EmbeddedPostgres(place) as server:
        lock_file = server.data_dir / "postmaster.pid"
        text = lock_file.read_text()
        pid, user = server.pid, account.server_account(None, server.data_dir.parent)
    with subprocess.Popen(["sleep", "60"], user=user.uid if user else None) as other:
        lock_file.write_text(text.replace(str(pid), str(other.pid), 1))
        if user:
            os.chown(lock_file, user.uid, user.gid)
        with EmbeddedPostgres(place) as server:
            assert ask(server.dsn(), "SELECT 1") == 1
        other.kill()


def test_two_servers_at_once() -> None:
    """Servers do not disturb each other: no port, no directory is shared."""
    with EmbeddedPostgres(durable=False) as one, EmbeddedPostgres(durable=False) as two:
        ask(one.dsn(), "CREATE DATABASE only_here")
        assert ask(one.dsn("only_here"), "SELECT 1") == 1
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            ask(two.dsn("only_here"), "SELECT 1")
        one.stop()
        assert ask(two.dsn(), "SELECT 1") == 1


def test_restart_keeps_data_and_dsn() -> None:
    """An immediate restart is a crash that recovers; the DSN stays valid, sessions end."""
    with EmbeddedPostgres() as server:
        dsn, pid = server.dsn(), server.pid
        session = psycopg.connect(dsn, autocommit=True)
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.restart("immediate")
        assert server.pid != pid
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        session.close()
        assert ask(dsn, "SELECT answer FROM kept") == 42
        assert "automatic recovery" in (server.data_dir.parent / "server.log").read_text()
        server.restart()
        assert ask(dsn, "SELECT answer FROM kept") == 42


def test_a_server_that_crashed_can_be_restarted() -> None:
    """When the server dies by itself, `wait` tells, and `restart` brings it back."""
    with EmbeddedPostgres(durable=False) as server:
        os.kill(server.pid, signal.SIGQUIT)
        with pytest.raises(EmbeddedPostgresError, match="ended by itself"):
            server.wait()
        server.restart()
        assert ask(server.dsn(), "SELECT 1") == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="alone"),
        pytest.param(
            "subprocess.Popen(['sleep', '60'], close_fds=False); os.fork() or time.sleep(60)",
            id="spawned-and-forked-children-live",
        ),
    ],
)
def test_killing_python_ends_the_server(place: Path, body: str) -> None:
    """After SIGKILL no server and no temporary directory is left, even while a child lives."""
    with running(["-c", OWNER.format(body=body)], place) as process:
        pid = int(first_words(process)[0])
        assert not is_empty(place)
        process.kill()
        eventually(lambda: is_gone(pid), "the server is gone", 4)
        eventually(lambda: is_empty(place), "the directories are gone", 4)


def test_killing_python_during_initdb_leaves_nothing(place: Path) -> None:
    """SIGKILL at the worst moment, with initdb at work, leaves no directory either."""
    with running(["-c", OWNER.format(body="")], place) as process:
        eventually(lambda: any(place.glob("*/*/unfinished/base")), "initdb works")
        process.kill()
        eventually(lambda: is_empty(place), "the directories are gone")


def test_a_forked_child_does_not_stop_the_server(place: Path) -> None:
    """A forked child may connect, but leaving the block there ends nothing."""
    with running(["-W", "error", "-c", FORKER], place) as process:
        assert process.communicate(timeout=30) == ("alive\n", "")
        assert process.returncode == 0
    assert is_empty(place)


def test_stop_works_without_the_watchdog(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody kills the watchdog, leaving the block stops the server all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        pid = server.pid
        watchdog = subprocess.run(
            ["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(watchdog.stdout), signal.SIGKILL)
        assert ask(server.dsn(), "SELECT 1") == 1
    assert is_gone(pid)
    assert is_empty(place)


def test_control_c_stops_cleanly(place: Path) -> None:
    """Ctrl-C in the terminal interrupts Python only, which then stops the server in order."""
    with running(["-c", OWNER.format(body=""), str(place / "kept")], place) as process:
        pid = int(first_words(process)[0])
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == -signal.SIGINT
        assert errors.splitlines()[-1] == "KeyboardInterrupt"
        assert is_gone(pid)
    [log] = place.glob("kept/*/server.log")
    assert "database system is shut down" in log.read_text()
    assert [path.name for path in place.iterdir()] == ["kept"]


def test_the_module_serves_until_sigterm(place: Path) -> None:
    """`python -m pgqrs.embedded` prints a DSN that works, and ends with 0 on SIGTERM."""
    arguments = ["-m", "pgqrs.embedded", "--data", str(place / "kept"), "--set", "work_mem=7MB"]
    with running(arguments, place) as process:
        [dsn] = first_words(process)
        assert ask(dsn, "SHOW work_mem") == "7MB"
        process.terminate()
        assert process.wait(20) == 0
    assert [path.name for path in place.iterdir()] == ["kept"]


def test_the_module_explains_itself(place: Path) -> None:
    """Help has an example; wrong usage is 2, and a server that does not start 1 with the reason."""
    outcomes = []
    for arguments in (["--help"], ["--set", "nonsense"], ["--set", "no_such_setting=1"]):
        with running(["-m", "pgqrs.embedded", *arguments], place) as process:
            output, errors = process.communicate(timeout=20)
            outcomes.append((process.returncode, output + errors))
    assert [code for code, _ in outcomes] == [0, 2, 1]
    assert "example: python -m pgqrs.embedded --data" in outcomes[0][1]
    assert "'nonsense' is not NAME=VALUE" in outcomes[1][1]
    assert 'unrecognized configuration parameter "no_such_setting"' in outcomes[2][1]
    assert "Traceback" not in outcomes[2][1]
    assert is_empty(place)


def test_the_environment_of_the_caller_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables meant for clients, and a locale that does not exist, disturb neither side."""
    wrong = {"PGHOST": "nowhere", "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "none"}
    wrong |= {"PGDATA": "/nowhere", "LC_ALL": "xx", "LANG": "yy", "PGOPTIONS": ""}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres(durable=False) as server:
        assert ask(server.dsn(), "SELECT datcollate FROM pg_database LIMIT 1") == "C"


def test_a_long_temporary_directory_does_not_matter(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket's path stays within the system's limit wherever TMPDIR is; spaces are fine."""
    long = place / ("a b" * 40)
    long.mkdir()
    long.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        assert ask(server.dsn(), "SELECT 1") == 1
        assert long in server.data_dir.parents
        assert len(str(server.socket_dir)) < 80
    assert is_empty(long)


@pytest.mark.skipif(not ROOT, reason="only root runs the server as another user")
def test_root_keeps_permissions_and_says_where_it_cannot_go(place: Path) -> None:
    """No directory of the user changes owner or permissions, even when that would help."""
    private = place / "private"
    private.mkdir(mode=0o700)
    before = private.stat(), place.stat()
    with pytest.raises(EmbeddedPostgresError, match=f"'nobody', which cannot enter {private}"):
        EmbeddedPostgres(private / "data", user="nobody").start()
    with EmbeddedPostgres(place / "kept", durable=False, user="nobody") as server:
        assert (server.data_dir / "PG_VERSION").stat().st_uid == account._look_up("nobody").uid
    with EmbeddedPostgres(place / "kept", durable=False) as server:
        assert ask(server.dsn(), "SELECT 1") == 1
    for path, was in zip((private, place), before, strict=True):
        assert (path.stat().st_mode, path.stat().st_uid) == (was.st_mode, was.st_uid)
    assert is_empty(private)
