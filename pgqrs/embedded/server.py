"""The embedded server as a context manager: start, stop, restart, and how to connect to it.

How its processes are kept is in `watchdog`, its directories in `directories`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from pgqrs.embedded.account import Account, server_account
from pgqrs.embedded.binaries import Binaries, find_binaries
from pgqrs.embedded.directories import Directories, lock_home, make_directories, server_pid
from pgqrs.embedded.leash import Leash
from pgqrs.embedded.watchdog import Assignment, stop_process
from pgqrs.errors import EmbeddedPostgresError

NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(slots=True)
class _Running:
    leash: Leash
    binaries: Binaries
    directories: Directories
    pid: int = 0


class EmbeddedPostgres:
    """A PostgreSQL server that lives as long as this object is started and its process lives.

    `data_dir` keeps the data, in a directory for each major version; without one they are
    temporary. `durable=False` is faster and loses data when the machine fails: for tests.
    `settings` are PostgreSQL's own; only the place of the socket is not to be chosen. Root runs
    the server as `user`, by default as the owner of kept data, else as `postgres` or `nobody`.

    A forked child may connect, but the server stays with the process that started it.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        durable: bool = True,
        settings: Mapping[str, str | int] | None = None,
        user: str | None = None,
    ) -> None:
        self._kept = None if data_dir is None else Path(data_dir)
        self._durable = durable
        self._settings = {name.lower(): value for name, value in (settings or {}).items()}
        self._user = user
        self._started: _Running | None = None

    def start(self) -> None:
        """Start the server and wait until it accepts connections.

        Raises EmbeddedPostgresError: no binaries, data in use, or the server did not start; the
        last lines of its log are quoted.
        """
        if self._started is not None:
            raise EmbeddedPostgresError("the embedded server is already started")
        binaries = find_binaries()
        home = self._kept.absolute() / str(binaries.version) if self._kept else None
        account = server_account(self._user, home)
        binaries = binaries.reachable_by(account)
        directories = make_directories(home, binaries.version, account, in_memory=not self._durable)
        try:
            leash = self._fasten(binaries, directories, account)
        except BaseException:
            directories.remove()
            raise
        self._started = _Running(leash, binaries, directories)
        try:
            self._started.pid = leash.await_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, end its sessions, and remove what is temporary.

        Does nothing when it is not started, or in a forked child of the process that did.
        """
        running = self._started
        if running is None or not running.leash.is_mine:
            return
        self._started = None
        if not running.leash.let_go():
            # Somebody killed the watchdog, so its work is ours.
            if server_pid(running.directories.home) == running.pid:
                stop_process(running.pid)
            running.directories.remove()

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and start it again with the same data and DSN; sessions end.

        `immediate` is a crash: it stops without a checkpoint, and the start recovers.
        """
        running = self._running
        if not running.leash.is_mine:
            raise EmbeddedPostgresError("only the process that started the server can restart it")
        running.leash.command(mode)
        running.pid = running.leash.await_ready()

    def wait(self) -> None:
        """Block until the server ends by itself, then raise EmbeddedPostgresError."""
        raise self._running.leash.await_exit()

    def dsn(self, database: str = "postgres") -> str:
        """Give the URL of a database, as the superuser, for libpq and SQLAlchemy."""
        # The port is part of the socket's name, and PGPORT would change a port left out.
        port = self._settings.get("port", 5432)
        path = quote(str(self.socket_dir), safe="/")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={path}&port={port}"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._running.pid

    @property
    def bindir(self) -> Path:
        """The directory of the programs the server was started from."""
        return self._running.binaries.bindir

    @property
    def version(self) -> int:
        """PostgreSQL's major version."""
        return self._running.binaries.version

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's own data directory, `<data_dir>/<version>/data`."""
        return self._running.directories.data

    @property
    def socket_dir(self) -> Path:
        """The directory of the server's socket, which only its user can enter."""
        return self._running.directories.socket

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _running(self) -> _Running:
        if self._started is None:
            raise EmbeddedPostgresError(
                "the embedded server is not started: use it in a `with` block, or call start()"
            )
        return self._started

    def _fasten(
        self, binaries: Binaries, directories: Directories, account: Account | None
    ) -> Leash:
        lock = lock_home(directories.home)
        try:
            return Leash.fasten(self._assignment(binaries, directories, account), lock)
        finally:
            os.close(lock)

    def _assignment(
        self, binaries: Binaries, directories: Directories, account: Account | None
    ) -> Assignment:
        unfinished = str(directories.home / "unfinished")
        socket_list = '"{}"'.format(str(directories.socket).replace('"', '""'))
        settings = {
            "listen_addresses": "",
            **({} if self._durable else NOT_DURABLE),
            **self._settings,
            "unix_socket_directories": socket_list,
        }
        options = [word for item in settings.items() for word in ("-c", "{}={}".format(*item))]
        initdb = "-U postgres -A trust -E UTF8 --no-locale --no-sync --no-instructions -D"
        return Assignment(
            home=str(directories.home),
            uid=account.uid if account else -1,
            gid=account.gid if account else -1,
            remove=tuple(str(path) for path in directories.temporary),
            initdb=(f"{binaries.bindir}/initdb", *initdb.split(), unfinished),
            postgres=(f"{binaries.bindir}/postgres", "-D", str(directories.data), *options),
        )
