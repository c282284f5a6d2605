"""The server and its machine in trouble under processes at work, and the queue keeps every promise.

No connection left, a full disk, a clock that jumps, tables that change, processes that fork. A
standby that takes over is in `test_faults_standby`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from processes import BACKENDS, DONE, Crowd, crowd_on, install
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from waiting import ask, until
from waiting import crowd as threads

from pgqrs import Admin, Config
from pgqrs.embedded import EmbeddedPostgres
from pgqrs.embedded.watchdog import is_gone
from pgqrs.migrations.installing import _alembic


@contextlib.contextmanager
def at_work(
    server: EmbeddedPostgres, folder: Path, but_for: Sequence[str] = (), **orders: Any
) -> Iterator[Crowd]:
    """Have two workers and two producers at work on a server, and judge at the end."""
    install(server.dsn())
    with crowd_on(server.dsn(), folder) as crowd:
        crowd.worker(lease=1, **orders), crowd.worker(lease=1, **orders)
        producers = [crowd.producer(pause=0.05), crowd.producer(pause=0.05, keyed=True)]
        crowd.until_more()
        yield crowd
        crowd.until_more()
        alive = [each for each in crowd.processes if each.exitcode is None]
        crowd.finish(producers, [each for each in alive if each not in producers], but_for)


def log_of(server: EmbeddedPostgres) -> str:
    return (server.data_dir.parent / "server.log").read_text()


class Hog:
    """Somebody who takes every connection there is, and does nothing with them."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._held: list[psycopg.Connection] = []
        self._refused = self._refusals()

    def take(self) -> None:
        """Connect until the server has none left."""
        while True:
            try:
                fresh = psycopg.connect(self._server.dsn(), application_name="foreign")
            except psycopg.OperationalError:
                self._refused += 1
                return
            self._held.append(fresh)

    def others_refused(self) -> int:
        """Give how often somebody else was refused meanwhile."""
        return self._refusals() - self._refused

    def close(self) -> None:
        """Let them all go."""
        for one in self._held:
            one.close()

    def _refusals(self) -> int:
        return log_of(self._server).count("too many clients")


def crowd_out(server: EmbeddedPostgres, crowd: Crowd) -> None:
    """Take every connection there is and those that ours had, until ours are refused."""
    cut = text(f"SELECT pg_terminate_backend(pid, 1000) FROM ({BACKENDS}) AS ours")
    with contextlib.closing(Hog(server)) as hog:

        def refused() -> bool:
            hog.take()
            with crowd.engine.connect() as connection:
                connection.execute(cut)
            hog.take()
            return hog.others_refused() > 0

        until(refused)
    crowd.until_more()


def install_again(server: EmbeddedPostgres, crowd: Crowd) -> None:
    """Install where it is installed, twice at once: nobody notices."""
    with threads() as start:
        start(2, lambda: install_anew(server.dsn()))
    crowd.until_more()


def install_anew(dsn: str) -> None:
    with Admin(Config.from_dsn(dsn)) as admin:
        admin.install()


def migrate(_: EmbeddedPostgres, crowd: Crowd) -> None:
    """Take the newest revision back and bring it again, in one transaction: work waits for it.

    Among many who wait for one another it may be the one that is given up: then it is undone.
    """
    until(lambda: is_migrated(crowd), DONE)
    crowd.until_more()


def is_migrated(crowd: Crowd) -> bool:
    with crowd.engine.connect() as connection:
        one = connection.execution_options(isolation_level="READ COMMITTED")
        try:
            with one.begin():
                history = _alembic(io.StringIO(), schema="pgqrs", connection=one)
                command.downgrade(history, "-1")
                command.upgrade(history, "head")
        except OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.DeadlockDetected):
                raise
            return False
    return True


TROUBLE = (crowd_out, install_again, migrate)


def test_a_server_in_trouble(tmp_path: Path) -> None:
    """All connections taken by others, installed again, migrated, while handlers fork."""
    settings = {"max_connections": 40}
    with (
        EmbeddedPostgres(durable=False, settings=settings) as server,
        at_work(server, tmp_path, forks=3) as crowd,
    ):
        for trouble in TROUBLE:
            trouble(server, crowd)
    assert len(list(tmp_path.glob("?-*.leases"))) == 6, "each child leased"


@pytest.mark.soak
@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.__name__)
def test_a_server_in_trouble_at_length(tmp_path: Path, trouble: Callable[..., None]) -> None:
    """Each ten times, with 320 connections."""
    settings = {"max_connections": 320}
    with (
        EmbeddedPostgres(durable=False, settings=settings) as server,
        at_work(server, tmp_path, forks=100) as crowd,
    ):
        for _ in range(10):
            trouble(server, crowd)


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Give a directory on a disk of its own."""
    place = Path(tempfile.mkdtemp(prefix="disk-"))
    place.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)
    finally:
        place.rmdir()


@contextlib.contextmanager
def full(place: Path) -> Iterator[None]:
    """Have no byte left on the disk of this directory."""
    ballast = place / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        assert shutil.disk_usage(place).free < 2**16
        yield
    finally:
        ballast.unlink()


def fill_up(folder: Path, times: int) -> None:
    """Fill the disk under load until workers end of it; free it, and start others."""
    settings = {"max_wal_size": "32MB", "min_wal_size": "32MB", "wal_recycle": "off"}
    with (
        small_disk(128) as place,
        EmbeddedPostgres(place / "pg", settings=settings) as server,
        at_work(server, folder, shutdown=1) as crowd,
    ):
        workers = crowd.processes[:2]
        for _ in range(times):
            with full(place):
                until(lambda those=workers: any(each.exitcode for each in those), DONE)
            if is_gone(server.pid):
                server.restart()
            for each in workers:  # who could not archive is about to end
                each.join(2)
                each.terminate()
                each.join(DONE)
            assert crowd.forgive("No space left on device") > 0
            workers = [crowd.worker(lease=1, shutdown=1), crowd.worker(lease=1, shutdown=1)]
            crowd.until_more()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_the_disk_is_full(tmp_path: Path) -> None:
    """A worker that cannot archive ends and says why; what follows it misses nothing."""
    fill_up(tmp_path, 1)


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_the_disk_is_full_again_and_again(tmp_path: Path) -> None:
    """Five times."""
    fill_up(tmp_path, 5)


EPOCH = "SELECT extract(epoch FROM clock_timestamp())"
CLOCK = Path(sysconfig.get_path("purelib"), "libfaketime/vendor/libfaketime/src/libfaketime.so.1")
JUMPS = ("leases overlap", "read_ct did not rise with time", "passed over", "asked in vain")
"""What cannot be, but where the clock by which it is said went back, or an hour ahead at once."""


class Clock:
    """The clock of a server that starts in the block, which can be moved."""

    def __init__(self, place: Path) -> None:
        self._shift = place / "shift"
        self._library = shutil.copy(CLOCK, place)
        self.move(0)

    def move(self, seconds: int) -> None:
        """Have it be wrong by so much from now on."""
        fresh = self._shift.with_suffix(".fresh")
        fresh.write_text(f"{seconds:+}\n")
        fresh.chmod(0o644)
        fresh.rename(self._shift)

    @contextlib.contextmanager
    def for_programs(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Programs that are started in the block have this clock."""
        settings = {"TIMESTAMP_FILE": self._shift, "NO_CACHE": 1, "DONT_FAKE_MONOTONIC": 1}
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(self._library))
            for name, value in settings.items():
                patch.setenv(f"FAKETIME_{name}", str(value))
            yield


@contextlib.contextmanager
def stopping(server: EmbeddedPostgres) -> Iterator[None]:
    try:
        yield
    finally:
        server.stop()


def jump(folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Move the clock an hour ahead and back, and then ahead for good."""
    with tempfile.TemporaryDirectory(prefix="clock-") as name:
        place = Path(name)
        place.chmod(0o755)
        clock, server = Clock(place), EmbeddedPostgres(durable=False)
        with clock.for_programs(monkeypatch):
            server.start()
        with stopping(server), at_work(server, folder, JUMPS) as crowd:
            for ahead in [3600, 0] * times + [7200]:
                before = ask(crowd.engine, EPOCH)
                clock.move(ahead)
                assert abs(ask(crowd.engine, EPOCH) - before) > 3000
                crowd.until_more()


@pytest.mark.skipif(not CLOCK.exists(), reason="libfaketime is not installed here")
def test_the_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is leased or delayed then is due earlier or later by that; nothing is done twice."""
    jump(tmp_path, monkeypatch, 1)
