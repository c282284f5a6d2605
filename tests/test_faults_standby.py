"""A standby takes over from a server that dies under load: what is kept, and what may be lost.

With synchronous replication nothing that was answered is lost. Without it the last moments may be:
what comes after is as if they had never been, never a part of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from processes import Crowd, crowd_on, install
from waiting import until

from pgqrs.embedded import EmbeddedPostgres

SYNC = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
BEHIND = "SELECT max(pg_current_wal_lsn() - replay_lsn) FROM pg_stat_replication"
REPLAYED = "SELECT pg_last_wal_replay_lsn() - '0/0'"
RECEIVERS = "SELECT count(*) FROM pg_stat_wal_receiver"


class Pair:
    """A server and its standby, and a DSN that leads to whichever of them takes changes."""

    def __init__(self, first: EmbeddedPostgres, second: EmbeddedPostgres) -> None:
        self.first = first
        self.second = second
        hosts = f"{first.socket_dir},{second.socket_dir}"
        self.dsn = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"

    def ask(self, server: EmbeddedPostgres, query: LiteralString) -> Any:
        """Ask one of them, outside of a transaction."""
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            cursor = connection.execute(query)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def wait_for_both(self) -> None:
        """Have commits wait for the standby."""
        self.ask(self.first, "ALTER SYSTEM SET synchronous_standby_names = '*' ")
        self.ask(self.first, "SELECT pg_reload_conf()")
        until(lambda: self.ask(self.first, SYNC) == 1)

    def cut_off(self) -> int:
        """Have the standby hear nothing more; gives an instant until which it has heard all."""
        heard = time.monotonic_ns()
        place = self.ask(self.first, "SELECT pg_current_wal_insert_lsn() - '0/0'")
        until(lambda: self.ask(self.second, REPLAYED) >= place)
        self.ask(self.second, "ALTER SYSTEM SET primary_conninfo = ''")
        self.ask(self.second, "SELECT pg_reload_conf()")
        until(lambda: self.ask(self.second, RECEIVERS) == 0)
        return heard

    def crash(self) -> None:
        """The first one is gone, and is seen no more."""
        os.kill(self.first.pid, signal.SIGQUIT)
        until(lambda: not list(self.first.socket_dir.glob(".s.PGSQL.*")))

    def promote(self) -> None:
        """The second one takes over."""
        assert self.ask(self.second, "SELECT pg_promote()") is True


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    """Start a server with pgqrs, and a standby that has all of it."""
    place = Path(tempfile.mkdtemp(prefix="pair-"))
    place.chmod(0o755)
    try:
        with EmbeddedPostgres(place / "first") as first:
            install(first.dsn())
            copy(first, place / "second")
            with EmbeddedPostgres(place / "second") as second:
                both = Pair(first, second)
                until(lambda: both.ask(first, BEHIND) == 0)
                yield both
    finally:
        shutil.rmtree(place)


def copy(first: EmbeddedPostgres, place: Path) -> None:
    """Make a standby of a running server in a directory."""
    home, owner = place / str(first.version), first.data_dir.stat()
    home.mkdir(parents=True)
    place.chmod(0o755)
    os.chown(home, owner.st_uid, owner.st_gid)
    source = f"host={first.socket_dir} user=postgres"
    program = [str(first.bindir / "pg_basebackup"), "-d", source, "-D", str(home / "data")]
    as_owner = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    subprocess.run([*program, "-c", "fast", "-R"], check=True, cwd="/", **as_owner)  # type: ignore[call-overload]


def start(crowd: Crowd) -> tuple[list[Any], list[Any]]:
    """Have two workers and two producers at work."""
    workers = [crowd.worker(lease=1), crowd.worker(lease=1)]
    producers = [crowd.producer(pause=0.05), crowd.producer(pause=0.05, keyed=True)]
    crowd.until_more()
    return producers, workers


def test_a_synchronous_standby_takes_over(tmp_path: Path) -> None:
    """Everything that was answered is there, and the work goes on by itself."""
    with pair() as both, crowd_on(both.dsn, tmp_path) as crowd:
        both.wait_for_both()
        producers, workers = start(crowd)
        both.crash()
        both.promote()
        crowd.until_more()
        crowd.finish(producers, workers)


def test_an_asynchronous_standby_takes_over(tmp_path: Path) -> None:
    """What it never heard of is gone; all before that is there, once, and is finished.

    Who worked then is not at work any more: an id that was lost may be given to another message.
    """
    with pair() as both, crowd_on(both.dsn, tmp_path) as crowd:
        first, _ = start(crowd)
        heard = both.cut_off()
        crowd.until_more(100)
        both.crash()
        crowd.kill()
        both.promote()
        producers, workers = start(crowd)
        crowd.stop(*producers)
        crowd.until_done()
        crowd.stop(*workers)
        kept = Counter(row.key for row in crowd.rest() if row.status == "completed")
        assert set(kept.values()) == {1}
        assert len(kept) == len(crowd.rest())
        sent = [o for each in first for o in crowd.operations_of(crowd.processes.index(each))]
        is_there = [(o, all(key in kept for key in o.keys)) for o in sent if o.answered]
        assert all(there for o, there in is_there if (o.answered or 0) < heard)
        lost = [o.answered or 0 for o, there in is_there if not there]
        assert lost, "what the standby never heard of"
        assert not any(there for o, there in is_there if o.sent > min(lost)), "and nothing after it"
